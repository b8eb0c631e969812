//! A candidate of a space of parameters: the active ones, each with its value.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::value::ParamValue;

/// The active parameters by name, each with its value; a parameter that its conditions leave out is not there. Written as
/// `lr=0.003 optimizer=sgd`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Assignment(BTreeMap<String, ParamValue>);

impl Assignment {
    /// The value of a parameter, or `None` where it is not active.
    pub fn get(&self, name: &str) -> Option<&ParamValue> {
        self.0.get(name)
    }

    /// The number of a parameter, be it an integer or a float.
    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.as_f64()
    }

    /// All active parameters, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &ParamValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// How many are active.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(String, ParamValue)> for Assignment {
    fn from_iter<I: IntoIterator<Item = (String, ParamValue)>>(pairs: I) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl IntoIterator for Assignment {
    type Item = (String, ParamValue);
    type IntoIter = std::collections::btree_map::IntoIter<String, ParamValue>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The canonical key: by name, one space between two. Names hold no space and no `=`, and values are written so that no
/// two are alike, so two assignments are written alike only where they are the same.
impl fmt::Display for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{name}={value}")?;
        }
        Ok(())
    }
}
