//! placeholder
pub mod device;
pub mod ids;
pub mod objective;
pub mod rng;
pub mod space;
pub mod trial;
