//! The registry: all searches of a service, in one folder. At its start it finds what is in the folder and goes on with what
//! ran; new searches get a folder of their own before anyone is told of them. One service at a time has the folder.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use spnas_actors::Leave;
use spnas_actors::device::Place;

use super::hosted::{Hosted, Shared};
use super::problem::Problem;
use super::record::{Kind, Record, SearchId, Share};
use super::study;
use super::study::spec::StudySpec;
use crate::config::Checked;
use crate::pipeline::task_folder::{FileError, TaskFolder, make_folder, write, write_json};

/// The file that one service at a time has locked.
const LOCK: &str = "service.lock";

/// What a search is renamed to while it is deleted.
const DELETED: &str = ".deleted-";

/// Most searches that are kept; those that are over can be deleted.
const KEPT: usize = 10_000;

/// A folder that cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another service has it.
    #[error(
        "{} is served by {} already: stop that one, or serve another folder",
        folder.display(),
        holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Taken {
        /// The folder.
        folder: PathBuf,
        /// The other's process id, where its lock file tells.
        holder: Option<u32>,
    },
    /// A file of it.
    #[error(transparent)]
    File(#[from] FileError),
}

/// All searches.
pub(crate) struct Registry {
    folder: PathBuf,
    /// Closing it gives the folder back. The file stays: removing it could remove another service's.
    _lock: File,
    most_running: usize,
    shared: Shared,
    /// Had by whoever makes, resumes or deletes a search, or ends them all: no two get the same id, no more run than may, and
    /// none begins after the end has. Locked before `inner`.
    making: Mutex<()>,
    /// What the threads that answer requests read: locked for a moment, never while a file is written.
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    searches: BTreeMap<SearchId, Arc<Hosted>>,
    closing: bool,
}

/// A search to be.
pub(crate) struct Wish {
    pub(crate) id: Option<SearchId>,
    pub(crate) name: Option<String>,
    pub(crate) share: Share,
    pub(crate) what: What,
}

/// What it is to be.
pub(crate) enum What {
    Pipeline(Box<Checked>),
    Study(Box<StudySpec>),
}

impl Registry {
    /// Takes the folder, finds its searches, and goes on with those that ran.
    pub(crate) fn open(folder: &Path, most_running: usize) -> Result<Self, RegistryError> {
        make_folder(folder)?;
        let lock = take_lock(folder)?;
        let shared = Shared::default();
        let mut inner = Inner::default();
        let list = |source| FileError::new("list", folder)(source);
        for entry in std::fs::read_dir(folder).map_err(list)? {
            let path = entry.map_err(list)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
            if name.starts_with(DELETED) {
                // What a service that was killed had begun to delete.
                discard(&path);
            } else if path.is_dir() {
                match Record::read(&path) {
                    Ok(Some(record)) if record.id.as_str() == name => {
                        let id = record.id.clone();
                        let hosted = Hosted::new(TaskFolder::new(path), shared.clone(), record);
                        inner.searches.insert(id, hosted);
                    }
                    Ok(None) => {}
                    Ok(Some(record)) => {
                        tracing::warn!(id = %record.id, folder = name, "a folder was renamed: its search is left out");
                    }
                    Err(error) => tracing::error!(%error, "a search is left out"),
                }
            }
        }
        // Who begins first gets devices first.
        let mut all: Vec<(Record, &Arc<Hosted>)> =
            inner.searches.values().map(|hosted| (hosted.record(), hosted)).collect();
        all.sort_by_key(|(record, _)| (std::cmp::Reverse(record.share.priority), record.created_ms));
        for (record, hosted) in all {
            if record.goes_on() {
                tracing::info!(id = %record.id, "goes on");
                if let Err(problem) = hosted.go_on() {
                    tracing::error!(id = %record.id, %problem, "a search does not go on");
                }
            }
        }
        let (folder, making, inner) = (folder.to_owned(), Mutex::default(), Mutex::new(inner));
        Ok(Self { folder, _lock: lock, most_running, shared, making, inner })
    }

    /// The search of this id.
    pub(crate) fn find(&self, id: &SearchId) -> Result<Arc<Hosted>, Problem> {
        let found = self.inner().searches.get(id).cloned();
        found.ok_or_else(|| Problem::not_found(format!("there is no search `{id}`")))
    }

    /// All of them, the oldest first.
    pub(crate) fn all(&self) -> Vec<Arc<Hosted>> {
        let mut all: Vec<Arc<Hosted>> = self.inner().searches.values().cloned().collect();
        all.sort_by_cached_key(|hosted| {
            let record = hosted.record();
            (record.created_ms, record.id)
        });
        all
    }

