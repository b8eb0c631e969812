//! The screen of a search's thread: what the pipeline, or the study, tells while it runs goes to the service through here, and
//! what clients want comes back as control and share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::de::DeserializeOwned;
use spnas_actors::broker::Share as DeviceShare;
use spnas_actors::device::Place;
use spnas_actors::journal::JournalReader;
use spnas_actors::{Assignment, SearchHandle, error_chain};

use super::{Hosted, Now};
use crate::arch::Architecture;
use crate::config::{self, Options};
use crate::pipeline::control::Control;
use crate::pipeline::task_folder::TaskFolder;
use crate::pipeline::{self, RunEnd, Watcher};
use crate::service::folded::{FoldError, Folded};
use crate::service::follower::{Follow, Follower};
use crate::service::ring::Cursor;
use crate::service::study::Desk;

/// What a search's thread tells the service.
pub(crate) struct Screen {
    hosted: Arc<Hosted>,
    control: Control,
    share: DeviceShare,
    follower: Option<Follower>,
    /// The last row of each step's journal before this run.
    before: BTreeMap<String, u64>,
}

impl Screen {
    pub(super) fn new(hosted: Arc<Hosted>, control: Control, share: DeviceShare) -> Self {
        let before = hosted.last_rows();
        Self { hosted, control, share, follower: None, before }
    }

    /// The search's folder.
    pub(crate) fn folder(&self) -> &TaskFolder {
        &self.hosted.folder
    }

    /// Clients may ask and tell from now on.
    pub(crate) fn opens(&self, desk: Arc<Desk>) {
        let mut inner = self.hosted.inner();
        inner.desk = Some(desk);
        self.hosted.tell(&inner);
    }

    /// Runs the steps of its configuration, from where they stand.
    pub(super) fn pipeline(&mut self) -> Result<RunEnd, String> {
        let folder = self.hosted.folder.clone();
        let checked = config::load(&folder.config(), &Options::default()).map_err(|errors| errors.to_string())?;
        pipeline::go_on(&checked, &folder, self).map_err(|error| error_chain(&error))
    }

    /// A step's search has begun.
    pub(crate) fn begins<C: DeserializeOwned>(
        &mut self,
        step: &str,
        trials: u64,
        epochs: u32,
        search: &SearchHandle<C>,
    ) {
        let transitions = search.watch();
        let journal = self.hosted.journal(step);
        let before = self.before.get(step).copied().unwrap_or_default();
        let mut folded = Folded::new(search.objectives().to_vec());
        // What was there before is known before anybody looks: until then the step is one that does not run.
        let read = JournalReader::open(&journal).map_err(FoldError::from);
        if let Err(error) = read.and_then(|reader| folded.catch_up_to(before, &reader)) {
            tracing::error!(%error, step, "a step cannot be read");
        }
        let folded = Arc::new(Mutex::new(folded));
        let now =
            Now { step: step.to_owned(), trials, epochs, activities: search.activity_view(), folded: folded.clone() };
        let before = {
            let mut inner = self.hosted.inner();
            (inner.now, inner.kept) = (Some(Arc::new(now)), None);
            self.hosted.tell(&inner);
            let number = inner.record.steps.iter().position(|known| known == step).unwrap_or_default();
            Cursor { step: number, seq: before }
        };
        self.control.attach(search.remote());
        let (step, ring) = (step.to_owned(), self.hosted.ring.clone());
        match Follower::start(Follow { step, journal, transitions, folded, ring, before }) {
            Ok(follower) => self.follower = Some(follower),
            Err(error) => tracing::error!(%error, "a step cannot be followed"),
        }
    }

    /// It is over.
    pub(crate) fn ends(&mut self) {
        self.control.detach();
        if let Some(follower) = self.follower.take() {
            follower.finish();
        }
        self.hosted.step_ended();
    }
}

impl Watcher for Screen {
    fn step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Architecture>) {
        self.begins(step, trials, epochs, search);
    }

    fn program_step_begins(&mut self, step: &str, trials: u64, epochs: u32, search: &SearchHandle<Assignment>) {
        self.begins(step, trials, epochs, search);
    }

    fn step_ends(&mut self, _: &str) {
        self.ends();
    }

    fn goes_on(&mut self) -> bool {
        self.control.goes_on()
    }

    fn share(&self) -> Option<DeviceShare> {
        Some(self.share.clone())
    }

    fn away(&self) -> Vec<Place> {
        self.control.away()
    }
}
