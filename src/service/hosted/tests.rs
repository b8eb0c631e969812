//! Wishes that come at once, and looks at searches of an earlier life of the service.

use std::num::NonZeroU32;
use std::sync::Arc;

use super::{Hosted, State};
use crate::service::record::Share;
use crate::service::registry::{Registry, Wish};
use crate::service::study::STEP;

fn study(registry: &Registry, id: &str) -> Arc<Hosted> {
    registry.create(Wish::small_study(id)).unwrap()
}

#[test]
fn whatever_is_wished_at_once_the_engine_does_what_the_record_says() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(folder.path(), 1).unwrap();
    let hosted = study(&registry, "a");
    for _ in 0..100 {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| hosted.pause().unwrap());
                scope.spawn(|| hosted.resume().unwrap());
            }
        });
        assert_eq!(hosted.state() == State::Paused, hosted.inner().control.is_paused());
    }
    registry.close();
    registry.join();
}

/// A study that has begun and was stopped, in the service after the one that ran it.
fn stopped(folder: &std::path::Path, id: &str) -> (Registry, Arc<Hosted>) {
    let registry = Registry::open(folder, 1).unwrap();
    let hosted = study(&registry, id);
    while hosted.now().is_none() {
        std::thread::yield_now();
    }
    hosted.stop().unwrap();
    registry.join();
    drop(registry);
    let registry = Registry::open(folder, 1).unwrap();
    let hosted = registry.find(&id.parse().unwrap()).unwrap();
    assert_eq!(hosted.state(), State::Stopped);
    (registry, hosted)
}

#[test]
fn a_journal_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let (_registry, hosted) = stopped(folder.path(), "a");
    let record = hosted.record();
    let first = hosted.read(&record, STEP).unwrap();
    assert!(Arc::ptr_eq(&first, &hosted.read(&record, STEP).unwrap()));
}

#[test]
fn a_list_tries_a_journal_that_cannot_be_read_once_and_who_looks_at_the_search_again() {
    let folder = tempfile::tempdir().unwrap();
    let (_registry, hosted) = stopped(folder.path(), "a");
    let journal = hosted.journal(STEP);
    let whole = std::fs::read(&journal).unwrap();
    std::fs::write(&journal, "no journal").unwrap();
    assert_eq!(hosted.summary().step, None);
    std::fs::write(&journal, whole).unwrap();
    assert_eq!(hosted.summary().step, None, "it was not read again");
    hosted.look(None, |step, _| assert_eq!(step, STEP)).unwrap();
    assert_eq!(hosted.summary().step.as_deref(), Some(STEP));
}

#[test]
fn what_is_changed_holds_nobody_up_who_only_looks() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, hosted) = stopped(folder.path(), "a");
    // As while a file is written.
    let steering = hosted.steer().unwrap();
    let others = std::thread::scope(|scope| {
        let waits = scope.spawn(|| registry.resume(&hosted));
        let found = registry.find(&hosted.record().id).unwrap();
        let seen = (found.state(), found.desk().is_none(), registry.all().len());
        drop(steering);
        waits.join().unwrap().unwrap();
        seen
    });
    assert_eq!(others, (State::Stopped, true, 1));
    registry.close();
    registry.join();
}

#[test]
fn a_deleted_search_does_not_come_back_by_a_late_wish() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, hosted) = stopped(folder.path(), "a");
    registry.delete(&hosted.record().id).unwrap();
    let share = Share { weight: NonZeroU32::MIN, priority: 3 };
    assert!(hosted.amend(|record| record.share = share).is_err());
    assert!(registry.resume(&hosted).is_err());
    assert!(!hosted.folder().root().exists());
}
