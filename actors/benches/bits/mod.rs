//! What the benchmarks in virtual time search: bit strings, trained for heavy-tailed times, by generations or without.

use std::time::Duration;

use rand::RngExt;
use rand_chacha::rand_core::Rng;
use serde::{Deserialize, Serialize};
use spnas_actors::rng::{SearchRng, stream};
use spnas_actors::sampler::{Ask, Observation, Suggestion};
use spnas_actors::space::{Crossover, Encode, Feature, FeatureKind};
use spnas_actors::{Sampler, SearchSpace, TrialId};

/// Bit strings; a quarter of the bits of a random one are set.
#[derive(Clone)]
pub(crate) struct Bits;

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Code(pub(crate) u64);

impl SearchSpace for Bits {
    type Candidate = Code;

    fn sample(&self, rng: &mut SearchRng) -> Code {
        Code(rng.next_u64() & rng.next_u64())
    }

    fn mutate(&self, parent: &Code, rng: &mut SearchRng) -> Code {
        Code(parent.0 ^ (1 << (rng.next_u64() % 64)))
    }

    fn key(&self, code: &Code) -> String {
        format!("{:016x}", code.0)
    }
}

impl Crossover for Bits {
    fn cross(&self, one: &Code, other: &Code, rng: &mut SearchRng) -> Code {
        let of_one = rng.next_u64();
        Code((one.0 & of_one) | (other.0 & !of_one))
    }
}

impl Encode for Bits {
    fn features(&self) -> Vec<Feature> {
        (0..64).map(|bit| Feature { name: bit.to_string(), kind: FeatureKind::Categorical { levels: 2 } }).collect()
    }

    fn encode(&self, code: &Code) -> Vec<f64> {
        (0..64).map(|bit| f64::from(u8::from(code.0 >> bit & 1 == 1))).collect()
    }

    fn decode(&self, features: &[f64], rng: &mut SearchRng) -> Option<Code> {
        let bit = |(bit, value): (usize, &f64)| {
            let is_set = if value.is_finite() { *value >= 0.5 } else { rng.random_bool(0.25) };
            u64::from(is_set) << bit
        };
        Some(Code(features.iter().enumerate().map(bit).sum()))
    }
}

/// The time of an epoch of a trial: log-normal, median 60 s, sigma 0.8, within 20 s to 1,000 s, as in the list on which the
/// peers were measured.
pub(crate) fn heavy_tailed(trial: TrialId) -> Duration {
    let mut rng = stream(7, trial.0);
    let mut uniform = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
    let seconds = (60.0 * (0.8 * normal).exp()).clamp(20.0, 1_000.0);
    Duration::from_millis((1e3 * seconds) as u64)
}

/// A sampler held back until the whole generation has ended.
pub(crate) struct Generations<S> {
    pub(crate) inner: S,
    pub(crate) size: u64,
    pub(crate) told: u64,
}

impl<S: Sampler> Sampler for Generations<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        if ask.proposed.is_multiple_of(self.size) && self.told < ask.proposed {
            return Suggestion::Wait;
        }
        self.inner.ask(ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        self.told += 1;
        self.inner.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.inner.parents()
    }
}
