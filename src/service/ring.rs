//! The ring of a search's latest events, for whoever watches it live. Events come in from one thread and go out to any number
//! of watchers; the ring is bounded in number and bytes, and a watcher who is too far behind loses the oldest and is told how
//! many. Nobody waits for a watcher.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use actix_web::web::Bytes;
use tokio::sync::watch;

/// Most events in the ring.
const EVENTS: usize = 4096;

/// Most bytes in the ring.
const BYTES: usize = 4 << 20;

/// Most events that are taken at once.
const BATCH: usize = 128;

/// A place among the journalled events of a search: its `seq` in the journal of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cursor {
    /// The step's number in the pipeline, from 0.
    pub(crate) step: usize,
    /// The last row that was seen; 0 before the first.
    pub(crate) seq: u64,
}

/// What a watcher finds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Events, ready to be sent, and the place behind them; none where all there were have been read from the journal.
    Events { text: Vec<Bytes>, next: u64 },
    /// So many are gone; the first that is left has this place.
    Lost { events: u64, next: u64 },
    /// Nothing new.
    Nothing,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Ring {
    events: Mutex<Events>,
    /// Changes with each event; closed with the ring.
    grown: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Events {
    /// How many were pushed before the first that is left.
    gone: u64,
    left: VecDeque<(Option<Cursor>, Bytes)>,
    bytes: usize,
    /// The last journalled event that was pushed.
    last: Option<Cursor>,
}

impl Events {
    fn next(&self) -> u64 {
        self.gone + self.left.len() as u64
    }
}

impl Default for Ring {
    fn default() -> Self {
        Self { events: Mutex::default(), grown: watch::Sender::new(0) }
    }
}

impl Ring {
    /// Adds an event; `at` is where the journal has it, if it does.
    pub(crate) fn push(&self, at: Option<Cursor>, text: Bytes) {
        let mut events = self.events();
        events.bytes += text.len();
        events.last = at.or(events.last);
        events.left.push_back((at, text));
        while events.left.len() > EVENTS || events.bytes > BYTES {
            let Some((_, text)) = events.left.pop_front() else { break };
            events.bytes -= text.len();
            events.gone += 1;
        }
        let next = events.next();
        drop(events);
        self.grown.send_replace(next);
    }

    /// Notes that everything up to `at` lies behind every watcher who begins now: the journal has it.
    pub(crate) fn passed(&self, at: Cursor) {
        self.events().last = Some(at);
    }

    /// Tells when events are added.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.grown.subscribe()
    }

    /// The place behind the newest event.
    pub(crate) fn end(&self) -> u64 {
        self.events().next()
    }

    /// The place of the first event after `cursor`, where the ring still has all of them.
    pub(crate) fn after(&self, cursor: Cursor) -> Option<u64> {
        let events = self.events();
        let first = events.left.iter().find_map(|(at, _)| *at);
        // One that is directly before the first is as good as in it.
        let follows = |first: Cursor| first.step == cursor.step && first.seq <= cursor.seq.saturating_add(1);
        if events.last.is_some_and(|last| last <= cursor) {
            return Some(events.next());
        }
        if !first.is_some_and(follows) {
            return None;
        }
        let seen = events.left.iter().take_while(|(at, _)| at.is_none_or(|at| at <= cursor)).count();
        Some(events.gone + seen as u64)
    }

    /// What there is from the place `next` on, but for what `read` says has been read from the journal: that may be ahead of
    /// the ring.
    pub(crate) fn take(&self, next: u64, read: Cursor) -> Found {
        let events = self.events();
        if next < events.gone {
            return Found::Lost { events: events.gone - next, next: events.gone };
        }
        let skip = usize::try_from(next - events.gone).unwrap_or(usize::MAX);
        let found = events.left.iter().skip(skip).take(BATCH);
        let next = next + found.len() as u64;
        if found.len() == 0 {
            return Found::Nothing;
        }
        let unread = found.filter(|(at, _)| at.is_none_or(|at| at > read));
        Found::Events { text: unread.map(|(_, text)| text.clone()).collect(), next }
    }

    fn events(&self) -> MutexGuard<'_, Events> {
        // Each change is whole before the lock is given back.
        self.events.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Option<Cursor> {
        Some(Cursor { step: 0, seq })
    }

    #[test]
    fn a_watcher_gets_every_event_once_and_in_order() {
        let ring = Ring::default();
        let mut wakes = ring.subscribe();
        assert_eq!(ring.take(0, Cursor::default()), Found::Nothing);
        ring.push(at(1), Bytes::from_static(b"a"));
        ring.push(None, Bytes::from_static(b"b"));
        assert!(wakes.has_changed().unwrap());
        wakes.mark_unchanged();
        let Found::Events { text, next } = ring.take(0, Cursor::default()) else { panic!("two events") };
        assert_eq!((text.concat(), next), (b"ab".to_vec(), 2));
        assert_eq!(ring.take(next, Cursor::default()), Found::Nothing);
    }

    #[test]
    fn what_was_read_from_the_journal_ahead_of_the_ring_is_not_told_again() {
        let ring = Ring::default();
        ring.push(at(1), Bytes::from_static(b"a"));
        let read = Cursor { step: 0, seq: 3 };
        let live = ring.after(read).unwrap();
        ring.push(at(2), Bytes::from_static(b"b"));
        ring.push(at(3), Bytes::from_static(b"c"));
        assert_eq!(ring.take(live, read), Found::Events { text: Vec::new(), next: 3 });
        ring.push(at(4), Bytes::from_static(b"d"));
        let Found::Events { text, .. } = ring.take(live, read) else { panic!("one event") };
        assert_eq!(text.concat(), b"d");
    }

    #[test]
    fn who_is_too_far_behind_is_told_how_many_are_gone() {
        let ring = Ring::default();
        for seq in 1..=(EVENTS as u64 + 10) {
            ring.push(at(seq), Bytes::from_static(b"x"));
        }
        assert_eq!(ring.take(3, Cursor::default()), Found::Lost { events: 7, next: 10 });
        assert!(matches!(ring.take(10, Cursor::default()), Found::Events { .. }));
        assert_eq!(ring.after(Cursor { step: 0, seq: 5 }), None, "the journal has them");
        assert_eq!(ring.after(Cursor { step: 0, seq: 10 }), Some(10));
        assert_eq!(ring.after(Cursor { step: 0, seq: 20 }), Some(20));
    }

    #[test]
    fn the_ring_is_bounded_in_bytes_too() {
        let ring = Ring::default();
        let large = Bytes::from(vec![b'x'; BYTES / 4]);
        (1..=40).for_each(|seq| ring.push(at(seq), large.clone()));
        assert!(ring.events().bytes <= BYTES);
        assert_eq!(ring.events().left.len(), 4);
    }

    #[test]
    fn what_was_seen_of_an_earlier_step_is_found_in_the_journal() {
        let ring = Ring::default();
        assert_eq!(ring.after(Cursor::default()), None, "nothing is known yet");
        ring.push(Some(Cursor { step: 1, seq: 1 }), Bytes::from_static(b"x"));
        assert_eq!(ring.after(Cursor { step: 0, seq: 9 }), None);
        assert_eq!(ring.after(Cursor { step: 1, seq: 0 }), Some(0));
        assert_eq!(ring.after(Cursor { step: 1, seq: 1 }), Some(1), "all of it is seen");
    }
}
