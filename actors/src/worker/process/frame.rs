//! Frames: the messages between a search and a worker's process, as bytes. Little-endian:
//!
//! ```text
//!  0        4         6         8         12          16
//!  "SPNW"   version   0         length    checksum    payload: `length` bytes of JSON, one message
//! ```
//!
//! The checksum is the first four bytes of the payload's BLAKE3 hash. A frame is complete and right, or the connection is
//! over: nothing is skipped, nothing is guessed. What comes in is never believed: memory is taken only for bytes that
//! have arrived, and at most [`MAX_PAYLOAD`] of them.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// The version of the frames and of the messages in them. Any change of either is another version.
pub(crate) const VERSION: u16 = 1;

const MAGIC: [u8; 4] = *b"SPNW";

const HEADER: usize = 16;

/// The longest payload, in bytes: many times the largest candidate or note.
pub(crate) const MAX_PAYLOAD: usize = 8 << 20;

/// Bytes that are no frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// It does not begin as frames do.
    #[error("what came is not of a worker: it begins with {found:02x?}")]
    Magic {
        /// What it begins with.
        found: Vec<u8>,
    },
    /// The other side is of another build.
    #[error(
        "the other side speaks version {theirs} of the protocol, this one speaks {VERSION}: use the same build for both"
    )]
    Version {
        /// What the other side speaks.
        theirs: u16,
    },
    /// A message that is longer than any may be.
    #[error("a message of {length} bytes; the most is {MAX_PAYLOAD}")]
    TooLong {
        /// Its bytes.
        length: usize,
    },
    /// The bytes were changed on their way.
    #[error("a message's checksum is wrong")]
    Checksum,
    /// A payload that is no message.
    #[error("a message cannot be read: {0}")]
    Payload(#[from] serde_json::Error),
}

fn checksum(payload: &[u8]) -> [u8; 4] {
    let [a, b, c, d, ..] = *blake3::hash(payload).as_bytes();
    [a, b, c, d]
}

/// The frame of a message.
///
/// # Errors
/// A message that is too long, or whose serialisation fails.
pub(crate) fn encode<M: Serialize>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message)?;
    let payload = &frame[HEADER..];
    let length = match u32::try_from(payload.len()) {
        Ok(length) if payload.len() <= MAX_PAYLOAD => length,
        _ => return Err(FrameError::TooLong { length: payload.len() }),
    };
    let checksum = checksum(payload);
    frame[..4].copy_from_slice(&MAGIC);
    frame[4..6].copy_from_slice(&VERSION.to_le_bytes());
    frame[8..12].copy_from_slice(&length.to_le_bytes());
    frame[12..HEADER].copy_from_slice(&checksum);
    Ok(frame)
}

/// Takes bytes in as they come and gives messages out. After an error it is of no further use.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    bytes: Vec<u8>,
    /// Where what was not given out yet begins.
    start: usize,
}

impl Decoder {
    /// Bytes have arrived. To keep the bound on memory, call [`Decoder::next`] until it gives nothing before the next ones.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.start);
        self.start = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next message, or `None` where it has not arrived in full.
    ///
    /// # Errors
    /// The first bytes that are no frame.
    pub(crate) fn next<M: DeserializeOwned>(&mut self) -> Result<Option<M>, FrameError> {
        let bytes = &self.bytes[self.start..];
        let known = bytes.len().min(MAGIC.len());
        if bytes[..known] != MAGIC[..known] {
            return Err(FrameError::Magic { found: bytes[..known].to_owned() });
        }
        let Some(header) = bytes.first_chunk::<HEADER>() else { return Ok(None) };
        let [_, _, _, _, v0, v1, _, _, l0, l1, l2, l3, expected @ ..] = *header;
        let theirs = u16::from_le_bytes([v0, v1]);
        if theirs != VERSION {
            return Err(FrameError::Version { theirs });
        }
        let length = usize::try_from(u32::from_le_bytes([l0, l1, l2, l3])).unwrap_or(usize::MAX);
        if length > MAX_PAYLOAD {
            return Err(FrameError::TooLong { length });
        }
        let Some(payload) = bytes[HEADER..].get(..length) else { return Ok(None) };
        // A fuzzer would never get past the checksum to the messages.
        if !cfg!(fuzzing) && checksum(payload) != expected {
            return Err(FrameError::Checksum);
        }
        let message = serde_json::from_slice(payload)?;
        self.start += HEADER + length;
        Ok(Some(message))
    }

    /// How many bytes are held.
    #[cfg(test)]
    fn held(&self) -> usize {
        self.bytes.capacity()
    }
}

/// Reads any bytes as a search reads what its workers send, and again as a worker reads; how many messages there were. For
/// fuzzing: it must come back, whatever the bytes.
#[doc(hidden)]
pub fn fuzz_frames(bytes: &[u8]) -> usize {
    fn count<M: DeserializeOwned>(bytes: &[u8]) -> usize {
        let mut decoder = Decoder::default();
        let mut count = 0;
        for piece in bytes.chunks(16 << 10) {
            decoder.feed(piece);
            loop {
                match decoder.next::<M>() {
                    Ok(Some(_)) => count += 1,
                    Ok(None) => break,
                    Err(_) => return count,
                }
            }
        }
        count
    }
    count::<super::protocol::FromWorker>(bytes) + count::<super::protocol::ToWorker>(bytes)
}

#[cfg(test)]
mod tests;
