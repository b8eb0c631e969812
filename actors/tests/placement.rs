//! Placement: searches that share devices through a broker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use spnas_actors::broker::{DeviceBroker, Share};
use spnas_actors::event::{Event, ReleaseCause};
use spnas_actors::{Command, Epoch, Search, SearchEnd};

mod toy;

use toy::{Code, Gate, Listed, life, quality, train, transitions, with_evaluator, with_trainer, with_trainers};

fn search(trials: u64) -> Search<Code> {
    Search::new([quality()], trials, Epoch(2)).sampler(|| Listed::codes(1..=100))
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
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
                let spnas_actors::device::Place::Cpu { index } = job.device.place else { panic!("the wrong device") };
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
    let released =
        |event: &Event| matches!(event, Event::Released(released) if released.cause == ReleaseCause::Shutdown);
    assert!(transitions(&stopped).iter().any(|transition| released(&transition.event)));

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
