//! placeholder
pub mod arch;
pub mod cli;
pub mod data;
pub mod metrics;
pub mod nn;
pub mod search;
pub mod train;
pub mod weights;
pub mod workers;
