//! The search's clock: milliseconds in which it has run. Under the runtime's paused time this is virtual time.

use tokio::time::Instant;

/// A clock that goes on where an interrupted search left off.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    base_ms: u64,
    since: Instant,
}

impl Clock {
    /// A clock that now shows `base_ms`. Needs a runtime.
    pub(crate) fn start(base_ms: u64) -> Self {
        Self { base_ms, since: Instant::now() }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.base_ms + u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
