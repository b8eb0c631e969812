//! Placement: searches that share devices through a broker, and devices that are taken away and given back while a search
//! runs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spnas_actors::broker::{DeviceBroker, Share};
use spnas_actors::device::Place;
use spnas_actors::event::{Event, ReleaseCause, Role, Transition};
use spnas_actors::simulation::{FaultPlan, SimulateTrial};
use spnas_actors::{Command, Epoch, Leave, Metrics, PlacementError, Search, SearchEnd, SearchError, TrialId};

mod toy;

use toy::{
    Code, Gate, Listed, Trains, cpus, life, measured, quality, reports, train, transitions, with_evaluator,
    with_trainer, with_trainers,
};

fn search(trials: u64) -> Search<Code> {
    Search::new([quality()], trials, Epoch(2)).sampler(|| Listed::codes(1..=100))
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// How many trainings and evaluations are under way on one place while others are: for each role the most that it saw of the
/// other.
fn seen_beside(search: Search<Code>) -> [u32; 2] {
    let (running, seen): (Arc<[AtomicU32; 2]>, Arc<[AtomicU32; 2]>) = Default::default();
    let during = move |role: usize| {
        let (running, seen) = (running.clone(), seen.clone());
        move |work: &mut dyn FnMut()| {
            running[role].fetch_add(1, Ordering::SeqCst);
            for _ in 0..5 {
                std::thread::sleep(Duration::from_millis(2));
                seen[role].fetch_max(running[1 - role].load(Ordering::SeqCst), Ordering::SeqCst);
            }
            work();
            running[role].fetch_sub(1, Ordering::SeqCst);
            [seen[0].load(Ordering::SeqCst), seen[1].load(Ordering::SeqCst)]
        }
    };
    let (of_training, of_evaluation) = (during(0), during(1));
    let most = Arc::new(Mutex::new([0; 2]));
    let (noted, also) = (most.clone(), most.clone());
    let search = with_trainer(search, move |job, progress| {
        let mut done = None;
        *noted.lock().unwrap() = of_training(&mut || done = Some(train(job, progress)));
        done.unwrap()
    });
    let search = with_evaluator(search, move |job, progress| {
        let mut done = None;
        *also.lock().unwrap() = of_evaluation(&mut || done = Some(toy::evaluate(job, progress)));
        done.unwrap()
    });
    assert_eq!(search.run().unwrap().counts.finished, 12);
    let seen = most.lock().unwrap();
    *seen
}

/// Waits until it is so; gives up after a time that only a failure takes.
fn until(mut so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !so() {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn searches_that_share_a_device_never_train_on_it_at_once() {
    let broker = DeviceBroker::new();
    let busy: Arc<[AtomicU32; 2]> = Arc::default();
    let handles: Vec<_> = (0..3)
        .map(|_| {
            let busy = busy.clone();
            let trained = with_trainers(search(8), 2, move |job, progress| {
                let Place::Cpu { index } = job.device.place else { panic!("the wrong device") };
                let beside = busy[index as usize].fetch_add(1, Ordering::SeqCst);
                let done = train(job, progress);
                busy[index as usize].fetch_sub(1, Ordering::SeqCst);
                assert_eq!(beside, 0);
                done
            });
            with_evaluator(trained, toy::evaluate).broker(broker.share(one(), 0)).start().unwrap()
        })
        .collect();
    for handle in handles {
        let outcome = handle.wait().unwrap();
        assert_eq!((outcome.end, outcome.counts.finished), (SearchEnd::Complete, 8));
    }
    assert_eq!(broker.standings(), [], "each search has left");
}

/// A search that notes what it begins; its first trial waits for `gate`.
fn noting(name: &'static str, share: Share, notes: &Arc<Mutex<Vec<&'static str>>>, gate: Gate) -> Search<Code> {
    let notes = notes.clone();
    let trained = with_trainer(search(3), move |job, progress| {
        notes.lock().unwrap().push(name);
        if job.trial.0 == 1 {
            gate.wait("open");
        }
        train(job, progress)
    });
    trained.broker(share)
}

#[test]
fn an_evaluation_has_its_device_alone_where_it_is_to() {
    assert_eq!(seen_beside(search(12).evaluations_alone()), [0, 0]);
    assert_ne!(seen_beside(search(12)), [0, 0], "they run beside one another unless said");
}

#[test]
fn a_search_of_higher_priority_gets_the_next_slot() {
    let (broker, notes, gate) = (DeviceBroker::new(), Arc::default(), Gate::default());
    let (low, middle, high) = (broker.share(one(), 0), broker.share(one(), 1), broker.share(one(), 2));
    let open = Gate::default();
    open.open("open");
    let first = noting("low", low.clone(), &notes, gate.clone()).start().unwrap();
    until(|| low.standing().holding == 1);
    let second = noting("middle", middle.clone(), &notes, open.clone()).start().unwrap();
    until(|| middle.standing().waiting == 1);
    let third = noting("high", high.clone(), &notes, open).start().unwrap();
    until(|| high.standing().waiting == 1);
    gate.open("open");
    for handle in [first, second, third] {
        assert_eq!(handle.wait().unwrap().counts.finished, 3);
    }
    assert_eq!(notes.lock().unwrap()[..2], ["low", "high"]);
    assert!(high.standing().used > Duration::ZERO);
}

#[test]
fn a_paused_search_holds_nothing_and_one_that_waits_can_be_stopped() {
    let (broker, notes, gate) = (DeviceBroker::new(), Arc::default(), Gate::default());
    let (one_share, other_share) = (broker.share(one(), 0), broker.share(one(), 0));
    let handle = noting("first", one_share.clone(), &notes, gate.clone()).start().unwrap();
    until(|| one_share.standing().holding == 1);
    let waits = noting("second", other_share.clone(), &notes, gate.clone()).start().unwrap();
    until(|| other_share.standing().waiting == 1);

    waits.remote().send(Command::Stop);
    let stopped = waits.wait().unwrap();
    assert_eq!(stopped.end, SearchEnd::Stopped);
    assert_eq!(life(&transitions(&stopped), 1), ["proposed", "leased", "released"]);
    assert_eq!(releases(&transitions(&stopped)), [(TrialId(1), ReleaseCause::Shutdown)]);

    handle.remote().send(Command::Pause);
    until(|| handle.remote().snapshot().unwrap().mode == spnas_actors::Mode::Paused);
    gate.open("open");
    until(|| one_share.standing().holding == 0);
    let beside = noting("third", broker.share(one(), 0), &notes, gate).run().unwrap();
    assert_eq!(beside.counts.finished, 3);
    assert_eq!(*notes.lock().unwrap(), ["first", "third", "third", "third"]);
    handle.remote().send(Command::Resume);
    assert_eq!(handle.wait().unwrap().counts.finished, 3);
}

#[test]
fn a_paused_search_that_is_drained_comes_to_its_end() {
    let gate = Gate::default();
    let waits = gate.clone();
    let trained = with_trainer(search(8), move |job, progress| {
        if job.trial == TrialId(2) {
            waits.open("the second trains");
            waits.wait("it is drained");
        }
        train(job, progress)
    });
    let handle = with_evaluator(trained, toy::evaluate).start().unwrap();
    let remote = handle.remote();
    gate.wait("the second trains");
    assert!(remote.send(Command::Pause) && remote.send(Command::Drain));
    gate.open("it is drained");
    let (told, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || _ = told.send(handle.wait()));
    let outcome = ended.recv_timeout(Duration::from_secs(30)).unwrap().unwrap();
    assert_eq!(outcome.counts.finished, outcome.counts.proposed, "what had begun is evaluated");
}

fn cpu(index: u32) -> Place {
    Place::Cpu { index }
}

/// What was given back, and why.
fn releases(transitions: &[Transition]) -> Vec<(TrialId, ReleaseCause)> {
    let release = |transition: &Transition| match &transition.event {
        Event::Released(released) => Some((transition.trial, released.cause)),
        _ => None,
    };
    transitions.iter().filter_map(release).collect()
}

/// Who was leased to whom.
fn leases(transitions: &[Transition]) -> Vec<(TrialId, Role, Place)> {
    let lease = |transition: &Transition| match &transition.event {
        Event::Leased(leased) => Some((transition.trial, leased.role, leased.device.clone())),
        _ => None,
    };
    transitions.iter().filter_map(lease).collect()
}

#[test]
fn a_trial_goes_on_elsewhere_when_its_device_is_taken_away_and_costs_nothing() {
    let (gate, built) = (Gate::default(), Arc::new(Mutex::new(Vec::new())));
    let (begun, builds) = (gate.clone(), built.clone());
    let trained = move |job: &spnas_actors::TrainJob<Code>, progress: &mut spnas_actors::Progress| {
        if job.attempt.0 == 1 && job.device.place == cpu(0) {
            let checkpoint = progress.save(format!("checkpoint of trial {} after epoch 1", job.trial).into_bytes())?;
            progress.report(Epoch(1), measured(&job.candidate)?, Some(checkpoint))?;
            begun.open("begun");
            loop {
                progress.step()?;
                std::thread::yield_now();
            }
        }
        begun.wait("taken");
        train(job, progress)
    };
    let handle = search(3)
        .trainers(cpus(2), move |device| {
            builds.lock().unwrap().push(device.place.clone());
            Ok(Trains(trained.clone()))
        })
        .max_retries(0)
        .start()
        .unwrap();
    gate.wait("begun");
    handle.remote().detach(&cpu(0), Leave::AtNextStep).unwrap();
    until(|| handle.activities()[0].activity.is_none());
    assert!(handle.activities()[0].detached);
    assert_eq!(handle.remote().snapshot().unwrap().detached, [cpu(0)]);
    gate.open("taken");
    let outcome = handle.wait().unwrap();
    assert_eq!((&outcome.end, outcome.counts.finished), (&SearchEnd::Complete, 3));
    let transitions = transitions(&outcome);
    let [(taken, ReleaseCause::Detached)] = releases(&transitions)[..] else { panic!("{:?}", releases(&transitions)) };
    assert_eq!(reports(&transitions)[&taken], [1, 2], "it went on from its checkpoint");
    let on_first = leases(&transitions).into_iter().filter(|(.., place)| *place == cpu(0)).count();
    assert_eq!(on_first, 1);
    assert_eq!(outcome.state.trial(taken).unwrap().failures, 0);
    assert_eq!(built.lock().unwrap().len(), 2);
}

#[test]
fn a_device_that_is_drained_ends_its_attempt_and_is_built_anew_when_it_comes_back() {
    let (gate, built) = (Gate::default(), Arc::new(AtomicU32::new(0)));
    let (inside, builds) = (gate.clone(), built.clone());
    let trained = move |job: &spnas_actors::TrainJob<Code>, progress: &mut spnas_actors::Progress| {
        inside.open(format!("begun {}", job.trial));
        inside.wait("on");
        train(job, progress)
    };
    let handle = search(3)
        .trainers(cpus(1), move |_| {
            builds.fetch_add(1, Ordering::Relaxed);
            Ok(Trains(trained.clone()))
        })
        .start()
        .unwrap();
    gate.wait("begun 1");
    handle.remote().detach(&cpu(0), Leave::AfterAttempt).unwrap();
    gate.open("on");
    until(|| handle.remote().snapshot().unwrap().counts.finished == 1);
    until(|| handle.activities()[0].activity.is_none());
    // The search has no device: nothing begins, and it does not end.
    let snapshot = handle.remote().snapshot().unwrap();
    assert_eq!((snapshot.training, snapshot.detached), (0, vec![cpu(0)]));
    assert!(!gate.is_open("begun 2") && !handle.is_over());
    handle.remote().attach(&cpu(0)).unwrap();
    assert_eq!(handle.remote().snapshot().map_or(Vec::new(), |snapshot| snapshot.detached), []);
    let outcome = handle.wait().unwrap();
    assert_eq!((outcome.counts.finished, built.load(Ordering::Relaxed)), (3, 2));
    assert_eq!(releases(&transitions(&outcome)), []);
}

#[test]
fn a_place_that_the_search_does_not_have_is_an_error_that_says_which_there_are() {
    let gate = Gate::default();
    let inside = gate.clone();
    let trained = with_trainers(search(1), 2, move |job, progress| {
        inside.wait("on");
        train(job, progress)
    });
    let handle = trained.start().unwrap();
    let remote = handle.remote();
    let elsewhere = Place::Cuda { ordinal: 1 };
    let unknown = remote.detach(&elsewhere, Leave::AtNextStep).unwrap_err();
    assert_eq!(unknown.to_string(), "the search has no worker on cuda:1; it has cpu:0, cpu:1");
    assert_eq!(remote.attach(&elsewhere), Err(unknown));
    gate.open("on");
    handle.wait().unwrap();
    assert_eq!(remote.detach(&cpu(0), Leave::AtNextStep), Err(PlacementError::Over));
    let refused = with_trainer(search(1), train).detached([elsewhere]).start().err().unwrap();
    assert!(matches!(refused, SearchError::Placement(PlacementError::NoSuchPlace { .. })));
}

#[test]
fn a_worker_that_waits_for_a_shared_device_gives_its_trial_back_when_the_device_is_taken_away() {
    let broker = DeviceBroker::new();
    let (mine, other) = (broker.share(one(), 0), broker.share(one(), 0));
    let demand = spnas_actors::broker::Demand { places: vec![cpu(0)], role: Role::Train, alone: false, memory: None };
    let slot = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(other.acquire(demand));
    let handle = with_trainer(search(1), train).broker(mine.clone()).start().unwrap();
    until(|| mine.standing().waiting == 1);
    handle.remote().detach(&cpu(0), Leave::AfterAttempt).unwrap();
    until(|| mine.standing().waiting == 0);
    drop(slot);
    handle.remote().attach(&cpu(0)).unwrap();
    let outcome = handle.wait().unwrap();
    assert_eq!(life(&transitions(&outcome), 1)[..4], ["proposed", "leased", "released", "leased"]);
    assert_eq!(releases(&transitions(&outcome)), [(TrialId(1), ReleaseCause::Detached)]);
}

/// Every epoch takes a second and tells how many there were.
struct Seconds;

impl SimulateTrial for Seconds {
    type Candidate = Code;

    fn epoch(&self, _: TrialId, code: &Code, _: Epoch) -> (Duration, Metrics) {
        (Duration::from_secs(1), measured(code).unwrap())
    }

    fn evaluation(&self, _: TrialId, code: &Code) -> (Duration, Metrics) {
        (Duration::from_secs(1), measured(code).unwrap())
    }
}

#[test]
fn in_simulation_a_device_that_is_away_from_the_beginning_gets_no_work() {
    let sim = |index| Place::Simulated { index };
    let run = || {
        let simulated = search(60).simulated(4, 0, Seconds, FaultPlan::none());
        simulated.detached([sim(3), sim(1)]).run().unwrap()
    };
    let (outcome, again) = (run(), run());
    assert_eq!(outcome.counts.finished, 60);
    let used: std::collections::BTreeSet<Place> =
        leases(&transitions(&outcome)).into_iter().map(|(.., place)| place).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), [sim(0), sim(2)]);
    assert_eq!(outcome.ran_ms, 30 * 2_000, "two devices, two epochs of a second each");
    assert_eq!(transitions(&outcome), transitions(&again));
}
