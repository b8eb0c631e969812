//! The search space: what a candidate is, how one is drawn and how one is changed. Implemented by the user; the
//! engine itself only ever sees a candidate's key and its serialised form.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::rng::SearchRng;

/// A set of candidates that can be drawn from and moved in.
pub trait SearchSpace: Send + Sync + 'static {
    /// One point of the space. Its serialised form goes into the journal.
    type Candidate: Serialize + DeserializeOwned + Clone + Send + Sync + 'static;

    /// A candidate drawn from the whole space.
    fn sample(&self, rng: &mut SearchRng) -> Self::Candidate;

    /// A neighbour of `parent`. It may equal the parent where there is no other.
    fn mutate(&self, parent: &Self::Candidate, rng: &mut SearchRng) -> Self::Candidate;

    /// What makes two candidates the same to train: no two trials of a search share a key.
    fn key(&self, candidate: &Self::Candidate) -> String;
}
