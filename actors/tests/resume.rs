//! A search that is stopped and resumed over and over goes on as if nothing had happened, and a sampler that fails is
//! replaced without a trace. One trainer and nobody beside it, so that no race decides what a sampler sees.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use proptest::prelude::*;
use spnas_actors::device::Place;
use spnas_actors::event::{Event, Role, Transition};
use spnas_actors::journal::JournalReader;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::sampler::{Ask, Observation, Sampler, Suggestion};
use spnas_actors::state::{Counts, SearchState};
use spnas_actors::stopping::NeverStop;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::moasha::{MoAsha, MoAshaSpec, Spread};
use spnas_actors::stopping::pasha::{Epsilon, Pasha, PashaSpec};
use spnas_actors::trial::{Outcome, Phase};
use spnas_actors::{
    Command, Epoch, Progress, Search, SearchEnd, SearchHandle, SearchOutcome, TrainJob, TrialId, journal_path,
};

mod toy;

use toy::{Bits, Code, Listed, evaluate, evolution, proposals, quality, quality_and_cost, reports, train, transitions};
use toy::{with_evaluator, with_trainer, with_trainers};

const TRIALS: u64 = 24;

/// What the tests run.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Random,
    Evolution,
    AshaStop,
    AshaPromote,
    Pasha,
    MoAshaPromote,
}

const KINDS: [Kind; 6] =
    [Kind::Random, Kind::Evolution, Kind::AshaStop, Kind::AshaPromote, Kind::Pasha, Kind::MoAshaPromote];

fn halving(mode: AshaMode) -> AshaSpec {
    AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(4), eta: 2, mode }
}

fn asha(mode: AshaMode) -> Asha {
    Asha::new(halving(mode)).unwrap()
}

fn pasha() -> Pasha {
    let epsilon = Epsilon::Noise { percentile: 90.0 };
    Pasha::new(PashaSpec { min_epochs: Epoch(1), max_epochs: Epoch(4), eta: 2, epsilon }).unwrap()
}

fn moasha() -> MoAsha {
    MoAsha::new(MoAshaSpec { halving: halving(AshaMode::Promote), spread: Spread::EpsilonNet }).unwrap()
}

fn search(kind: Kind) -> Search<Code> {
    let search = Search::new(quality_and_cost(), TRIALS, Epoch(4)).seed(5);
    match kind {
        Kind::Random => search.sampler(|| RandomSampler::new(Bits(20).into())).stopping(NeverStop, quality()),
        Kind::Evolution => search.sampler(evolution),
        Kind::AshaStop => search.sampler(evolution).stopping(asha(AshaMode::Stop), quality()),
        Kind::AshaPromote => search.sampler(evolution).stopping(asha(AshaMode::Promote), quality()),
        Kind::Pasha => search.sampler(evolution).stopping(pasha(), quality()),
        Kind::MoAshaPromote => search.sampler(evolution).stopping(moasha(), quality_and_cost()),
    }
}

/// How every trial ended, by id.
fn ends(outcome: &SearchOutcome<Code>) -> Vec<(TrialId, Option<Outcome>, spnas_actors::Metrics)> {
    let trials = outcome.state.trials().iter();
    trials.map(|trial| (trial.id, trial.outcome().cloned(), trial.metrics.clone())).collect()
}

/// Stops the search after `after` transitions, or lets it end where there are no more; whether it is complete.
fn run_for(handle: SearchHandle<Code>, after: u64) -> bool {
    let mut transitions = handle.watch();
    let remote = handle.remote();
    let mut seen = 0;
    while seen < after && !handle.is_over() {
        match transitions.try_recv() {
            Ok(_) => seen += 1,
            Err(_) => std::thread::yield_now(),
        }
    }
    remote.send(Command::Stop);
    handle.wait().unwrap().end == SearchEnd::Complete
}

/// All of a complete search in `folder`, as one more resumption finds it.
fn outcome_of(search: Search<Code>) -> SearchOutcome<Code> {
    search.resume().unwrap().wait().unwrap()
}

