//! Architectures as plain values: what a backbone is, how it is written, changed and costed. No tensor is ever built
//! here.

pub mod serial;

pub mod architecture;
pub mod parallel;

pub mod cost;
pub mod cross;
pub mod grammar;
pub mod limits;
pub mod mutate;

pub use architecture::Architecture;
