//! Code of a user's own that breaks, with several workers at once: sampler, stopping rule, factory, candidates. Each costs
//! what it should or ends the search with its reason; none leaves a search that never ends.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::sampler::{Ask, Observation, Sampler, SamplerSpec, Suggestion};
use spnas_actors::space::{Crossover, Encode, Feature, FeatureKind};
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::{Report, StoppingRule, Verdict};
use spnas_actors::{
    Epoch, EvaluateJob, Progress, Search, SearchError, SearchOutcome, SearchSpace, TrainJob, TrainTrial, Trained,
    TrialError, TrialId,
};

mod toy;

use toy::{Code, Evaluates, Trains, cpus, evaluate, evolution, quality, train, with_trainers};

/// Whoever waits longer than this waits for something that will not come.
const PATIENCE: Duration = Duration::from_secs(60);

const TRIALS: u64 = 40;

/// What becomes of a search, if it comes to an end.
fn end<C>(search: Search<C>) -> Result<SearchOutcome<C>, SearchError>
where
    C: Serialize + serde::de::DeserializeOwned + Send + Sync + 'static,
{
    let (told, ended) = mpsc::channel();
    std::thread::spawn(move || _ = told.send(search.run()));
    ended.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("the search does not end"))
}

fn reason(search: Search<Code>) -> String {
    end(search).unwrap_err().to_string()
}

fn search() -> Search<Code> {
    Search::new([quality()], TRIALS, Epoch(3)).sampler(evolution)
}

/// Breaks once, as soon as so many have been proposed, or told: in the question, or in the answer.
struct BreaksOnce {
    sampler: Box<dyn Sampler<Candidate = Code>>,
    told: u32,
    has_broken: Arc<AtomicBool>,
    in_question: bool,
}

impl Sampler for BreaksOnce {
    type Candidate = Code;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Code> {
        assert!(!self.in_question || ask.proposed < 10 || self.has_broken.swap(true, Ordering::Relaxed), "it breaks");
        self.sampler.ask(ask)
    }

    fn tell(&mut self, observation: &Observation<Code>) {
        self.told += 1;
        assert!(self.in_question || self.told < 10 || self.has_broken.swap(true, Ordering::Relaxed), "it breaks");
        self.sampler.tell(observation);
    }

    fn parents(&self) -> Vec<TrialId> {
        self.sampler.parents()
    }
}

#[test]
fn a_sampler_that_breaks_while_many_trials_end_is_rebuilt_and_all_of_them_finish() {
    for in_question in [true, false] {
        let has_broken = Arc::new(AtomicBool::new(false));
        let broken = has_broken.clone();
        let sampler =
            move || BreaksOnce { sampler: Box::new(evolution()), told: 0, has_broken: broken.clone(), in_question };
        let outcome = end(with_trainers(search().sampler(sampler), 4, train)).unwrap();
        assert!(has_broken.load(Ordering::Relaxed));
        assert_eq!(outcome.counts.finished, TRIALS);
    }
}

#[test]
fn a_sampler_that_cannot_be_built_again_ends_the_search_with_its_reason() {
    let built = AtomicU32::new(0);
    let sampler = move || {
        assert_eq!(built.fetch_add(1, Ordering::Relaxed), 0, "no second one");
        let sampler = Box::new(evolution());
        BreaksOnce { sampler, told: 0, has_broken: Arc::default(), in_question: true }
    };
    let reason = reason(with_trainers(search().sampler(sampler), 4, train));
    assert!(reason.contains("the sampler failed 4 times") && reason.contains("no second one"), "{reason}");
}

#[test]
fn a_sampler_that_cannot_be_built_at_all_ends_the_search_with_its_reason() {
    let sampler = || -> RandomSampler<toy::Bits> { panic!("not today") };
    let reason = reason(with_trainers(search().sampler(sampler), 4, train));
    assert!(reason.contains("the sampler failed 4 times") && reason.contains("not today"), "{reason}");
}

