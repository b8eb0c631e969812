//! Several trainings on one device: after out of memory one has it alone, and beside each other they run as far as what was
//! learnt of their memory fits.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use spnas_actors::device::{Device, Place};
use spnas_actors::event::{Event, Role};
use spnas_actors::memory::PEAK_MEMORY;
use spnas_actors::{Command, Epoch, Progress, Search, SearchEnd, TrainJob, Trained, TrialError, TrialId};

mod toy;

use toy::{Code, Evaluates, Gate, Listed, Trains, evaluate, quality, train, transitions};

const PLACE: Place = Place::Cpu { index: 0 };

fn workers(count: u32) -> Vec<Device> {
    (0..count).map(|_| Device::new(PLACE, 1)).collect()
}

/// Who is on the device, and what each may take.
#[derive(Clone, Default)]
struct Floor(Arc<Mutex<BTreeMap<(Role, TrialId), u64>>>);

impl Floor {
    /// Steps on it, does `work` there with a view of the others, and steps off.
    fn with<T>(&self, who: (Role, TrialId), size: u64, work: impl FnOnce(&[u64]) -> T) -> T {
        let others: Vec<u64> = {
            let mut there = self.0.lock().unwrap();
            let others = there.values().copied().collect();
            there.insert(who, size);
            others
        };
        let done = work(&others);
        self.0.lock().unwrap().remove(&who);
        done
    }

    fn count(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

/// Waits until both have begun.
fn meet(gate: &Gate, me: u64, other: u64) {
    gate.open(me.to_string());
    gate.wait(&other.to_string());
}

#[test]
fn after_out_of_memory_the_next_attempt_has_half_the_micro_batch_and_the_device_alone() {
    let (floor, gate) = (Floor::default(), Gate::default());
    let (on_floor, beside) = (floor.clone(), floor);
    let trained = move |job: &TrainJob<Code>, progress: &mut Progress| -> Result<Trained, TrialError> {
        let (trial, attempt, cut) = (job.trial.0, job.attempt.0, job.micro_batches);
        on_floor.with((Role::Train, job.trial), 0, |others| match (trial, attempt) {
            (1, 1) => Err(TrialError::OutOfMemory("the first of all".to_owned())),
            (1, 2) => {
                assert_eq!((cut, others.len()), (2, 0));
                for _ in 0..50 {
                    std::thread::yield_now();
                    assert_eq!(on_floor.count(), 1, "nobody comes while it is there");
                }
                train(job, progress)
            }
            _ => {
                assert_eq!((attempt, cut), (1, 1));
                match trial {
                    6 => meet(&gate, 6, 7),
                    7 => meet(&gate, 7, 6),
                    _ => {}
                }
                train(job, progress)
            }
        })
    };
    let search: Search<Code> = Search::new([quality()], 8, Epoch(1))
        .sampler(|| Listed::codes(1..=100))
        .trainers(workers(2), move |_| Ok(Trains(trained.clone())))
        .evaluators(workers(1), move |_| {
            let floor = beside.clone();
            Ok(Evaluates(move |job: &spnas_actors::EvaluateJob<Code>, progress: &mut Progress| {
                floor.with((Role::Evaluate, job.trial), 0, |_| evaluate(job, progress))
            }))
        });
    let outcome = search.run().unwrap();
    assert_eq!(outcome.counts.finished, 8);
    let first = outcome.state.trial(TrialId(1)).unwrap();
    assert_eq!((first.failures, first.micro_batches), (1, 2));
}

/// What the codes 1 to 100 predict; each takes twice as much.
fn takes(code: &Code) -> u64 {
    2 * code.0
}

/// Trials of these codes on a device of 1000 bytes with room for three; those at `pair` must meet.
fn in_memory(codes: &'static [u64], pair: (u64, u64), folder: &std::path::Path) -> Search<Code> {
    let (floor, gate) = (Floor::default(), Gate::default());
    let trained = move |job: &TrainJob<Code>, progress: &mut Progress| {
        let peak = takes(&job.candidate);
        floor.with((Role::Train, job.trial), peak, |others| {
            assert!(others.is_empty() || others.iter().sum::<u64>() + peak <= 1_000, "{others:?} and {peak}");
            match job.trial.0 {
                me if me == pair.0 => meet(&gate, pair.0, pair.1),
                me if me == pair.1 => meet(&gate, pair.1, pair.0),
                _ => {}
            }
            progress.note_peak_memory(peak)?;
            train(job, progress)
        })
    };
    Search::new([quality()], codes.len() as u64, Epoch(1))
        .sampler(move || Listed::codes(codes.iter().copied()))
        .trainers(workers(3), move |_| Ok(Trains(trained.clone())))
        .memory([(PLACE, 1_000)], |code: &Code, micro_batches| code.0 / u64::from(micro_batches))
        .folder(folder)
        .max_retries(0)
}

#[test]
fn trials_run_beside_each_other_as_far_as_what_was_learnt_of_their_memory_fits() {
    let folder = tempfile::tempdir().unwrap();
    // Three to learn from, each alone; then 400 and 40 fit together, and of the others not all.
    let codes = &[100, 300, 200, 400, 40, 410, 420, 430, 30, 20, 10];
    let outcome = in_memory(codes, (4, 5), folder.path()).run().unwrap();
    assert_eq!((&outcome.end, outcome.counts.finished), (&SearchEnd::Complete, 11));
    let peaks = transitions(&outcome).into_iter().filter_map(|transition| match transition.event {
        Event::Noted(facts) => Some((transition.trial.0, facts.0.get(PEAK_MEMORY)?.as_u64()?)),
        _ => None,
    });
    let expected: BTreeMap<u64, u64> = (1..).zip(codes.iter().map(|code| 2 * code)).collect();
    assert_eq!(peaks.collect::<BTreeMap<_, _>>(), expected);
}

#[test]
fn what_was_learnt_is_learnt_again_from_the_journal() {
    let folder = tempfile::tempdir().unwrap();
    let nobody = (1_000, 1_000);
    let first = in_memory(&[100, 300, 200], nobody, folder.path()).run().unwrap();
    assert_eq!(first.counts.finished, 3);
    drop(first);
    // The first two of the resumed search would wait for each other for ever if each had to be alone.
    let resumed = in_memory(&[100, 300, 200, 120, 110], (4, 5), folder.path()).resume().unwrap();
    assert!(resumed.remote().send(Command::Resume));
    assert_eq!(resumed.wait().unwrap().counts.finished, 5);
}
