//! Weights from `.pth` files of torch.save, in the format of its first years and in today's. In: a path. Out: the
//! named tensors of the state dict in it, on the host.
//!
//! A file is data from strangers. No code of it is run: its pickle may use only the names in a fixed table (`value`),
//! and those stand for plain data here. Memory is bounded by the file: its bytes are mapped, each storage is copied
//! once however many tensors view it, entries of archives may neither be compressed nor overlap, and the pickle's values
//! are bounded by its length. Every fault names its byte.
//!
//! ```text
//!  bytes ─┬─ legacy ──┬─► pickle (cursor, call, value) ──► state_dict ──► storage ──► tensors
//!         └─ archive ─┘
//! ```

mod archive;
mod call;
mod cursor;
mod fault;
mod legacy;
mod pickle;
mod state_dict;
mod storage;
mod value;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::Tensors;
use super::file::Mapped;
pub use fault::{Fault, Flaw};

/// Why a `.pth` file could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PthError {
    /// The file cannot be opened or mapped.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The file is no such file, damaged, or holds what a file of weights must not.
    #[error("{}: {flaw}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Where in it and what.
        flaw: Flaw,
    },
}

/// The tensors of a file's state dict, in the elements' own kinds, on the host. Tensors that share a storage in the file
/// share it here, and strides are the file's: change a copy, not the tensor.
///
/// A dictionary under `state_dict`, `model_state_dict`, `model`, `weight` or `weights` is preferred to the one around it.
/// The file must not be changed while it is read.
///
/// # Errors
/// [`PthError`]: what is wrong and at which byte.
pub fn read(path: &Path) -> Result<Tensors, PthError> {
    let mapped = Mapped::open(path).map_err(|source| PthError::Io { path: path.to_owned(), source })?;
    from_bytes(&mapped).map_err(|flaw| PthError::Invalid { path: path.to_owned(), flaw })
}

/// As [`read`], from a file's bytes.
///
/// # Errors
/// A [`Flaw`]: what is wrong and at which byte.
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors, Flaw> {
    let (pickle, stored) = if archive::is_archive(bytes) {
        archive::read(bytes)?
    } else if legacy::is_legacy(bytes) {
        legacy::read(bytes)?
    } else {
        return Err(Flaw::new(0, Fault::NotTorch));
    };
    let mut made: BTreeMap<&str, Tensor> = BTreeMap::new();
    let mut tensors = Tensors::new();
    for (name, view) in state_dict::tensors(&pickle, 0)? {
        tensors.insert(name.to_owned(), stored.tensor(view, &mut made)?);
    }
    Ok(tensors)
}

/// Whether the bytes look like a file of torch.save.
pub(super) fn is_pth(bytes: &[u8]) -> bool {
    archive::is_archive(bytes) || legacy::is_legacy(bytes)
}

#[cfg(test)]
mod tests;