fn stopped_and_resumed(kind: Kind, folder: &Path, after: impl Fn(u64) -> u64) -> SearchOutcome<Code> {
    // Slow enough for a stop to find something left to do.
    let train_slowly = |job: &TrainJob<Code>, progress: &mut Progress| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        train(job, progress)
    };
    let search = || with_trainer(search(kind).folder(folder), train_slowly);
    let mut complete = run_for(search().start().unwrap(), after(0));
    let mut resumptions = 0;
    while !complete {
        resumptions += 1;
        complete = run_for(search().resume().unwrap(), after(resumptions));
        assert!(resumptions < 2_000, "it does not come to an end");
    }
    assert!(resumptions > 0, "no stop came in time");
    outcome_of(search())
}

#[test]
fn a_search_stopped_anywhere_and_resumed_goes_on_as_if_nothing_had_happened() {
    for kind in KINDS {
        let undisturbed = with_trainer(search(kind), train).run().unwrap();
        let expected = transitions(&undisturbed);
        for round in 1..4 {
            let folder = tempfile::tempdir().unwrap();
            // 3 to 41 transitions a life, in an order that each round has to itself.
            let outcome = stopped_and_resumed(kind, folder.path(), |life| 3 + (life * 7 + round * 11) % 38);
            let journal = transitions(&outcome);
            assert_eq!(proposals(&journal), proposals(&expected), "{kind:?}");
            assert_eq!(ends(&outcome), ends(&undisturbed), "{kind:?}");
            assert_eq!(outcome.state.ended(), undisturbed.state.ended(), "{kind:?}");
            assert_eq!(reports(&journal), reports(&expected), "{kind:?}: no reported epoch is done again");
            for (trial, epochs) in reports(&journal) {
                assert_eq!(epochs, (1..=epochs.len() as u32).collect::<Vec<_>>(), "{kind:?}, trial {trial}");
            }
            let Counts { proposed, finished, stopped, failed, infeasible } = outcome.counts;
            assert_eq!((proposed, finished + stopped, failed + infeasible), (TRIALS, TRIALS, 0), "{kind:?}");
        }
    }
}

/// A sampler that panics at its `n`-th question or answer, counted over all its lives.
struct Breaks<S> {
    sampler: S,
    calls: Arc<AtomicU32>,
    breaks: fn(u32) -> bool,
}

impl<S> Breaks<S> {
    fn call(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!(self.breaks)(call), "it breaks at call {call}");
    }
}

impl<S: Sampler> Sampler for Breaks<S> {
    type Candidate = S::Candidate;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<S::Candidate> {
        self.call();
        self.sampler.ask(ask)
    }

    fn tell(&mut self, observation: &Observation<S::Candidate>) {
        self.call();
        self.sampler.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.sampler.parents()
    }
}

fn with_broken_sampler(breaks: fn(u32) -> bool) -> Search<Code> {
    let calls = Arc::new(AtomicU32::new(0));
    let sampler = move || Breaks { sampler: evolution(), calls: calls.clone(), breaks };
    with_trainer(search(Kind::Evolution).sampler(sampler), train)
}

#[test]
fn a_sampler_that_panics_is_rebuilt_and_told_everything_again() {
    let undisturbed = transitions(&with_trainer(search(Kind::Evolution), train).run().unwrap());
    // Call 20 is a question or an answer in mid-search, call 25 one while the new sampler is told again, 80 a late one.
    let outcome = with_broken_sampler(|call| [20, 25, 80].contains(&call)).run().unwrap();
    assert_eq!(proposals(&transitions(&outcome)), proposals(&undisturbed));
}

#[test]
fn a_sampler_that_always_panics_ends_the_search_with_its_reason() {
    let error = with_broken_sampler(|call| call >= 20).run().unwrap_err().to_string();
    assert!(error.contains("the sampler failed 4 times") && error.contains("it breaks at call 23"), "{error}");
}

