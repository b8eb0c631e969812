//! The reins of a run: whoever holds a [`Control`] stops, pauses and goes on with it from any thread, whichever of its
//! steps is running. Commands come in; they go to the search of the present step, and to those of the steps after it.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use spnas_actors::device::Place;
use spnas_actors::{Command, Leave, Remote};

/// A way to steer a run. A clone steers the same run.
#[derive(Clone, Default)]
pub struct Control(Arc<Reins>);

/// The devices that runs are to leave alone for now, and how they leave them. A clone is the same list, which several runs may
/// have in common.
#[derive(Debug, Clone, Default)]
pub struct Away(Arc<Mutex<BTreeMap<Place, Leave>>>);

impl Away {
    /// Adds a device, or takes it from the list.
    pub fn set(&self, place: &Place, away: Option<Leave>) {
        let mut list = self.list();
        match away {
            Some(leave) => _ = list.insert(place.clone(), leave),
            None => _ = list.remove(place),
        }
    }

    /// The list as it is now.
    pub fn now(&self) -> BTreeMap<Place, Leave> {
        self.list().clone()
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<Place, Leave>> {
        // Each change is whole before the lock is given back.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
struct Reins {
    away: Away,
    steered: Mutex<Steered>,
    /// Wakes who waits for the end of a pause.
    changed: Condvar,
}

#[derive(Default)]
struct Steered {
    /// The search that runs now.
    search: Option<Remote>,
    stopping: bool,
    paused: bool,
}

impl Control {
    /// The reins of a run whose searches leave these devices alone from their beginning.
    pub fn leaving(away: Away) -> Self {
        Self(Arc::new(Reins { away, ..Reins::default() }))
    }

    /// The devices that are to be left alone now.
    pub fn away(&self) -> Vec<Place> {
        self.0.away.now().into_keys().collect()
    }

    /// Takes a device away from the search that runs now, or gives it back; the searches after it go by the list. Blocks until
    /// no new attempt can begin there, so not to be called from asynchronous code.
    pub fn set_device(&self, place: &Place, away: Option<Leave>) {
        self.steered().set_device(place, away);
    }

    /// Ends the run at the next step of each training. Not taken back. Blocks until the search has the command, so not
    /// to be called from asynchronous code.
    pub fn stop(&self) {
        let mut steered = self.steered();
        steered.stopping = true;
        steered.tell(Command::Stop);
        self.0.changed.notify_all();
    }

    /// Lets trainings that run come to their end, and begins no other. Blocks like [`Control::stop`].
    pub fn pause(&self) {
        let mut steered = self.steered();
        steered.paused = true;
        steered.tell(Command::Pause);
    }

    /// Takes a pause back. Blocks like [`Control::stop`].
    pub fn resume(&self) {
        let mut steered = self.steered();
        steered.paused = false;
        steered.tell(Command::Resume);
        self.0.changed.notify_all();
    }

    /// Waits while the run is paused; whether it goes on after that, or was told to stop.
    pub fn goes_on(&self) -> bool {
        let waits = |steered: &mut Steered| steered.paused && !steered.stopping;
        let waited = self.0.changed.wait_while(self.steered(), waits);
        !waited.unwrap_or_else(PoisonError::into_inner).stopping
    }

    /// Whether the run is paused.
    #[cfg(test)]
    pub(crate) fn is_paused(&self) -> bool {
        self.steered().paused
    }

    /// From now on this search is meant; what the run was told before, it is told too.
    pub fn attach(&self, search: Remote) {
        let mut steered = self.steered();
        steered.search = Some(search);
        // It began without them; what was taken away since it asked is not with it yet.
        for (place, leave) in self.0.away.now() {
            steered.set_device(&place, Some(leave));
        }
        match (steered.stopping, steered.paused) {
            (true, _) => steered.tell(Command::Stop),
            (false, true) => steered.tell(Command::Pause),
            (false, false) => {}
        }
    }

    /// The search is over.
    pub fn detach(&self) {
        self.steered().search = None;
    }

    fn steered(&self) -> MutexGuard<'_, Steered> {
        // Each change is whole before the lock is given back.
        self.0.steered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Steered {
    fn tell(&self, command: Command) {
        if let Some(search) = &self.search {
            // One that is over needs no word.
            search.send(command);
        }
    }

    fn set_device(&self, place: &Place, away: Option<Leave>) {
        let Some(search) = &self.search else { return };
        // A search that has no worker there, or is over, is none the worse.
        let _ = match away {
            Some(leave) => search.detach(place, leave),
            None => search.attach(place),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_holds_the_next_step_back_until_it_is_over() {
        let control = Control::default();
        assert!(control.goes_on());
        control.pause();
        let steers = control.clone();
        let waiting = std::thread::spawn(move || steers.goes_on());
        control.resume();
        assert!(waiting.join().unwrap());
        control.pause();
        let steers = control.clone();
        let waiting = std::thread::spawn(move || steers.goes_on());
        control.stop();
        assert!(!waiting.join().unwrap());
        control.resume();
        assert!(!control.goes_on(), "a stop is not taken back");
    }
}
