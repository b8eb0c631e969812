//! The value of a parameter: a truth value, a number, a text or a list of those, as JSON and YAML have them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::objective::Score;

/// A value that a parameter can take. Integers and floats are different values: `3` is not `3.0`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ParamValue {
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A finite number.
    Float(Score),
    /// A text.
    Text(String),
    /// Several values that are chosen as one.
    List(Vec<ParamValue>),
}

impl ParamValue {
    /// A float, or `None` where `value` is NaN or infinite. The two zeros are one value.
    pub fn float(value: f64) -> Option<Self> {
        Score::new(value + 0.0).map(Self::Float)
    }

    /// The number, of an integer or a float.
    pub fn as_f64(&self) -> Option<f64> {
        match self {
            ParamValue::Int(value) => Some(*value as f64),
            ParamValue::Float(value) => Some(value.get()),
            _ => None,
        }
    }

    /// The integer.
    pub fn as_i64(&self) -> Option<i64> {
        if let ParamValue::Int(value) = self { Some(*value) } else { None }
    }

    /// The text.
    pub fn as_str(&self) -> Option<&str> {
        if let ParamValue::Text(text) = self { Some(text) } else { None }
    }

    /// The truth value.
    pub fn as_bool(&self) -> Option<bool> {
        if let ParamValue::Bool(value) = self { Some(*value) } else { None }
    }
}

/// Texts that would read as something else.
const WORDS: [&str; 3] = ["true", "false", "null"];

/// Unambiguous on one line: `0.001`, `3`, `sgd`, `"two words"`, `[1, 2]`. No two values are written alike, and a space
/// stands in quotes or brackets only.
impl fmt::Display for ParamValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParamValue::Bool(value) => value.fmt(f),
            ParamValue::Int(value) => value.fmt(f),
            // The shortest text that reads back as the same number; always with a point or an exponent.
            ParamValue::Float(value) => write!(f, "{:?}", value.get() + 0.0),
            ParamValue::Text(text) if is_plain(text) => f.write_str(text),
            ParamValue::Text(text) => write!(f, "{}", serde_json::Value::from(text.as_str())),
            ParamValue::List(items) => {
                f.write_str("[")?;
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    item.fmt(f)?;
                }
                f.write_str("]")
            }
        }
    }
}

/// Whether the text needs no quotes.
fn is_plain(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-./".contains(&byte))
        && !WORDS.contains(&text)
}

impl From<bool> for ParamValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i64> for ParamValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<Score> for ParamValue {
    fn from(value: Score) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for ParamValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_so_that_no_other_is_written_alike() {
        let float = |value| ParamValue::float(value).unwrap();
        let values = [
            (ParamValue::from(true), "true"),
            (ParamValue::from("true"), "\"true\""),
            (ParamValue::from(3), "3"),
            (float(3.0), "3.0"),
            (float(-0.0), "0.0"),
            (float(1e-5), "1e-5"),
            (ParamValue::from("3"), "\"3\""),
            (ParamValue::from("sgd"), "sgd"),
            (ParamValue::from("a b=c"), "\"a b=c\""),
            (ParamValue::from(""), "\"\""),
            (ParamValue::List(vec![ParamValue::from(1), ParamValue::from("x")]), "[1, x]"),
        ];
        for (value, text) in &values {
            assert_eq!(value.to_string(), *text);
            let json = serde_json::to_string(value).unwrap();
            assert_eq!(serde_json::from_str::<ParamValue>(&json).unwrap(), *value, "{json}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_value() {
        assert_eq!(ParamValue::float(f64::NAN), None);
        assert!(serde_json::from_str::<ParamValue>("null").is_err());
        assert!(serde_json::from_str::<ParamValue>("{}").is_err());
    }
}
