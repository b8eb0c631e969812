//! The weight store's files: one a blob, written whole or not at all, and checked when read.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::ids::WeightsId;
use crate::weights::WeightsError;

const EXTENSION: &str = "safetensors";

/// How the name of a file begins that is still being written; the number of the process that writes it follows.
const UNFINISHED: &str = ".unfinished-";

/// Makes the folder where needed, removes what was left half-written, and lists the blobs with their bytes.
pub(super) fn open(folder: &Path) -> Result<Vec<(WeightsId, u64)>, WeightsError> {
    fs::create_dir_all(folder).map_err(io_error("make the folder", folder))?;
    let mut found = Vec::new();
    for shelf in list(folder)? {
        let shelf = shelf.path();
        if !shelf.is_dir() {
            continue;
        }
        for file in list(&shelf)? {
            let path = file.path();
            let name = file.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.starts_with(UNFINISHED) {
                fs::remove_file(&path).map_err(io_error("remove the half-written file", &path))?;
            } else if let Some(id) = id_of(name) {
                found.push((id, file.metadata().map_err(io_error("look at", &path))?.len()));
            }
        }
    }
    Ok(found)
}

/// The file of a blob.
pub(super) fn path(folder: &Path, id: &WeightsId) -> Result<PathBuf, WeightsError> {
    // Only digits may become part of a path.
    id.check()?;
    Ok(folder.join(&id.as_str()[..2]).join(format!("{id}.{EXTENSION}")))
}

/// How the name of a file begins that this process is still writing.
fn unfinished_of(process: u32) -> String {
    format!("{UNFINISHED}{process}-")
}

/// Removes what a process that has ended left half-written.
#[cfg(unix)]
pub(super) fn remove_unfinished_of(folder: &Path, process: u32) -> Result<(), WeightsError> {
    let prefix = unfinished_of(process);
    for shelf in list(folder)?.into_iter().map(|shelf| shelf.path()).filter(|shelf| shelf.is_dir()) {
        for file in list(&shelf)?.into_iter().filter(|file| file.file_name().to_string_lossy().starts_with(&prefix)) {
            let path = file.path();
            fs::remove_file(&path).map_err(io_error("remove the half-written file", &path))?;
        }
    }
    Ok(())
}

/// Writes a blob so that it is there completely, also after a power failure, or not at all.
pub(super) fn write(folder: &Path, id: &WeightsId, bytes: &[u8]) -> Result<(), WeightsError> {
    let path = path(folder, id)?;
    let shelf = path.parent().unwrap_or(folder);
    if !shelf.is_dir() {
        fs::create_dir_all(shelf).map_err(io_error("make the folder", shelf))?;
        sync_folder(folder)?;
    }
    let mut builder = tempfile::Builder::new();
    let prefix = unfinished_of(std::process::id());
    builder.prefix(&prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        // Readable by others as far as the umask allows, like any other result of a run.
        builder.permissions(fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(shelf).map_err(io_error("make a file in", shelf))?;
    file.write_all(bytes).map_err(io_error("write", &path))?;
    file.as_file().sync_all().map_err(io_error("flush", &path))?;
    file.persist(&path).map_err(|failed| io_error("name", &path)(failed.error))?;
    sync_folder(shelf)
}

/// The bytes of a blob, checked against its id.
pub(super) fn read(folder: &Path, id: &WeightsId) -> Result<Vec<u8>, WeightsError> {
    let path = path(folder, id)?;
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(WeightsError::Missing { id: id.clone(), path: Some(path) });
        }
        Err(error) => return Err(io_error("read", &path)(error)),
    };
    let found = WeightsId::of(&bytes);
    if found == *id { Ok(bytes) } else { Err(WeightsError::Corrupt { path, found }) }
}

/// Deletes a blob; one that is not there is deleted already.
pub(super) fn delete(folder: &Path, id: &WeightsId) -> Result<(), WeightsError> {
    let path = path(folder, id)?;
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("delete", &path)(error)),
        _ => Ok(()),
    }
}

fn list(folder: &Path) -> Result<Vec<fs::DirEntry>, WeightsError> {
    fs::read_dir(folder).and_then(Iterator::collect).map_err(io_error("list", folder))
}

/// Makes the names in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), WeightsError> {
    // Elsewhere a folder cannot be opened as a file, and renames are durable in their own time.
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("flush", folder))
    } else {
        Ok(())
    }
}

fn id_of(name: &str) -> Option<WeightsId> {
    name.strip_suffix(EXTENSION)?.strip_suffix('.')?.parse().ok()
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> WeightsError {
    let path = path.to_owned();
    move |source| WeightsError::Io { action, path, source }
}
