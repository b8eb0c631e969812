//! Which weights a search on real threads keeps, and that nobody ever starts from weights that are gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use spnas_actors::journal::JournalSync;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::{Attempt, Epoch, Search, SearchEnd, SearchOutcome, Start, TrialId};

mod toy;

use toy::{
    Bits, Code, Gate, Listed, evaluate, evolution, quality, quality_and_cost, train, with_evaluator, with_trainers,
};

fn front(outcome: &SearchOutcome<Code>) -> Vec<TrialId> {
    outcome.front.iter().map(|member| member.trial).collect()
}

fn random() -> RandomSampler<Bits> {
    RandomSampler::new(Bits(40).into())
}

#[test]
fn only_the_weights_of_the_front_are_left_after_a_search() {
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new(quality_and_cost(), 60, Epoch(3)).sampler(random).folder(folder.path());
    let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(3), eta: 2, mode: AshaMode::Promote };
    let search = search.stopping(Asha::new(spec).unwrap(), quality());
    let outcome = with_evaluator(with_trainers(search, 2, train), evaluate).run().unwrap();
    assert_eq!(outcome.end, SearchEnd::Complete);
    assert!(outcome.counts.stopped > 5 && outcome.counts.finished > 5, "{:?}", outcome.counts);
    assert_eq!(toy::blobs(folder.path()), toy::weights_ids(front(&outcome)));
}

#[test]
fn the_weights_of_the_living_are_left_too_where_a_population_lives() {
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new(quality_and_cost(), 60, Epoch(1)).sampler(evolution).folder(folder.path());
    let outcome = with_evaluator(with_trainers(search, 2, train), evaluate).run().unwrap();
    assert_eq!(outcome.counts.finished, 60);
    // Of the latest six to finish, each may be a parent of what a longer search would propose.
    let living = outcome.state.ended().iter().rev().take(6).copied();
    assert_eq!(toy::blobs(folder.path()), toy::weights_ids(front(&outcome).into_iter().chain(living)));
}

#[test]
fn a_child_starts_from_its_parent_also_when_that_has_left_the_front_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let gate = Gate::default();
    let inherited = Arc::new(AtomicUsize::new(0));
    // 2 is a child of 1; 3 is better than 1 and takes its place while 2's first attempt is under way.
    let search = Search::new([quality()], 4, Epoch(1)).folder(folder.path());
    let search = search.sampler(|| Listed::new([(10, None), (5, Some(1)), (20, None), (1, None)]));
    let counted = inherited.clone();
    let search = with_trainers(search, 2, move |job, progress| {
        if job.trial == TrialId(2) {
            let Start::Inherit { parent: TrialId(1), candidate, .. } = &job.start else { panic!("{:?}", job.start) };
            assert_eq!(**candidate, Code(10));
            counted.fetch_add(1, Ordering::Relaxed);
            gate.wait("3 has been followed");
            assert!(job.attempt != Attempt(1), "the first attempt fails");
        }
        if job.trial == TrialId(4) {
            gate.open("3 has been followed");
        }
        train(job, progress)
    });
    let outcome = search.run().unwrap();
    assert_eq!((outcome.counts.finished, inherited.load(Ordering::Relaxed)), (4, 2));
    assert_eq!(toy::blobs(folder.path()), toy::weights_ids([TrialId(3)]));
}

#[test]
fn blobs_stay_few_over_many_trials() {
    let folder = tempfile::tempdir().unwrap();
    let (most, path) = (Arc::new(AtomicUsize::new(0)), folder.path().to_owned());
    let search = Search::new([quality()], 500, Epoch(2)).sampler(random).folder(folder.path());
    let search = search.journal_sync(JournalSync::Interval(Duration::from_millis(10)));
    let seen = most.clone();
    let search = with_trainers(search, 2, move |job, progress| {
        let trained = train(job, progress)?;
        seen.fetch_max(toy::blobs(&path).len(), Ordering::Relaxed);
        Ok(trained)
    });
    let handle = search.start().unwrap();
    let store = handle.weights().clone();
    let outcome = handle.wait().unwrap();
    assert_eq!(outcome.counts.finished, 500);
    let most = most.load(Ordering::Relaxed);
    assert!(most < 100, "{most} blobs at once of the 1500 that were put");
    assert!(store.bytes_in_memory() < 100, "one blob of a few bytes: {}", store.bytes_in_memory());
    assert_eq!(toy::blobs(folder.path()).len(), 1);
}

/// What training left behind in an earlier life of the search, and nobody knows of, goes when it is resumed.
#[test]
fn unknown_blobs_go_when_a_search_is_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let search = |folder: &Path| {
        let search = Search::new([quality()], 3, Epoch(1)).sampler(random).folder(folder);
        with_trainers(search, 1, train)
    };
    let handle = search(folder.path()).start().unwrap();
    let store = handle.weights().clone();
    let outcome = handle.wait().unwrap();
    let front = toy::weights_ids(front(&outcome));
    drop(outcome);
    store.put(b"of an attempt that was killed".to_vec()).unwrap();
    assert_eq!(toy::blobs(folder.path()).len(), 2);
    drop(search(folder.path()).resume().unwrap().wait().unwrap());
    assert_eq!(toy::blobs(folder.path()), front);
}
