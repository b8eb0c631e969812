//! placeholder
pub mod arch;
pub mod nn;
pub mod weights;
