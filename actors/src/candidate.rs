//! Candidates as the engine sees them: a key that tells them apart, and a JSON text that only the user's code reads.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

/// A candidate's serialised form, shared rather than copied.
#[derive(Clone)]
pub struct RawCandidate(Arc<RawValue>);

impl RawCandidate {
    /// The serialised form of `candidate`.
    ///
    /// # Errors
    /// Where the candidate's own `Serialize` fails.
    pub fn of<C: Serialize>(candidate: &C) -> Result<Self, serde_json::Error> {
        Ok(Self(serde_json::value::to_raw_value(candidate)?.into()))
    }

    /// The candidate itself.
    ///
    /// # Errors
    /// Where the text was written by something else than this candidate type.
    pub fn read<C: DeserializeOwned>(&self) -> Result<C, serde_json::Error> {
        serde_json::from_str(self.0.get())
    }

    /// The JSON text.
    pub fn json(&self) -> &str {
        self.0.get()
    }
}

impl PartialEq for RawCandidate {
    fn eq(&self, other: &Self) -> bool {
        self.json() == other.json()
    }
}

impl fmt::Debug for RawCandidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.json())
    }
}

impl Serialize for RawCandidate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawCandidate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Box::<RawValue>::deserialize(deserializer)?.into()))
    }
}
