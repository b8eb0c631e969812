//! The format of torch.save since 1.6: a zip archive (PKWARE's APPNOTE, sec. 4.3, 4.4.5, 4.5.3) of `NAME/data.pkl`,
//! `NAME/byteorder` and one entry a storage, `NAME/data/KEY`, all stored without compression. In: the file's bytes.
//! Out: the pickle and where each storage is, its checksum compared.
//!
//! The archive's tables are read here rather than by the crate `zip`: the entries are slices of the mapped file, every
//! fault has its offset, overlapping entries are refused (many could share one storage's bytes), and nothing is
//! allocated for entries that a header only claims.

use std::collections::BTreeMap;
use std::ops::Range;

use super::cursor::Cursor;
use super::fault::{Fault, Flaw, Result};
use super::pickle::Pickle;
use super::storage::{Bytes, Declared, Stored};

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;
const END_LENGTH: u64 = 22;
const LOCATOR64_LENGTH: u64 = 20;

/// One entry, as the directory says.
#[derive(Debug, Clone)]
struct Entry<'a> {
    name: &'a str,
    /// Its local header.
    header: u64,
    length: u64,
    checksum: u32,
    is_compressed: bool,
    /// Where the directory says so.
    at: u64,
}

/// Whether the bytes start with a zip entry.
pub(super) fn is_archive(bytes: &[u8]) -> bool {
    bytes.starts_with(&LOCAL.to_le_bytes())
}

/// Reads everything but the tensors.
pub(super) fn read(bytes: &[u8]) -> Result<(Pickle<'_>, Stored<'_>)> {
    let directory = directory(bytes)?;
    let entries = entries(bytes, directory.clone())?;
    if entries.iter().any(|entry| entry.name.ends_with("/constants.pkl")) {
        return Err(Flaw::new(directory.start, Fault::TorchScript));
    }
    if let Some(entry) = entries.iter().find(|entry| entry.is_compressed) {
        return Err(archive(entry.at, "a compressed entry; torch.save stores them as they are"));
    }
    let located = locate(bytes, entries, directory.start)?;
    let is_pickle = |name: &&&str| name.rsplit_once('/').map_or(**name, |(_, last)| last) == "data.pkl";
    let mut pickles = located.keys().filter(is_pickle);
    let (Some(&name), None) = (pickles.next(), pickles.next()) else {
        return Err(archive(directory.start, "not exactly one data.pkl in it"));
    };
    let root = &name[..name.len() - "data.pkl".len()];
    let find = |name: &str| located.get(format!("{root}{name}").as_str());
    if let Some(order) = find("byteorder") {
        match order.checked()?.bytes {
            b"little" => {}
            b"big" => return Err(Flaw::new(order.bytes.at, Fault::BigEndian)),
            _ => return Err(archive(order.bytes.at, "byteorder is neither little nor big")),
        }
    }
    let Some(pickle) = located.get(name) else { return Err(archive(directory.start, "no data.pkl")) };
    let pickle = pickle.checked()?;
    let cursor = &mut Cursor::new(pickle.bytes, pickle.at);
    let object = Pickle::read(cursor, bytes.len() as u64)?;
    if cursor.left() > 0 {
        return Err(cursor.flaw(Fault::Trailing(cursor.left())));
    }
    let declared = Declared::of(&object)?;
    let mut stored = BTreeMap::new();
    for (name, entry) in &located {
        if let Some(key) = name.strip_prefix(root).and_then(|name| name.strip_prefix("data/"))
            && declared.get(key).is_some()
        {
            stored.insert(key, entry.checked()?);
        }
    }
    Ok((object, Stored(stored)))
}

fn archive(at: u64, what: &str) -> Flaw {
    Flaw::new(at, Fault::Archive(what.to_owned()))
}

/// Checks a record's first four bytes.
fn signature(cursor: &mut Cursor<'_>, expected: u32, what: &'static str) -> Result<()> {
    let at = cursor.at();
    if cursor.u32(what)? == expected { Ok(()) } else { Err(archive(at, &format!("{what} is not where it should be"))) }
}

fn at_offset<'a>(bytes: &'a [u8], offset: u64, said_at: u64) -> Result<Cursor<'a>> {
    let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
    rest.map(|rest| Cursor::new(rest, offset)).ok_or_else(|| archive(said_at, "an offset beyond the file's end"))
}

/// Where the directory is, from the record at the file's end and its 64-bit extension. torch.save writes no comment
/// behind it.
fn directory(bytes: &[u8]) -> Result<Range<u64>> {
    let end = (bytes.len() as u64).checked_sub(END_LENGTH);
    let end = end.ok_or_else(|| archive(0, "the file is cut short: no directory"))?;
    let mut cursor = at_offset(bytes, end, end)?;
    let what = "the record at the end of the archive (is the file cut short?)";
    signature(&mut cursor, END, what)?;
    cursor.take(8, what)?;
    let (mut length, mut start) = (u64::from(cursor.u32(what)?), u64::from(cursor.u32(what)?));
    let mut behind = end;
    if length == u64::from(u32::MAX) || start == u64::from(u32::MAX) {
        let locator = end.checked_sub(LOCATOR64_LENGTH).ok_or_else(|| archive(end, "no 64-bit record"))?;
        let mut cursor = at_offset(bytes, locator, end)?;
        signature(&mut cursor, LOCATOR64, "the 64-bit record's locator")?;
        cursor.u32("the 64-bit record's locator")?;
        behind = cursor.u64("the 64-bit record's locator")?;
        let mut cursor = at_offset(bytes, behind, locator)?;
        let what = "the 64-bit record at the end of the archive";
        signature(&mut cursor, END64, what)?;
        cursor.take(36, what)?;
        (length, start) = (cursor.u64(what)?, cursor.u64(what)?);
    }
    match start.checked_add(length) {
        Some(stop) if stop <= behind => Ok(start..stop),
        _ => Err(archive(end, "the directory reaches beyond the file's end")),
    }
}