    /// Makes a search and lets it run. It is on the disk when this returns. Blocks.
    pub(crate) fn create(&self, wish: Wish) -> Result<Arc<Hosted>, Problem> {
        let _making = self.making();
        let kept = {
            let inner = self.inner();
            inner.admits(self.most_running)?;
            inner.searches.len()
        };
        if kept >= KEPT {
            return Err(Problem::busy(format!("{KEPT} searches are kept: delete some")));
        }
        let exists = |id: &SearchId| self.folder.join(id.as_str()).symlink_metadata().is_ok();
        let id = match wish.id {
            Some(id) if exists(&id) => return Err(Problem::conflict(format!("there is `{id}` already"))),
            Some(id) => id,
            None => SearchId::unused(exists),
        };
        let (kind, steps) = match &wish.what {
            What::Pipeline(checked) => (Kind::Pipeline, checked.steps.iter().map(|step| step.name.clone()).collect()),
            What::Study(_) => (Kind::Study, vec![study::STEP.to_owned()]),
        };
        let folder = TaskFolder::new(self.folder.join(id.as_str()));
        let record = Record::new(id.clone(), kind, wish.name.unwrap_or_else(|| id.to_string()), wish.share, steps);
        let made = || {
            make_folder(folder.root())?;
            match &wish.what {
                What::Pipeline(checked) => write(&folder.config(), checked.to_yaml().as_bytes())?,
                What::Study(spec) => write_json(&folder.root().join(study::FILE), spec)?,
            }
            // The last: a folder without it is no search.
            record.write(folder.root())
        };
        made().map_err(|error| {
            // Nobody is told of it, so that its id stays free.
            discard(folder.root());
            Problem::internal(&error)
        })?;
        let hosted = Hosted::new(folder, self.shared.clone(), record);
        hosted.go_on()?;
        self.inner().searches.insert(id, hosted.clone());
        Ok(hosted)
    }

    /// Lets a search run that was stopped or failed. Blocks.
    pub(crate) fn resume(&self, hosted: &Arc<Hosted>) -> Result<(), Problem> {
        let _making = self.making();
        if !hosted.is_running() {
            self.inner().admits(self.most_running)?;
        }
        hosted.resume()
    }

    /// Takes a device away from all searches, those to come included, or gives it back. Blocks.
    pub(crate) fn set_device(&self, place: &Place, away: Option<Leave>) {
        // List and searches change together, and no search begins meanwhile that is in neither.
        let _making = self.making();
        self.shared.away.set(place, away);
        for hosted in self.all() {
            hosted.set_device(place, away);
        }
    }

    /// The devices that are away.
    pub(crate) fn away(&self) -> BTreeMap<Place, Leave> {
        self.shared.away.now()
    }

    /// Deletes a search that is over, with its folder. Blocks.
    pub(crate) fn delete(&self, id: &SearchId) -> Result<(), Problem> {
        let making = self.making();
        let deleted = self.folder.join(format!("{DELETED}{id}"));
        self.find(id)?.delete(&deleted)?;
        self.inner().searches.remove(id);
        drop(making);
        discard(&deleted);
        Ok(())
    }

    /// Begins the end: no search starts any more, and those that run are told to stop. Blocks.
    pub(crate) fn close(&self) {
        let _making = self.making();
        let running: Vec<Arc<Hosted>> = {
            let mut inner = self.inner();
            inner.closing = true;
            inner.searches.values().filter(|hosted| hosted.is_running()).cloned().collect()
        };
        running.iter().for_each(|hosted| hosted.shut_down());
    }

    /// Whether no search begins any more.
    pub(crate) fn is_closing(&self) -> bool {
        self.inner().closing
    }

    /// Waits for the searches to stop; how many a next service goes on with. Blocks.
    pub(crate) fn join(&self) -> usize {
        let all = self.all();
        while all.iter().any(|hosted| hosted.is_running()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        all.iter().filter(|hosted| hosted.record().goes_on()).count()
    }

    fn making(&self) -> MutexGuard<'_, ()> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Each change is whole before the lock is given back.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Whether another search may run.
    fn admits(&self, most_running: usize) -> Result<(), Problem> {
        if self.closing {
            return Err(Problem::busy("the service is ending"));
        }
        let running = self.searches.values().filter(|hosted| hosted.is_running()).count();
        match running < most_running {
            true => Ok(()),
            false => Err(Problem::busy(format!(
                "{running} searches run or are paused, which is the most: stop one, or wait"
            ))),
        }
    }
}

fn discard(folder: &Path) {
    if let Err(error) = std::fs::remove_dir_all(folder) {
        tracing::warn!(folder = %folder.display(), %error, "a deleted search is left on the disk");
    }
}

fn take_lock(folder: &Path) -> Result<File, RegistryError> {
    let path = folder.join(LOCK);
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
    let mut file = opened.map_err(FileError::new("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            // Unknown for the moment between locking and writing.
            let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            return Err(RegistryError::Taken { folder: folder.to_owned(), holder });
        }
        Err(TryLockError::Error(source)) => return Err(FileError::new("lock", &path)(source).into()),
    }
    let written = |file: &mut File| {
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())
    };
    written(&mut file).map_err(FileError::new("write", &path))?;
    Ok(file)
}

#[cfg(test)]
impl Wish {
    /// A wish for a study of three candidates, for tests.
    pub(crate) fn small_study(id: &str) -> Self {
        let spec = serde_json::json!({
            "candidates": [1, 2, 3], "objectives": [{"name": "score", "direction": "maximise"}],
        });
        Self {
            id: Some(id.parse().unwrap()),
            name: None,
            share: Share { weight: std::num::NonZeroU32::MIN, priority: 0 },
            what: What::Study(Box::new(serde_json::from_value(spec).unwrap())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_that_cannot_be_made_leaves_nothing_and_its_id_is_free() {
        let top = tempfile::tempdir().unwrap();
        // So long a path that the search's folder can be made, and no file in it.
        let mut folder = top.path().to_owned();
        while folder.as_os_str().len() + 202 < 4_080 {
            folder.push("x".repeat(200));
        }
        folder.push("x".repeat(4_079 - folder.as_os_str().len()));
        let registry = Registry::open(&folder, 1).unwrap();
        for _ in 0..2 {
            let failed = registry.create(Wish::small_study("a-long-id")).err().unwrap();
            assert!(failed.to_string().contains("too long"), "{failed}");
        }
        assert!(registry.all().is_empty());
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, [LOCK]);
    }
}