/// With any number of workers a proposal is a function of the journal before it: the number of trials that the sampler
/// had been told of is written beside it. (Which trials those are is decided by who is faster.)
#[test]
fn every_proposal_follows_from_the_journal_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let search = || {
        let search = with_trainers(search(Kind::Evolution).folder(folder.path()), 3, train);
        with_evaluator(search, evaluate)
    };
    let mut complete = run_for(search().start().unwrap(), 40);
    while !complete {
        complete = run_for(search().resume().unwrap(), 40);
    }
    let outcome = outcome_of(search());
    let mut ended: Vec<TrialId> = Vec::new();
    for transition in transitions(&outcome) {
        let Event::Proposed(proposed) = &transition.event else {
            if matches!(transition.event, Event::Finished(_)) {
                ended.push(transition.trial);
            }
            continue;
        };
        assert!(proposed.seen as usize <= ended.len());
        let told = &ended[..proposed.seen as usize];
        assert_eq!(proposed.key, proposed_again(&outcome.state, told, transition.trial), "{}", transition.trial);
    }
    assert_eq!(ended.len() as u64, TRIALS);
}

/// What a new sampler that is told of `told` proposes as this trial.
fn proposed_again(state: &SearchState, told: &[TrialId], trial: TrialId) -> String {
    let mut sampler = evolution();
    let mut front = spnas_actors::archive::Front::new(2);
    for trial in told.iter().filter_map(|id| state.trial(*id)) {
        let costs = spnas_actors::objective::costs(&quality_and_cost(), &trial.metrics).unwrap();
        front.insert(trial.id, costs.clone()).unwrap();
        sampler.tell(&Observation {
            trial: trial.id,
            candidate: Arc::new(trial.candidate.read().unwrap()),
            key: trial.key.clone(),
            parent: trial.parent,
            outcome: Outcome::Finished,
            metrics: trial.metrics.clone(),
            costs: Some(costs),
            stopped_costs: None,
        });
    }
    let before = &state.trials()[..trial.0 as usize - 1];
    let is_new = |key: &str| before.iter().all(|trial| *trial.key != *key);
    let mut rng = spnas_actors::rng::stream(5, trial.0);
    let mut ask = Ask { rng: &mut rng, proposed: trial.0 - 1, front: &front, is_new: &is_new };
    match sampler.ask(&mut ask) {
        Suggestion::Propose(proposal) => proposal.key,
        other => panic!("{other:?}"),
    }
}

/// The rows of a search with failures, pauses, promotions, evaluations and a resumption.
fn eventful() -> Vec<Transition> {
    let folder = tempfile::tempdir().unwrap();
    let search = || {
        let search = with_trainers(search(Kind::AshaPromote).folder(folder.path()), 2, |job, progress| {
            assert!(job.trial.0 % 5 != 0 || job.attempt.0 % 2 != 1, "every fifth fails at every other attempt");
            assert!(job.trial != TrialId(7), "the seventh always");
            train(job, progress)
        });
        with_evaluator(search, evaluate)
    };
    let mut complete = run_for(search().start().unwrap(), 30);
    while !complete {
        complete = run_for(search().resume().unwrap(), 100);
    }
    let reader = JournalReader::open(&journal_path(folder.path())).unwrap();
    reader.read_all().map(|row| Transition::from_row(&row.unwrap()).unwrap()).collect()
}

#[test]
fn every_prefix_of_a_journal_is_a_state_to_go_on_from() {
    let journal = eventful();
    let kinds: std::collections::BTreeSet<&str> = journal.iter().map(|transition| transition.event.kind()).collect();
    for kind in ["promoted", "attempt_failed", "released", "finished", "stopped", "failed"] {
        assert!(kinds.contains(kind), "no `{kind}` in the journal: {kinds:?}");
    }
    for cut in 0..=journal.len() {
        let mut state = SearchState::default();
        for transition in &journal[..cut] {
            state.apply(transition).unwrap();
        }
        give_back_all(&mut state);
    }
}

