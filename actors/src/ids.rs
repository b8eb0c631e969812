//! Ids: the names by which trials, attempts, devices, epochs and weights are told apart. Made in one place each,
//! ordered, printable, and written as plain numbers or strings into the journal.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

/// A trial: one candidate on its way from proposal to result. Numbered from 1 in the order of proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TrialId(pub u64);

impl fmt::Display for TrialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One try at a trial; the first is 1, and each retry adds one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Attempt(pub u32);

impl fmt::Display for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A number of finished epochs: the unit in which trials report and budgets are given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The content id of a blob in the weight store: the BLAKE3 hash of its bytes, in lower-case hexadecimal. Clones share the
/// digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "String")]
pub struct WeightsId(Arc<str>);

impl From<String> for WeightsId {
    fn from(digits: String) -> Self {
        Self(digits.into())
    }
}

impl Serialize for WeightsId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl WeightsId {
    /// The id of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(blake3::hash(bytes).to_hex().as_str().into())
    }

    /// Whether it can be the id of a blob. One that was read from a journal may be any text.
    pub(crate) fn check(&self) -> Result<(), NotAWeightsId> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if self.0.len() == 64 && self.0.bytes().all(is_digit) { Ok(()) } else { Err(NotAWeightsId(self.0.to_string())) }
    }

    /// The hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is the id of no blob.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a weights id: 64 lower-case hexadecimal digits")]
pub struct NotAWeightsId(pub String);

impl FromStr for WeightsId {
    type Err = NotAWeightsId;

    fn from_str(digits: &str) -> Result<Self, NotAWeightsId> {
        let id = Self(digits.into());
        id.check().map(|()| id)
    }
}

impl fmt::Display for WeightsId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
