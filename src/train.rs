//! Training: optimisers, learning-rate schedules, checkpoints and the loop that ties them to a detector and its data. The
//! engine comes in only as a callback a step and one an epoch.

pub mod checkpoint;
pub mod fit;
mod half;
pub mod mixup;
pub mod optimizer;
pub mod recalibrate;
pub mod replicas;
pub mod schedule;

pub use fit::{EpochLosses, FitConfig, FitError};
pub use optimizer::{OptimizerConfig, OptimizerError};
pub use schedule::{Decay, Schedule, WarmUp, WarmUpKind};
