//! placeholder
pub mod arch;
pub mod nn;
