//! Ctrl-C and SIGTERM: the first ends what runs in good order, the second ends the process.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Signals that come so close together are one.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// The exit code of a run that was told twice to stop, by custom that of an interrupt.
const LEFT_AT_ONCE: i32 = 130;

/// Calls `stop` at the first signal, on a thread of its own. The second ends the process.
///
/// # Errors
/// Where the system gives no handler.
pub(super) fn on_signals(stop: impl Fn() + Send + 'static) -> Result<(), ctrlc::Error> {
    let stopping: Mutex<Option<Instant>> = Mutex::default();
    let set = ctrlc::set_handler(move || {
        let mut since = stopping.lock().unwrap_or_else(PoisonError::into_inner);
        match *since {
            None => *since = Some(Instant::now()),
            // `make` and `timeout` pass on what the terminal has sent already.
            Some(since) if since.elapsed() < SAME_SIGNAL => return,
            // Not `process::exit`: libtorch's destructors must not run while its threads do.
            Some(_) => signal_hook::low_level::exit(LEFT_AT_ONCE),
        }
        stop();
    });
    match set {
        // A program that embeds this one handles its own signals.
        Err(ctrlc::Error::MultipleHandlers) => Ok(()),
        set => set,
    }
}
