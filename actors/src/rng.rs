//! Random numbers that a journal can replay: one seed a search, one independent stream a trial. The question
//! that leads to trial n always draws from stream n, so a sampler's randomness needs no saved state.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
/// What gives [`SearchRng`] its `next_u32` and `next_u64`. The traits of `rand` 0.10 work on it, too.
pub use rand_chacha::rand_core::Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator handed to spaces and samplers: seeded, portable, the same on every machine.
pub type SearchRng = ChaCha8Rng;

/// Stream `stream` of the search with this seed.
pub fn stream(seed: u64, stream: u64) -> SearchRng {
    let mut rng = SearchRng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}

/// A draw from the standard normal distribution (Box and Muller 1958).
pub(crate) fn standard_normal(rng: &mut SearchRng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    (-2.0 * (1.0 - radius).ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// The seed of a trial's training: the same at every attempt, and unrelated to the sampler's stream.
pub(crate) fn trial_seed(seed: u64, trial: u64) -> u64 {
    // Streams above 2^63 are never asked of: trials are counted from 1.
    stream(seed, trial | 1 << 63).next_u64()
}
