//! Storages and the tensors that view them. In: what the pickle says of them, their bytes in the file. Out: tensors on
//! the host, which share a storage where the file's do, so that memory is that of the file once.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::fault::{Fault, Flaw, Result};
use super::pickle::Pickle;
use super::value::{Storage, Value, View};

/// What the pickle says about each key: one kind and one length.
#[derive(Debug)]
pub(super) struct Declared<'a>(BTreeMap<&'a str, Storage<'a>>);

impl<'a> Declared<'a> {
    /// Collects a pickle's storages.
    pub(super) fn of(pickle: &Pickle<'a>) -> Result<Self> {
        let mut declared: BTreeMap<&str, Storage> = BTreeMap::new();
        for value in pickle.values() {
            let Value::Storage(storage) = value else { continue };
            let first = declared.entry(storage.key).or_insert_with(|| (**storage).clone());
            if (first.kind, first.whole) != (storage.kind, storage.whole) {
                let reason = format!(
                    "{} elements of {:?} in one place, {} of {:?} in another",
                    first.whole, first.kind, storage.whole, storage.kind
                );
                return Err(flaw(storage, storage.at, reason));
            }
        }
        Ok(Self(declared))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Storage<'a>> {
        self.0.get(key)
    }
}

/// A storage's bytes and where in the file they start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: u64,
}

/// All storages of a file by their keys. They never overlap, so that all copies together are no larger than the file.
#[derive(Debug)]
pub(super) struct Stored<'a>(pub(super) BTreeMap<&'a str, Bytes<'a>>);

impl<'a> Stored<'a> {
    /// The tensor of a view. `made` keeps the storages that were read before.
    pub(super) fn tensor(&self, view: &View<'a>, made: &mut BTreeMap<&'a str, Tensor>) -> Result<Tensor> {
        let key = view.storage.key;
        if !made.contains_key(key) {
            made.insert(key, self.whole(&view.storage, view.at)?);
        }
        let Some(storage) = made.get(key) else {
            return Err(flaw(&view.storage, view.at, "lost".to_owned()));
        };
        storage
            .f_as_strided(&view.size, &view.stride, view.offset)
            .map_err(|error| Flaw::new(view.at, Fault::Torch(error)))
    }

    /// A storage as a vector.
    fn whole(&self, storage: &Storage<'a>, named_at: u64) -> Result<Tensor> {
        let Some(stored) = self.0.get(storage.key) else {
            return Err(flaw(storage, named_at, "named by a tensor, but not in the file".to_owned()));
        };
        let (width, length) = (storage.kind.elt_size_in_bytes() as u64, stored.bytes.len() as u64);
        // Here the copy below is kept within the bytes: libtorch is told the number of elements, not of bytes.
        if (storage.whole as u64).checked_mul(width) != Some(length) {
            let reason = format!("has {length} bytes, {} elements of {:?} were announced", storage.whole, storage.kind);
            return Err(flaw(storage, stored.at, reason));
        }
        let torch = |error| Flaw::new(stored.at, Fault::Torch(error));
        if storage.kind == Kind::Bool {
            // A bool other than 0 and 1 is undefined in C++.
            let bytes = Tensor::f_from_data_size(stored.bytes, &[storage.whole], Kind::Uint8).map_err(torch)?;
            return bytes.f_ne(0).map_err(torch);
        }
        Tensor::f_from_data_size(stored.bytes, &[storage.whole], storage.kind).map_err(torch)
    }
}

fn flaw(storage: &Storage, at: u64, reason: String) -> Flaw {
    Flaw::new(at, Fault::Storage { key: storage.key.chars().take(80).collect(), reason })
}
