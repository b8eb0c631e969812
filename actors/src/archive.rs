//! The archive: what is best so far. Finished trials' costs go in, the Pareto front and its hypervolume come out.
//! Everything here is plain data without a runtime.

pub mod front;
pub mod hypervolume;

pub use front::{Front, FrontError, FrontMember, Insertion};
pub use hypervolume::{HypervolumeError, HypervolumeTrack, hypervolume};
pub(crate) mod keeper;
