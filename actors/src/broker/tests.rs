//! Unit tests of the broker: slots, groups, requests that run alone, memory.

use std::pin::pin;
use std::task::Waker;

use super::*;

fn demand() -> Demand {
    Demand { places: vec![Place::Cpu { index: 0 }], role: Role::Train, alone: false, memory: None }
}

fn ready<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

#[test]
fn a_slot_goes_on_when_it_is_dropped_and_a_request_that_is_dropped_leaves_no_trace() {
    let broker = DeviceBroker::new();
    let (one, other) = (broker.share(NonZeroU32::MIN, 0), broker.share(NonZeroU32::MIN, 0));
    let slot = ready(pin!(one.acquire(demand()))).unwrap();
    let mut second = pin!(other.acquire(demand()));
    assert!(ready(second.as_mut()).is_none());
    drop(one.acquire(demand())); // Asked and taken back.
    assert_eq!((one.standing().waiting, other.standing().waiting), (0, 1));
    drop(slot);
    let slot = ready(second.as_mut()).unwrap();
    assert_eq!((one.standing().holding, other.standing().holding), (0, 1));
    drop(slot);
    assert_eq!(other.standing().holding, 0);
}

#[test]
fn a_grant_that_nobody_takes_is_passed_on() {
    let broker = DeviceBroker::new();
    let share = broker.share(NonZeroU32::MIN, 0);
    let slot = ready(pin!(share.acquire(demand()))).unwrap();
    let second = share.acquire(demand());
    let mut third = pin!(share.acquire(demand()));
    drop(slot); // The second one is granted, and never looked at.
    drop(second);
    assert!(ready(third.as_mut()).is_some());
}

#[test]
fn a_slot_is_renewed_unless_another_is_ahead() {
    let broker = DeviceBroker::new();
    let (low, high) = (broker.share(NonZeroU32::MIN, 0), broker.share(NonZeroU32::MIN, 1));
    let slot = ready(pin!(low.acquire(demand()))).unwrap();
    let slot = slot.keep().unwrap();
    let slot = ready(pin!(slot.renew(demand()))).unwrap();
    let mut urgent = pin!(high.acquire(demand()));
    let mut renewed = pin!(slot.renew(demand()));
    assert!(ready(renewed.as_mut()).is_none());
    let slot = ready(urgent.as_mut()).unwrap();
    assert!(slot.keep().is_some(), "a lower priority that waits is no reason to give it back");
    assert!(ready(renewed.as_mut()).is_some(), "kept, and then dropped");
}

#[test]
fn a_search_leaves_with_its_last_clone_and_its_last_slot() {
    let broker = DeviceBroker::new();
    let share = broker.share(NonZeroU32::MIN, 0);
    let slot = ready(pin!(share.clone().acquire(demand()))).unwrap();
    drop(share);
    assert_eq!(broker.standings().len(), 1);
    drop(slot);
    assert_eq!(broker.standings(), []);
}

#[test]
fn slots_pass_between_threads_and_never_overlap() {
    let broker = DeviceBroker::new();
    let busy = std::sync::atomic::AtomicU32::new(0);
    let runs = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let share = broker.share(NonZeroU32::MIN, 0);
            let (busy, runs) = (&busy, &runs);
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                for _ in 0..100 {
                    let slot = runtime.block_on(share.acquire(demand()));
                    assert_eq!(busy.fetch_add(1, std::sync::atomic::Ordering::SeqCst), 0);
                    busy.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                    runs.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                    drop(slot);
                }
            });
        }
    });
    assert_eq!(runs.into_inner(), 400);
    assert_eq!(broker.standings(), []);
}