/// Every trial that a worker holds goes back to where it came from, and nothing else changes.
fn give_back_all(state: &mut SearchState) {
    let held: Vec<(TrialId, Role)> = state.held().filter_map(|trial| Some((trial.id, trial.hold()?.0))).collect();
    let back = spnas_actors::resume::interrupted(state);
    assert_eq!(back.iter().map(|transition| transition.trial).collect::<Vec<_>>(), held_ids(&held));
    let counts = state.counts();
    for transition in &back {
        state.apply(transition).unwrap();
    }
    assert_eq!((state.held().count(), state.counts()), (0, counts));
    for (id, role) in held {
        let phase = &state.trial(id).unwrap().phase;
        match role {
            Role::Train => assert_eq!(*phase, Phase::Queued),
            Role::Evaluate => assert_eq!(*phase, Phase::Trained),
        }
    }
}

fn held_ids(held: &[(TrialId, Role)]) -> Vec<TrialId> {
    held.iter().map(|(id, _)| *id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// As the test above with lives of any length.
    #[test]
    fn stopped_at_random_points_a_search_goes_on(lives in prop::collection::vec(1_u64..60, 8), kind in 0..KINDS.len()) {
        let kind = KINDS[kind];
        let undisturbed = with_trainer(search(kind), train).run().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let search = || with_trainer(search(kind).folder(folder.path()), train);
        let mut complete = run_for(search().start().unwrap(), lives[0]);
        for life in &lives[1..] {
            if complete {
                break;
            }
            complete = run_for(search().resume().unwrap(), *life);
        }
        let outcome = outcome_of(search());
        prop_assert_eq!(proposals(&transitions(&outcome)), proposals(&transitions(&undisturbed)));
        prop_assert_eq!(ends(&outcome), ends(&undisturbed));
        prop_assert_eq!(reports(&transitions(&outcome)), reports(&transitions(&undisturbed)));
    }
}

/// One trial, which is all that its sampler has.
fn listed() -> Search<Code> {
    Search::new([quality()], 1, Epoch(2)).sampler(|| Listed::codes([7]))
}

/// A search with a mistake each, and what the refusal names.
fn mistaken() -> Vec<(&'static str, Search<Code>)> {
    let nowhere = Place::Cpu { index: 7 };
    vec![
        ("objectives", with_trainer(Search::new([], 1, Epoch(2)).sampler(|| Listed::codes([7])), train)),
        ("sampler", with_trainer(Search::new([quality()], 1, Epoch(2)), train)),
        ("trainers", listed()),
        ("cpu:7", with_trainer(listed(), train).detached([nowhere])),
    ]
}

#[test]
fn a_mistake_in_the_builder_makes_no_journal() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("search");
    for (words, search) in mistaken() {
        let refused = search.folder(&path).start().err().unwrap().to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(!path.exists(), "{words}");
    }
    assert_eq!(with_trainer(listed(), train).folder(&path).run().unwrap().counts.finished, 1);
}

#[test]
fn a_mistake_in_the_builder_or_another_search_leaves_a_journal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let search = || with_trainer(listed(), train).folder(folder.path());
    drop(search().run().unwrap());
    // As it was after a crash in the training, with the version before this one.
    let database = rusqlite::Connection::open(journal_path(folder.path())).unwrap();
    database.execute("DELETE FROM events WHERE seq > 2", ()).unwrap();
    database.pragma_update(None, "user_version", 1).unwrap();
    let as_it_was = || {
        let format = database.pragma_query_value(None, "user_version", |row| row.get::<_, i32>(0)).unwrap();
        (format, JournalReader::open(&journal_path(folder.path())).unwrap().last_seq().unwrap())
    };
    assert_eq!(as_it_was(), (1, 2));
    let others = [("seed", search().seed(1)), ("fingerprint", search().fingerprint("another"))];
    for (words, search) in mistaken().into_iter().chain(others) {
        let refused = search.folder(folder.path()).resume().err().unwrap().to_string();
        assert!(refused.contains(words), "{refused}");
        assert_eq!(as_it_was(), (1, 2), "{words}");
    }
    assert_eq!(outcome_of(search()).counts.finished, 1);
}
