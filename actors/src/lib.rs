//! placeholder
pub mod archive;
pub mod device;
pub mod ids;
pub mod journal;
pub mod objective;
pub mod rng;
pub mod sampler;
pub mod space;
pub mod stopping;
pub mod trial;
pub mod weights;
