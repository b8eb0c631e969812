//! placeholder
pub mod arch;
pub mod cli;
pub mod search;