/// A rule that breaks in one of its functions.
struct BrokenRule {
    rule: Asha,
    at: &'static str,
    calls: AtomicU32,
}

impl BrokenRule {
    fn new(at: &'static str) -> Self {
        let spec = AshaSpec { min_epochs: Epoch(1), max_epochs: Epoch(3), eta: 2, mode: AshaMode::Promote };
        Self { rule: Asha::new(spec).unwrap(), at, calls: AtomicU32::new(0) }
    }

    fn call(&self, name: &str) {
        assert!(self.at != name || self.calls.fetch_add(1, Ordering::Relaxed) < 5, "the rule's {name} breaks");
    }
}

impl StoppingRule for BrokenRule {
    fn report(&mut self, report: Report<'_>) -> Verdict {
        self.call("report");
        self.rule.report(report)
    }

    fn promotable(&self) -> Option<TrialId> {
        self.call("promotable");
        self.rule.promotable()
    }

    fn promoted(&mut self, trial: TrialId) {
        self.call("promoted");
        self.rule.promoted(trial);
    }

    fn ended(&mut self, trial: TrialId) {
        self.call("ended");
        self.rule.ended(trial);
    }

    fn finalist(&self) -> Option<TrialId> {
        assert!(self.at != "finalist", "the rule's finalist breaks");
        self.rule.finalist()
    }
}

#[test]
fn a_stopping_rule_that_panics_ends_the_search_with_its_reason() {
    for at in ["report", "promotable", "promoted", "ended", "finalist"] {
        for trainers in [1, 4] {
            let search = search().stopping(BrokenRule::new(at), []);
            let reason = reason(with_trainers(search, trainers, train));
            let expected = format!("the stopping rule panicked: the rule's {at} breaks");
            assert!(reason.contains(&expected), "{at}: {reason}");
        }
    }
}

#[test]
fn a_stopping_rule_that_breaks_while_a_journal_is_replayed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = || with_trainers(search().folder(folder.path()), 2, train);
    end(in_folder()).unwrap();
    let resumed = in_folder().stopping(BrokenRule::new("report"), []).resume().and_then(|handle| handle.wait());
    let reason = resumed.unwrap_err().to_string();
    assert!(reason.contains("the stopping rule panicked: the rule's report breaks"), "{reason}");
}

/// Promotes whatever it likes.
struct Promotes(u64);

impl StoppingRule for Promotes {
    fn report(&mut self, _: Report<'_>) -> Verdict {
        Verdict::Pause
    }

    fn promotable(&self) -> Option<TrialId> {
        Some(TrialId(self.0))
    }

    fn promoted(&mut self, _: TrialId) {}

    fn ended(&mut self, _: TrialId) {}
}

#[test]
fn a_stopping_rule_that_promotes_who_is_not_paused_is_named() {
    for trial in [0, 9999] {
        let reason = reason(with_trainers(search().stopping(Promotes(trial), []), 2, train));
        let expected = format!("the stopping rule promotes trial {trial}, which is not paused");
        assert!(reason.contains(&expected), "{reason}");
    }
}

#[test]
fn a_factory_that_panics_costs_no_trial() {
    let builds = Arc::new(AtomicU32::new(0));
    let count = builds.clone();
    // One of the two can be built.
    let search = search().trainers(cpus(2), move |device| {
        count.fetch_add(1, Ordering::Relaxed);
        assert!(device.place.to_string() == "cpu:0", "no such device");
        Ok(Trains(train))
    });
    let outcome = end(search).unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (TRIALS, 0));
    assert!(builds.load(Ordering::Relaxed) >= 2);

    let none =
        self::search().trainers(cpus(2), |_| -> Result<Trains<Train>, TrialError> { panic!("no device at all") });
    let reason = reason(none);
    assert!(reason.contains("no trainer is left") && reason.contains("no device at all"), "{reason}");
}

