//! Studies: searches whose trials are trained by clients, by ask and tell. A study is an ordinary search of the engine, with
//! its journal, its rules and its front; its trainers stand for clients (`external`), whom they meet at a desk (`desk`), and
//! ask for work only when a client does.

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use spnas_actors::device::{Device, Place};
use spnas_actors::journal::{JournalError, JournalReader};
use spnas_actors::{SearchEnd, WorkPermits, journal_path};

use super::hosted::Screen;
use crate::pipeline::task_folder::{FileError, read};
use crate::pipeline::{RunEnd, Watcher, end_of};

pub(crate) mod desk;
mod external;
mod space;
pub(crate) mod spec;
mod stopping;

pub(crate) use desk::Desk;
use external::External;
use spec::StudySpec;

/// The name of a study's only step.
pub(crate) const STEP: &str = "study";

/// The file with a study's specification in its folder.
pub(crate) const FILE: &str = "study.json";

/// The specification in a study's folder.
pub(crate) fn load(folder: &Path) -> Result<StudySpec, FileError> {
    let path = folder.join(FILE);
    serde_json::from_slice(&read(&path)?).map_err(std::io::Error::other).map_err(FileError::new("read", &path))
}

/// Runs a study to its end, from where its journal stands.
pub(crate) fn run(screen: &mut Screen) -> Result<RunEnd, String> {
    let folder = screen.folder().clone();
    let spec = load(folder.root()).map_err(|error| error.to_string())?;
    let study =
        spec.check().map_err(|faults| faults.into_iter().map(|fault| fault.detail).collect::<Vec<_>>().join("; "))?;
    let fingerprint = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
    let permits = WorkPermits::default();
    let desk = Arc::new(Desk::new(permits.clone(), study.lease, study.judged()));
    let for_trainers = desk.clone();
    let devices = (0..study.at_once.get()).map(|index| Device::new(Place::Cpu { index }, 1));
    let search = study
        .search()?
        .fingerprint(blake3::hash(&fingerprint).to_hex().to_string())
        .folder(folder.search(STEP))
        .permits(permits)
        .trainers(devices, move |_| Ok(External::new(for_trainers.clone())));
    let journal = journal_path(&folder.search(STEP));
    let resumes = journal.exists() && !matches!(JournalReader::open(&journal), Err(JournalError::Absent { .. }));
    if !screen.goes_on() {
        return Ok(RunEnd::Stopped);
    }
    let handle = if resumes { search.resume() } else { search.start() }.map_err(|error| error.to_string())?;
    screen.begins::<Value>(STEP, study.trials, study.epochs, &handle);
    screen.opens(desk.clone());
    let outcome = handle.wait();
    desk.close();
    screen.ends();
    // One whose trials have all failed has failed, as a step of a pipeline has.
    let end = end_of(STEP, study.trials, outcome.map_err(|error| error.to_string())?);
    match end.map_err(|error| error.to_string())? {
        SearchEnd::Complete => Ok(RunEnd::Complete),
        SearchEnd::Stopped => Ok(RunEnd::Stopped),
        SearchEnd::Broken(why) => Err(why),
    }
}
