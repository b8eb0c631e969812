//! Devices: the places where trials train, and the share of the machine that each may use.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where a worker runs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Place {
    /// The `index`-th share of the processor.
    Cpu {
        /// Its number among the CPU shares.
        index: u32,
    },
    /// A CUDA device, by its ordinal among the visible ones.
    Cuda {
        /// Its ordinal.
        ordinal: u32,
    },
    /// A device of a simulation.
    Simulated {
        /// Its number.
        index: u32,
    },
}

/// A device as one worker sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Where it is, or the first of its places.
    pub place: Place,
    /// The further places of a group that one worker holds together, to train one trial on all of them; empty otherwise.
    pub peers: Vec<Place>,
    /// How many threads the worker's tensor operations may use.
    pub threads: usize,
}

impl Device {
    /// One place by itself.
    pub fn new(place: Place, threads: usize) -> Self {
        Self { place, peers: Vec::new(), threads }
    }

    /// All its places, the main one first.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        std::iter::once(&self.place).chain(&self.peers)
    }

    /// Whether any of its places is among these.
    pub(crate) fn is_any_of(&self, places: &BTreeSet<Place>) -> bool {
        self.places().any(|place| places.contains(place))
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Cpu { index } => write!(f, "cpu:{index}"),
            Place::Cuda { ordinal } => write!(f, "cuda:{ordinal}"),
            Place::Simulated { index } => write!(f, "sim:{index}"),
        }
    }
}

/// A text that names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a device: write `cpu:0`, `cuda:1` or `sim:2`")]
pub struct UnknownPlace(pub String);

impl FromStr for Place {
    type Err = UnknownPlace;

    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let unknown = || UnknownPlace(text.to_owned());
        let (kind, number) = text.split_once(':').ok_or_else(unknown)?;
        let number: u32 = number.parse().map_err(|_| unknown())?;
        match kind {
            "cpu" => Ok(Place::Cpu { index: number }),
            "cuda" => Ok(Place::Cuda { ordinal: number }),
            "sim" => Ok(Place::Simulated { index: number }),
            _ => Err(unknown()),
        }
    }
}

impl TryFrom<String> for Place {
    type Error = UnknownPlace;

    fn try_from(text: String) -> Result<Self, UnknownPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> String {
        place.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_reads_back_as_it_is_written() {
        for place in [Place::Cpu { index: 0 }, Place::Cuda { ordinal: 3 }, Place::Simulated { index: 1023 }] {
            assert_eq!(place.to_string().parse(), Ok(place));
        }
        assert!("gpu:0".parse::<Place>().is_err());
        assert!("cpu".parse::<Place>().is_err());
    }
}