/// Two trainers, of which the first has a device that fails each job so; how many jobs it has got. It is given time for so
/// many, and then some.
fn beside_a_broken_device(words: &'static str, jobs: u32) -> (SearchOutcome<Code>, u32) {
    let counted = Arc::new(AtomicU32::new(0));
    let count = counted.clone();
    let search = with_trainers(search().max_retries(9), 2, move |job, progress| {
        if job.device.place.to_string() == "cpu:0" {
            count.fetch_add(1, Ordering::Relaxed);
            return Err(TrialError::message(words));
        }
        let since = Instant::now();
        while count.load(Ordering::Relaxed) < jobs && since.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(1));
        }
        train(job, progress)
    });
    let outcome = end(search).unwrap();
    (outcome, counted.load(Ordering::Relaxed))
}

#[test]
fn a_device_that_is_broken_costs_one_attempt_and_one_that_may_be_five() {
    for (words, jobs) in [
        ("CUDA error: an illegal memory access was encountered", 1),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm`", 5),
    ] {
        let (outcome, got) = beside_a_broken_device(words, jobs);
        assert_eq!(got, jobs, "{words}");
        assert_eq!((outcome.counts.finished, outcome.counts.failed), (TRIALS, 0), "{words}");
    }
}

#[test]
fn a_search_whose_last_device_is_broken_ends_with_its_words() {
    let broken = |_: &TrainJob<Code>, _: &mut Progress| Err(TrialError::message("CUDA error: misaligned address"));
    let reason = reason(with_trainers(search(), 2, broken));
    assert!(reason.contains("no trainer is left") && reason.contains("misaligned address"), "{reason}");
}

#[test]
fn what_a_panic_leaves_behind_on_its_thread_meets_no_other_trial() {
    thread_local! {
        static SPOILT: Cell<bool> = const { Cell::new(false) };
    }
    let panics = Arc::new(AtomicU32::new(0));
    let outcome = end(with_trainers(search().max_retries(5), 2, move |job, progress| {
        assert!(!SPOILT.get(), "the thread of a panic");
        if job.trial.0 % 7 == 0 && panics.fetch_add(1, Ordering::Relaxed) < 5 {
            SPOILT.set(true);
            panic!("in the midst of it");
        }
        train(job, progress)
    }))
    .unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (TRIALS, 0));
}

#[test]
fn an_evaluation_that_runs_out_of_memory_is_tried_again_in_smaller_parts() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = asked.clone();
    let search = with_trainers(search(), 1, train).evaluators(cpus(1), move |_| {
        let noted = noted.clone();
        Ok(Evaluates(move |job: &EvaluateJob<Code>, progress: &mut Progress| {
            if job.trial == TrialId(1) {
                noted.lock().unwrap().push(job.micro_batches);
            }
            match job.trial == TrialId(1) && job.micro_batches < 4 {
                true => Err(TrialError::OutOfMemory("of the device".to_owned())),
                false => evaluate(job, progress),
            }
        }))
    });
    let outcome = end(search).unwrap();
    assert_eq!((outcome.counts.finished, outcome.counts.failed), (TRIALS, 0));
    assert_eq!(*asked.lock().unwrap(), [1, 2, 4]);
}

type Train = fn(&TrainJob<Code>, &mut Progress) -> Result<Trained, TrialError>;

/// JSON has no infinity.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Endless(f64);

struct Endlessly;

impl SearchSpace for Endlessly {
    type Candidate = Endless;

    fn sample(&self, _: &mut SearchRng) -> Endless {
        Endless(f64::INFINITY)
    }

    fn mutate(&self, parent: &Endless, _: &mut SearchRng) -> Endless {
        parent.clone()
    }

    fn key(&self, _: &Endless) -> String {
        "endless".to_owned()
    }
}

struct Idle;

impl TrainTrial for Idle {
    type Candidate = Endless;

    fn train(&mut self, _: &TrainJob<Endless>, _: &mut Progress) -> Result<Trained, TrialError> {
        panic!("nothing is trained")
    }
}

#[test]
fn a_candidate_that_json_cannot_hold_is_named_and_never_written() {
    let folder = tempfile::tempdir().unwrap();
    let search = Search::new([quality()], 3, Epoch(1)).folder(folder.path());
    let search = search.sampler(|| RandomSampler::new(Endlessly.into())).trainers(cpus(2), |_| Ok(Idle));
    let reason = end(search).unwrap_err().to_string();
    assert!(reason.contains("candidate `endless` cannot be read back from its JSON `null`"), "{reason}");
    let journal = spnas_actors::journal::JournalReader::open(&folder.path().join("journal.sqlite")).unwrap();
    assert_eq!(journal.read_all().count(), 0);
}

#[test]
fn an_epoch_beyond_the_budget_costs_the_attempt() {
    let over = |job: &TrainJob<Code>, progress: &mut Progress| {
        progress.report(Epoch(job.epochs.0 + 1), toy::measured(&job.candidate)?, None)?;
        train(job, progress)
    };
    let outcome = end(with_trainers(search(), 2, over)).unwrap();
    assert_eq!(outcome.counts.failed, TRIALS);
    let state = outcome.state;
    let trial = state.trial(TrialId(1)).unwrap();
    assert_eq!(trial.epoch, Epoch(0));
    let why = format!("{:?}", trial.outcome());
    assert!(why.contains("epoch 4 was reported, of 3"), "{why}");
}

#[test]
fn two_objectives_of_one_metric_are_refused() {
    let objectives = [quality(), spnas_actors::Objective::minimise("quality")];
    let search = Search::new(objectives, TRIALS, Epoch(1)).sampler(evolution);
    let reason = reason(with_trainers(search, 1, train));
    assert_eq!(reason, "two objectives are of the metric `quality`: each needs one of its own");
}

#[test]
fn a_search_is_begun_or_gone_on_with_as_its_folder_says() {
    let folder = tempfile::tempdir().unwrap();
    let again = || with_trainers(search().folder(folder.path().join("deep/er")), 2, train);
    for _ in 0..3 {
        assert_eq!(again().start_or_resume().unwrap().wait().unwrap().counts.finished, TRIALS);
    }
    assert!(again().start().is_err());
    let homeless = with_trainers(search(), 2, train).start_or_resume().err().unwrap().to_string();
    assert_eq!(homeless, "the search has no folder: call `folder`");
}

/// Says less of a candidate than it promises.
struct Short;

impl SearchSpace for Short {
    type Candidate = Code;

    fn sample(&self, rng: &mut SearchRng) -> Code {
        toy::Bits(20).sample(rng)
    }

    fn mutate(&self, parent: &Code, rng: &mut SearchRng) -> Code {
        toy::Bits(20).mutate(parent, rng)
    }

    fn key(&self, code: &Code) -> String {
        toy::Bits(20).key(code)
    }
}

impl Crossover for Short {
    fn cross(&self, one: &Code, _: &Code, _: &mut SearchRng) -> Code {
        one.clone()
    }
}

impl Encode for Short {
    fn features(&self) -> Vec<Feature> {
        let feature = |name: &str| Feature { name: name.to_owned(), kind: FeatureKind::Ordered };
        ["size", "ones"].map(feature).to_vec()
    }

    fn encode(&self, code: &Code) -> Vec<f64> {
        vec![code.0 as f64]
    }
}

#[test]
fn a_space_that_describes_candidates_by_too_few_numbers_is_told_so() {
    for name in ["tpe", "forest"] {
        let sampler = move || SamplerSpec::preset(name).unwrap().build(Short.into()).unwrap();
        let reason = reason(with_trainers(search().sampler(sampler), 4, train));
        assert!(reason.contains("Encode::encode gives 1 numbers, where Encode::features names 2"), "{reason}");
    }
}
