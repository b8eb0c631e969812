//! An earlier search is read from its journal and told to a sampler of a new one.

use crate::candidate::RawCandidate;
use crate::device::Place;
use crate::event::{Event, Failed, Finished, Leased, Proposed, Reported, Role, Stopped, Trained, Transition};
use crate::ids::{Attempt, Epoch, WeightsId};
use crate::journal::{JournalMeta, JournalStore, JournalSync};
use crate::objective::{Metrics, Score};
use crate::sampler::evolution::tests::{Bits, asked};
use crate::sampler::evolution::{AgingEvolution, EvolutionSpec};
use crate::sampler::pareto::{ParetoEvolution, ParetoSpec};
use crate::stopping::Verdict;
use crate::trial::{FailureReason, Limit};

use super::*;

fn metrics(values: &[(&str, f64)]) -> Metrics {
    values.iter().map(|(name, value)| ((*name).to_owned(), Score::new(*value).unwrap())).collect()
}

fn proposed(candidate: u64, key: &str) -> Event {
    let candidate = RawCandidate::of(&candidate).unwrap();
    let (key, origin) = (key.to_owned(), "sampled".to_owned());
    Event::Proposed(Proposed { seen: 0, key, candidate, parent: None, origin })
}

/// How an earlier trial ended.
enum End {
    Finished(Metrics),
    /// After this epoch, with these metrics.
    Stopped(u32, Metrics),
    Infeasible,
}

/// A journal in which these trials were proposed, and ended so.
fn journal(path: &Path, trials: &[(u64, &str, End)]) {
    let meta =
        JournalMeta { created_by: "test".to_owned(), seed: 1, config_hash: String::new(), objectives: Vec::new() };
    let mut store = JournalStore::create(path, &meta, JournalSync::Full).unwrap();
    for (number, (candidate, key, end)) in (1..).zip(trials) {
        let (attempt, device) = (Attempt(1), Place::Cpu { index: 0 });
        let mut events = vec![proposed(*candidate, key), Event::Leased(Leased { role: Role::Train, attempt, device })];
        match end {
            End::Finished(metrics) => {
                let trained = Trained { attempt, weights: WeightsId::of(b"weights"), metrics: Metrics::new() };
                events.push(Event::Trained(trained));
                events.push(Event::Finished(Finished { metrics: metrics.clone() }));
            }
            End::Stopped(epoch, metrics) => {
                let (epoch, metrics) = (Epoch(*epoch), metrics.clone());
                let verdict = Verdict::Stop;
                events.push(Event::Reported(Reported { attempt, epoch, metrics, checkpoint: None, verdict }));
                events.push(Event::Stopped(Stopped { epoch }));
            }
            End::Infeasible => {
                let reason = FailureReason::Infeasible { why: "too large".to_owned(), limit: Limit::Upper };
                events.push(Event::Failed(Failed { reason }));
            }
        }
        let entry = |event| Transition { at_ms: number, trial: TrialId(number), event }.to_entry().unwrap();
        store.append(&events.into_iter().map(entry).collect::<Vec<_>>()).unwrap();
    }
}

fn objectives() -> [Objective; 2] {
    [Objective::maximise("quality"), Objective::minimise("cost")]
}

#[test]
fn a_sampler_goes_on_from_what_an_earlier_search_of_other_objectives_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let measured = |quality, cost| End::Finished(metrics(&[("quality", quality), ("cost", cost), ("other", 0.0)]));
    let trials = [
        (3, "3", measured(1.0, 1.0)),
        (7, "7", measured(2.0, 2.0)),
        (1, "1", measured(0.5, 3.0)),
        (2, "2", End::Finished(metrics(&[("quality", 9.0)]))),
        (15, "15", End::Infeasible),
    ];
    journal(&path, &trials);
    let space = Arc::new(Bits(4));
    let earlier = EarlierTrials::read(&path, &*space, &objectives()).unwrap();
    assert_eq!((earlier.len(), earlier.incomparable), (4, 1));
    assert_eq!(earlier.front().copied().collect::<Vec<_>>(), [7, 3], "by their costs, the best quality first");

    let evolution = AgingEvolution::new(space, EvolutionSpec { population: 3, tournament: 3 }).unwrap();
    let sampler = WarmStart::new(evolution, &earlier);
    assert!(sampler.parents().is_empty(), "the weights of an earlier search are not kept here");
    let mut proposed = HashSet::new();
    for question in 0..12 {
        let Suggestion::Propose(next) = asked(&sampler, &proposed, question) else { panic!("{question}") };
        assert_eq!(next.parent, None);
        if question == 0 {
            assert_eq!(next.origin, "mutated", "there is a population from the first");
        }
        assert!(proposed.insert(next.key));
    }
    for known in ["1", "3", "7", "15"] {
        assert!(!proposed.contains(known), "{known}");
    }
    assert!(proposed.contains("2"), "nothing comparable is known of it");
}

#[test]
fn trials_that_were_stopped_teach_and_may_be_proposed_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let keys: Vec<String> = (8..16).map(|code: u64| code.to_string()).collect();
    let stopped = |code: u64| End::Stopped(1, metrics(&[("quality", code as f64), ("cost", 1.0)]));
    journal(&path, &(8..16).zip(&keys).map(|(code, key)| (code, key.as_str(), stopped(code))).collect::<Vec<_>>());
    let space = Arc::new(Bits(4));
    let earlier = EarlierTrials::read(&path, &*space, &objectives()).unwrap();
    assert_eq!((earlier.len(), earlier.incomparable, earlier.front().count()), (8, 0, 0));

    let spec = ParetoSpec { start: 8, ..ParetoSpec::default() };
    let sampler = WarmStart::new(ParetoEvolution::new(space, spec).unwrap(), &earlier);
    let proposals = (0..40).map(|question| match asked(&sampler, &HashSet::new(), question) {
        Suggestion::Propose(next) => next,
        other => panic!("{other:?}"),
    });
    let proposals: Vec<_> = proposals.collect();
    assert!(proposals.iter().all(|next| next.origin == "mutated"), "there is a population from the first");
    assert!(proposals.iter().any(|next| keys.contains(&next.key)));
}

#[test]
fn a_search_of_another_space_is_refused_by_trial() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    journal(&path, &[(3, "11", End::Finished(metrics(&[("quality", 1.0), ("cost", 1.0)])))]);
    let refused = EarlierTrials::read(&path, &Bits(4), &objectives()).unwrap_err();
    let expected = "trial 1 of the earlier search is `11` there and `3` here: it searched another space";
    assert_eq!(refused.to_string(), expected);
    let absent = EarlierTrials::read(&folder.path().join("none"), &Bits(4), &objectives()).unwrap_err();
    assert!(matches!(absent, WarmStartError::Journal(JournalError::Absent { .. })), "{absent}");
}
