//! SP-NAS as searches on the engine: which backbone is proposed next, and from whose weights it starts. Pure policies;
//! nothing here trains.

pub mod ceilings;
pub mod constraint;
mod infeasible;
pub mod listed;
pub mod parallel;
pub mod serial;
pub mod space;