/// All entries of the directory.
fn entries(bytes: &[u8], directory: Range<u64>) -> Result<Vec<Entry<'_>>> {
    let what = "an entry of the archive's directory";
    let mut whole = at_offset(bytes, directory.start, directory.start)?;
    let mut cursor = Cursor::new(whole.take(directory.end - directory.start, what)?, directory.start);
    let mut entries = Vec::new();
    while cursor.left() > 0 {
        let at = cursor.at();
        signature(&mut cursor, CENTRAL, what)?;
        cursor.take(4, what)?;
        let (flags, method) = (cursor.u16(what)?, cursor.u16(what)?);
        cursor.take(4, what)?;
        let checksum = cursor.u32(what)?;
        let (packed, length) = (cursor.u32(what)?, cursor.u32(what)?);
        let (name, extra, comment) = (cursor.u16(what)?, cursor.u16(what)?, cursor.u16(what)?);
        cursor.take(8, what)?;
        let header = cursor.u32(what)?;
        let name = std::str::from_utf8(cursor.take(name.into(), what)?);
        let name = name.map_err(|_| archive(at, "an entry's name is no UTF-8"))?;
        let extra_at = cursor.at();
        let mut extra = wide_fields(Cursor::new(cursor.take(extra.into(), what)?, extra_at))?;
        cursor.take(comment.into(), what)?;
        // In this order where the narrow field is full (APPNOTE 4.5.3).
        let mut wide = |narrow: u32| if narrow == u32::MAX { extra.u64(what) } else { Ok(narrow.into()) };
        let (length, packed, header) = (wide(length)?, wide(packed)?, wide(header)?);
        if flags & 1 != 0 {
            return Err(archive(at, "an encrypted entry"));
        }
        let is_compressed = method != 0 || packed != length;
        entries.push(Entry { name, header, length, checksum, is_compressed, at });
    }
    Ok(entries)
}

/// The fields of 64 bits among an entry's extra ones; empty where there are none.
fn wide_fields(mut extra: Cursor<'_>) -> Result<Cursor<'_>> {
    let what = "an entry's extra field";
    while extra.left() >= 4 {
        let (id, length) = (extra.u16(what)?, extra.u16(what)?);
        let at = extra.at();
        let field = extra.take(length.into(), what)?;
        if id == 1 {
            return Ok(Cursor::new(field, at));
        }
    }
    Ok(Cursor::new(&[], extra.at()))
}

/// An entry's bytes and their checksum.
#[derive(Debug)]
struct Located<'a> {
    bytes: Bytes<'a>,
    checksum: u32,
}

impl<'a> Located<'a> {
    /// The bytes, if they are those that were written. A checksum of 0 stands for none: torch.save writes it on request
    /// (`set_crc32_options`).
    fn checked(&self) -> Result<Bytes<'a>> {
        if self.checksum == 0 || crc32fast::hash(self.bytes.bytes) == self.checksum {
            return Ok(self.bytes);
        }
        Err(archive(self.bytes.at, "the checksum of the entry that starts here is wrong: its bytes were changed"))
    }
}

/// Finds each entry's bytes behind its local header. The entries, headers included, may not overlap each other or
/// reach beyond `end`, the directory.
fn locate<'a>(bytes: &'a [u8], mut entries: Vec<Entry<'a>>, end: u64) -> Result<BTreeMap<&'a str, Located<'a>>> {
    entries.sort_by_key(|entry| entry.header);
    let mut located = BTreeMap::new();
    let mut free_from = 0;
    for entry in entries {
        if entry.header < free_from {
            return Err(archive(entry.at, "two entries overlap"));
        }
        let mut cursor = at_offset(bytes, entry.header, entry.at)?;
        let what = "an entry's header";
        signature(&mut cursor, LOCAL, what)?;
        cursor.take(22, what)?;
        let (name, extra) = (cursor.u16(what)?, cursor.u16(what)?);
        if cursor.take(name.into(), what)? != entry.name.as_bytes() {
            return Err(archive(entry.header, "an entry has another name here than in the directory"));
        }
        cursor.take(extra.into(), what)?;
        let start = cursor.at();
        let stored = Bytes { bytes: cursor.take(entry.length, "an entry of the archive")?, at: start };
        free_from = start + entry.length;
        if free_from > end {
            return Err(archive(entry.at, "an entry reaches into the directory"));
        }
        if located.insert(entry.name, Located { bytes: stored, checksum: entry.checksum }).is_some() {
            return Err(archive(entry.at, "two entries of one name"));
        }
    }
    Ok(located)
}
