//! placeholder
pub mod arch;
pub mod cli;
pub mod nn;
pub mod search;
