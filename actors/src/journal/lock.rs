//! The lock that lets one driver at a time write a journal: an advisory lock on a file beside it, which the operating
//! system drops with the process, however that ends. The file's content only says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::journal::JournalError;

/// The right to write a journal, held while a driver has it open; also by who moves or deletes its folder, so that no driver
/// does so meanwhile.
#[derive(Debug)]
pub struct Lock {
    /// The file stays: removing it could remove another driver's.
    file: File,
}

/// Closing the file alone would leave the lock to a process that is being started at this moment, which has a copy of all open
/// files until its program takes over.
impl Drop for Lock {
    fn drop(&mut self) {
        // What cannot be unlocked is given back when the last copy is closed.
        let _ = self.file.unlock();
    }
}

impl Lock {
    /// Takes the lock of the journal at this path, whose folder must be there.
    ///
    /// # Errors
    /// [`JournalError::Locked`] where another has it; [`JournalError::Io`] where there can be no lock file.
    pub fn take(journal: &Path) -> Result<Self, JournalError> {
        let path = path(journal);
        let io = |action, source| JournalError::Io { action, path: path.clone(), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(|source| io("open the lock file", source))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(JournalError::Locked { path: journal.to_owned(), holder: holder(&mut file) });
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", source)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        write(&mut file).map_err(|source| io("write the lock file", source))?;
        Ok(Self { file })
    }
}

fn path(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

/// Who wrote the lock file; unknown for the moment between locking and writing.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gives_it_back_has_it_no_more_though_another_has_a_copy_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.sqlite");
        let lock = Lock::take(&journal).unwrap();
        let copy = lock.file.try_clone().unwrap();
        assert!(matches!(Lock::take(&journal), Err(JournalError::Locked { .. })));
        drop(lock);
        assert!(Lock::take(&journal).is_ok());
        drop(copy);
    }
}
