//! The task folder: where everything of a run lies, and how files in it are written.
//!
//! ```text
//! <task>/config.yml                     the resolved configuration that the run was begun with
//! <task>/steps.json                     which steps are done
//! <task>/output/<step>/                 desc_N.json model_N.safetensors performance_N.json output.csv front.json
//!                                       test.json detections.json: the best network on the test images
//! <task>/output/reports.json            every trial of every step
//! <task>/workers/<step>/                journal.sqlite and weights/ of the step's search
//! <task>/logs/                          pipeline.log, and <step>_worker_N.log for each trial;
//!                                       <step>_processes/ what workers' processes write, where there are any
//! ```

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A run's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFolder {
    root: PathBuf,
}

/// A file or folder that could not be used.
#[derive(Debug, thiserror::Error)]
#[error("failed to {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// On what.
    pub path: PathBuf,
    /// Why it failed.
    pub source: std::io::Error,
}

impl FileError {
    /// The error of `action` on `path`.
    pub(crate) fn new<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(std::io::Error) -> Self + use<'a> {
        move |source| Self { action, path: path.to_owned(), source }
    }
}

impl TaskFolder {
    /// The folder at `root`.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration that the run was begun with.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.yml")
    }

    /// Which steps are done.
    pub fn steps(&self) -> PathBuf {
        self.root.join("steps.json")
    }

    /// What users take home of a step.
    pub fn output(&self, step: &str) -> PathBuf {
        self.root.join("output").join(step)
    }

    /// Every trial of every step.
    pub fn reports(&self) -> PathBuf {
        self.root.join("output/reports.json")
    }

    /// The folders of the steps' searches.
    pub fn workers(&self) -> PathBuf {
        self.root.join("workers")
    }

    /// The folder of a step's search: its journal and weights.
    pub fn search(&self, step: &str) -> PathBuf {
        self.workers().join(step)
    }

    /// The logs.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }
}

/// Makes a folder and those above it, so that they are there after a power failure.
///
/// # Errors
/// Where it cannot be made.
pub fn make_folder(path: &Path) -> Result<(), FileError> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(above) = above(path) {
        make_folder(above)?;
    }
    let made = match std::fs::create_dir(path) {
        // Another has made it in the meantime.
        Err(_) if path.is_dir() => Ok(()),
        made => made.and_then(|()| flush_folder_of(path)),
    };
    made.map_err(FileError::new("make the folder", path))
}

/// Writes a file whole or not at all, also at a power failure: a temporary file beside it, synced, renamed, and the folder
/// synced, which holds the name.
///
/// # Errors
/// Where it cannot be written; an earlier file of this name is then untouched.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let folder = folder_of(path);
    make_folder(folder)?;
    let written = || -> std::io::Result<()> {
        let mut builder = tempfile::Builder::new();
        // Temporary files are private; these become what everyone reads, as far as the umask allows.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        flush_folder_of(path)
    };
    written().map_err(FileError::new("write", path))
}

/// Makes the name of a file durable.
fn flush_folder_of(path: &Path) -> std::io::Result<()> {
    // Elsewhere a folder cannot be opened as a file, and renames are durable in their own time.
    match cfg!(unix) {
        true => std::fs::File::open(folder_of(path))?.sync_all(),
        false => Ok(()),
    }
}

/// The folder in which a file is.
fn folder_of(path: &Path) -> &Path {
    above(path).unwrap_or(Path::new("."))
}

/// The folder that a path names before its last part.
fn above(path: &Path) -> Option<&Path> {
    path.parent().filter(|folder| !folder.as_os_str().is_empty())
}

/// Writes a value as indented JSON.
///
/// # Errors
/// Where it cannot be written.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), FileError> {
    let text = serde_json::to_vec_pretty(value).map_err(std::io::Error::other);
    let mut text = text.map_err(FileError::new("write", path))?;
    text.push(b'\n');
    write(path, &text)
}

/// Reads a whole file.
///
/// # Errors
/// Where it cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(FileError::new("read", path))
}

/// [`read`], where there is such a file.
///
/// # Errors
/// Where it cannot be read.
pub(super) fn read_if_any(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match std::fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some).map_err(FileError::new("read", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_with_those_above_them_and_a_file_in_the_way_is_named() {
        let top = tempfile::tempdir().unwrap();
        let deep = top.path().join("a/b/../c");
        make_folder(&deep).unwrap();
        make_folder(&deep).unwrap();
        assert!(top.path().join("a/c").is_dir());
        write(&deep.join("file"), b"text").unwrap();
        assert!(make_folder(&deep.join("file/d")).unwrap_err().to_string().contains("file"));
    }

    #[test]
    fn who_has_an_earlier_file_open_keeps_all_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, earlier) = (folder.path().join("file"), folder.path().join("earlier"));
        write(&path, b"first").unwrap();
        std::fs::hard_link(&path, &earlier).unwrap();
        write(&path, b"second").unwrap();
        assert_eq!((read(&earlier).unwrap(), read(&path).unwrap()), (b"first".to_vec(), b"second".to_vec()));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
    }
}
