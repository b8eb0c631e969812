//! The format of torch.save before 1.6 (`_use_new_zipfile_serialization=False`): five pickles in a row (magic number,
//! protocol, facts about the machine, the object, the storages' keys), then for each key the number of elements as
//! int64 and the elements. torchvision's detector files are of this kind. In: the file's bytes. Out: the object's
//! pickle and where each storage is.

use std::collections::BTreeMap;

use super::cursor::Cursor;
use super::fault::{Fault, Flaw, Result};
use super::pickle::Pickle;
use super::storage::{Bytes, Declared, Stored};
use super::value::{Id, Value};

/// 0x1950a86a20f9469cfc6c as a pickle of protocol 2 holds it.
const MAGIC: &[u8] = &[0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

const PROTOCOL: i64 = 1001;

/// Whether the bytes start with torch's magic number, in whatever protocol it was pickled.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    let head = &bytes[..bytes.len().min(32)];
    head.first() == Some(&0x80) && head.windows(MAGIC.len()).any(|window| window == MAGIC)
}

/// Reads everything but the tensors.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Stored<'_>)> {
    let limit = bytes.len() as u64;
    let cursor = &mut Cursor::new(bytes, 0);
    let magic = Pickle::read(cursor, limit)?;
    if !matches!(magic.get(magic.root()), Value::Long(number) if *number == MAGIC) {
        return Err(Flaw::new(0, Fault::NotTorch));
    }
    let at = cursor.at();
    let protocol = Pickle::read(cursor, limit)?;
    if !matches!(protocol.get(protocol.root()), Value::Int(PROTOCOL)) {
        return Err(Flaw::new(at, Fault::Pickle("a version of torch's format other than 1001")));
    }
    check_machine(cursor, limit)?;
    let object = Pickle::read(cursor, limit)?;
    let at = cursor.at();
    let keys = Pickle::read(cursor, limit)?;
    let Value::List(ids) = keys.get(keys.root()) else {
        return Err(Flaw::new(at, Fault::Pickle("the storages' keys are no list")));
    };
    let declared = Declared::of(&object)?;
    let stored = storages(cursor, &keys, ids, &declared)?;
    match cursor.left() {
        0 => Ok((object, Stored(stored))),
        left => Err(cursor.flaw(Fault::Trailing(left))),
    }
}

/// The dictionary about the machine that wrote the file: only its byte order matters.
fn check_machine(cursor: &mut Cursor<'_>, limit: u64) -> Result<()> {
    let at = cursor.at();
    let machine = Pickle::read(cursor, limit)?;
    let Value::Dict(facts) = machine.get(machine.root()) else {
        return Err(Flaw::new(at, Fault::Pickle("the facts about the machine are no dictionary")));
    };
    match machine.entry(facts, "little_endian").map(|id| machine.get(id)) {
        Some(Value::Bool(true)) => Ok(()),
        Some(Value::Bool(false)) => Err(Flaw::new(at, Fault::BigEndian)),
        _ => Err(Flaw::new(at, Fault::Pickle("the facts about the machine leave out its byte order"))),
    }
}

fn storages<'a>(
    cursor: &mut Cursor<'a>,
    keys: &Pickle<'a>,
    ids: &[Id],
    declared: &Declared<'a>,
) -> Result<BTreeMap<&'a str, Bytes<'a>>> {
    let mut stored = BTreeMap::new();
    for &id in ids {
        let at = cursor.at();
        let &Value::Text(key) = keys.get(id) else {
            return Err(Flaw::new(at, Fault::Pickle("a storage's key is no text")));
        };
        let fault = |reason: String| Flaw::new(at, Fault::Storage { key: key.chars().take(80).collect(), reason });
        let Some(storage) = declared.get(key) else {
            return Err(fault("listed, but no tensor says what it holds".to_owned()));
        };
        let count = cursor.u64("a storage's number of elements")?;
        if count != storage.whole as u64 {
            return Err(fault(format!("holds {count} elements, the tensors say {}", storage.whole)));
        }
        let length = count.saturating_mul(storage.kind.elt_size_in_bytes() as u64);
        let start = cursor.at();
        let bytes = cursor.take(length, "a storage's elements")?;
        if stored.insert(key, Bytes { bytes, at: start }).is_some() {
            return Err(fault("listed twice".to_owned()));
        }
    }
    Ok(stored)
}
