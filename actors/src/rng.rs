//! Random numbers that a journal can replay: one seed a search, one independent stream a question. The n-th `ask` of
//! a sampler always draws from stream n, so its randomness needs no saved state.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

/// The generator handed to spaces and samplers: seeded, portable, the same on every machine.
pub type SearchRng = ChaCha8Rng;

/// Stream `stream` of the search with this seed.
pub fn stream(seed: u64, stream: u64) -> SearchRng {
    let mut rng = SearchRng::seed_from_u64(seed);
    rng.set_stream(stream);
    rng
}
