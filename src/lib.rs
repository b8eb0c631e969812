//! placeholder
pub mod arch;
pub mod data;
pub mod metrics;
