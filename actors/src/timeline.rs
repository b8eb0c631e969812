//! The timeline: who held which trial from when to when, read off the journal's transitions. Reports draw it; utilisation
//! is measured on it. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::device::Place;
use crate::event::{Event, ReleaseCause, Role, Transition};
use crate::ids::{Attempt, TrialId};

/// One lease, from its beginning to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span {
    /// Who held it.
    pub device: Place,
    /// For what.
    pub role: Role,
    /// Which trial.
    pub trial: TrialId,
    /// Which attempt.
    pub attempt: Attempt,
    /// From when, in milliseconds of the search's time.
    pub from_ms: u64,
    /// To when.
    pub to_ms: u64,
    /// How it ended.
    pub end: SpanEnd,
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SpanEnd {
    /// With what it was for.
    Done,
    /// By the stopping rule, for good.
    Stopped,
    /// By the stopping rule, until a promotion.
    Paused,
    /// With a failure.
    Failed,
    /// Given back because the device was taken away.
    Detached,
    /// Given back unfinished, or still held.
    GivenBack,
}

/// All leases of a search.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// In the order in which they ended.
    pub spans: Vec<Span>,
    /// The time of the last transition.
    pub end_ms: u64,
}

impl Timeline {
    /// The timeline of these transitions, in their order.
    pub fn of<'a>(transitions: impl IntoIterator<Item = &'a Transition>) -> Self {
        let mut open: BTreeMap<TrialId, Span> = BTreeMap::new();
        let mut timeline = Self::default();
        for Transition { at_ms, trial, event } in transitions {
            timeline.end_ms = timeline.end_ms.max(*at_ms);
            let end = match event {
                Event::Leased(leased) => {
                    let span = Span {
                        device: leased.device.clone(),
                        role: leased.role,
                        trial: *trial,
                        attempt: leased.attempt,
                        from_ms: *at_ms,
                        to_ms: *at_ms,
                        end: SpanEnd::GivenBack,
                    };
                    open.insert(*trial, span);
                    continue;
                }
                Event::Trained(_) | Event::Finished(_) => SpanEnd::Done,
                Event::Stopped(_) => SpanEnd::Stopped,
                Event::AttemptFailed(_) | Event::Failed(_) => SpanEnd::Failed,
                Event::Released(released) => match released.cause {
                    ReleaseCause::Paused => SpanEnd::Paused,
                    ReleaseCause::Detached => SpanEnd::Detached,
                    ReleaseCause::Shutdown | ReleaseCause::Interrupted | ReleaseCause::NotStarted => SpanEnd::GivenBack,
                },
                Event::Proposed(_) | Event::Noted(_) | Event::Reported(_) | Event::Promoted(_) => continue,
            };
            if let Some(span) = open.remove(trial) {
                timeline.spans.push(Span { to_ms: *at_ms, end, ..span });
            }
        }
        let end_ms = timeline.end_ms;
        timeline.spans.extend(open.into_values().map(|span| Span { to_ms: end_ms, ..span }));
        timeline
    }

    /// The devices that held anything in this role.
    pub fn devices(&self, role: Role) -> BTreeSet<&Place> {
        self.spans.iter().filter(|span| span.role == role).map(|span| &span.device).collect()
    }

    /// The share of the whole search that the devices of this role were at work: busy time over wall time, the drain at
    /// the end included. `None` for a search that has not run.
    pub fn busy_share(&self, role: Role) -> Option<f64> {
        let devices = self.devices(role).len();
        let busy: u64 = self.spans.iter().filter(|span| span.role == role).map(|span| span.to_ms - span.from_ms).sum();
        let wall = self.end_ms * devices as u64;
        (wall > 0).then(|| busy as f64 / wall as f64)
    }
}
