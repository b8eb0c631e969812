//! A place in the file's bytes. In: the bytes, a count. Out: a slice of them or a [`Flaw`] that says where they end.
//! Nothing is copied, so that a length that lies costs nothing.

use super::fault::{Fault, Flaw, Result};

/// A range of the file, read from its start on.
#[derive(Debug, Clone)]
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Where `bytes` starts in the file.
    base: u64,
}

impl<'a> Cursor<'a> {
    /// `bytes` start at `base` in the file.
    pub(super) fn new(bytes: &'a [u8], base: u64) -> Self {
        Self { bytes, position: 0, base }
    }

    /// The next byte's offset in the file.
    pub(super) fn at(&self) -> u64 {
        self.base + self.position as u64
    }

    pub(super) fn left(&self) -> u64 {
        (self.bytes.len() - self.position) as u64
    }

    /// A fault at the next byte.
    pub(super) fn flaw(&self, fault: Fault) -> Flaw {
        Flaw::new(self.at(), fault)
    }

    pub(super) fn take(&mut self, count: u64, what: &'static str) -> Result<&'a [u8]> {
        if count > self.left() {
            return Err(self.flaw(Fault::Cut { what, needed: count, left: self.left() }));
        }
        let start = self.position;
        self.position += count as usize;
        Ok(&self.bytes[start..self.position])
    }

    pub(super) fn array<const N: usize>(&mut self, what: &'static str) -> Result<[u8; N]> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N as u64, what)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &'static str) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// The text up to the next line feed, which is passed over.
    pub(super) fn line(&mut self, what: &'static str) -> Result<&'a str> {
        let rest = &self.bytes[self.position..];
        let Some(length) = rest.iter().position(|&byte| byte == b'\n') else {
            return Err(self.flaw(Fault::Cut { what, needed: self.left() + 1, left: self.left() }));
        };
        let text = std::str::from_utf8(&rest[..length]).map_err(|_| self.flaw(Fault::Pickle("a name is no UTF-8")))?;
        self.position += length + 1;
        Ok(text)
    }
}
