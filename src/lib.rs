//! placeholder
pub mod arch;
