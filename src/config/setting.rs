//! The basic types of values: how each is read from YAML, what it says it expects, and how it is written back.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use super::print::Plain;
use super::section::{Refusal, Setting};
use super::yaml::{Node, Value};

/// A type whose values are names: the first name of a value is the one that is written.
pub(crate) trait Named: Sized + PartialEq + Clone + 'static {
    const NAMES: &'static [(&'static str, Self)];
}

impl<T: Named> Setting for T {
    fn expecting() -> String {
        let mut shown: Vec<(&str, &T)> = Vec::new();
        for (name, value) in T::NAMES {
            if shown.iter().all(|(_, known)| *known != value) {
                shown.push((name, value));
            }
        }
        one_of(shown.into_iter().map(|(name, _)| name))
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let text = match &node.value {
            Value::Text(text) => text.as_str(),
            // `none`, `off` and their like are names here, whatever YAML makes of them.
            Value::Bool(_) | Value::Null => node.written.as_str(),
            _ => return Err(Refusal::WrongType),
        };
        if let Some((_, value)) = T::NAMES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(value.clone());
        }
        let nearest = super::error::nearest(text, T::NAMES.iter().map(|(name, _)| *name));
        let remedy = nearest.map(|name| format!("; did you mean `{name}`?")).unwrap_or_default();
        Err(Refusal::Impossible(format!("there is no `{text}`, it must be {}{remedy}", T::expecting())))
    }

    fn write(&self) -> Plain {
        let name = T::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name);
        Plain::Text(name.to_owned())
    }
}

/// `a, b or c`.
pub(crate) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    match names.split_last() {
        Some((last, before)) if !before.is_empty() => format!("{} or {last}", before.join(", ")),
        _ => names.concat(),
    }
}

impl Setting for bool {
    fn expecting() -> String {
        "true or false".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match node.value {
            Value::Bool(value) => Ok(value),
            _ => Err(Refusal::WrongType),
        }
    }

    fn write(&self) -> Plain {
        Plain::Bool(*self)
    }
}

/// The value of a node that is a whole number, 0 or more, and the type can hold.
fn natural<T: TryFrom<i64>>(node: &Node, most: impl Display) -> Result<T, Refusal> {
    match whole(node)? {
        value if value < 0 => Err(Refusal::WrongType),
        value => T::try_from(value).map_err(|_| Refusal::Impossible(format!("{value} is too large: {most} at most"))),
    }
}

/// A whole number; `2.5e7` counts as one.
fn whole(node: &Node) -> Result<i64, Refusal> {
    /// Largest integer below which every integer is a float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match node.value {
        Value::Int(value) => Ok(value),
        Value::Float(value) if value.fract() == 0.0 && value.abs() < EXACT => Ok(value as i64),
        _ => Err(Refusal::WrongType),
    }
}

fn write_whole(value: u64) -> Plain {
    i64::try_from(value).map_or(Plain::Float(value as f64), Plain::Int)
}

impl Setting for u64 {
    fn expecting() -> String {
        "a whole number, 0 or more".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        natural(node, u64::MAX)
    }

    fn write(&self) -> Plain {
        write_whole(*self)
    }
}

impl Setting for u32 {
    fn expecting() -> String {
        "a whole number, 0 or more".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        natural(node, u32::MAX)
    }

    fn write(&self) -> Plain {
        Plain::Int(i64::from(*self))
    }
}

impl Setting for NonZeroU32 {
    fn expecting() -> String {
        "a whole number, 1 or more".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        NonZeroU32::new(u32::read(node)?).ok_or(Refusal::WrongType)
    }

    fn write(&self) -> Plain {
        self.get().write()
    }
}

impl Setting for NonZeroUsize {
    fn expecting() -> String {
        NonZeroU32::expecting()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        NonZeroU32::read(node)?.try_into().map_err(|_| Refusal::WrongType)
    }

    fn write(&self) -> Plain {
        write_whole(self.get() as u64)
    }
}

/// The number of a node, finite.
pub(crate) fn number(node: &Node) -> Result<f64, Refusal> {
    match node.value {
        Value::Int(value) => Ok(value as f64),
        Value::Float(value) if value.is_finite() => Ok(value),
        _ => Err(Refusal::WrongType),
    }
}

impl Setting for f64 {
    fn expecting() -> String {
        "a number".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        number(node)
    }

    fn write(&self) -> Plain {
        Plain::Float(*self)
    }
}

/// A float of which a key takes only a range.
macro_rules! bounded_float {
    ($(#[$doc:meta])* $name:ident, $expecting:literal, $value:ident => $test:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq)]
        pub struct $name(f64);

        impl $name {
            /// The value, or `None` where it is out of range.
            pub fn new($value: f64) -> Option<Self> {
                ($test && $value.is_finite()).then_some(Self($value))
            }

            /// The value, brought into the range of built-in defaults.
            pub(crate) fn preset($value: f64) -> Self {
                debug_assert!($test, "a default is in range");
                Self($value)
            }

            /// The number.
            pub fn get(self) -> f64 {
                self.0
            }
        }

        impl Setting for $name {
            fn expecting() -> String {
                $expecting.to_owned()
            }

            fn read(node: &Node) -> Result<Self, Refusal> {
                Self::new(number(node)?).ok_or(Refusal::WrongType)
            }

            fn write(&self) -> Plain {
                Plain::Float(self.0)
            }
        }
    };
}

bounded_float!(
    /// A finite number above 0.
    Positive, "a number above 0", value => value > 0.0
);
bounded_float!(
    /// A finite number, 0 or more.
    NonNegative, "a number, 0 or more", value => value >= 0.0
);
bounded_float!(
    /// A share or probability: 0 to 1.
    Ratio, "a number from 0 to 1", value => (0.0..=1.0).contains(&value)
);
bounded_float!(
    /// A percentile: 0 to 100.
    Percentile, "a number from 0 to 100", value => (0.0..=100.0).contains(&value)
);
bounded_float!(
    /// A decay of an average: 0 or more, below 1.
    Decay, "a number from 0 to below 1", value => (0.0..1.0).contains(&value)
);

impl Setting for String {
    fn expecting() -> String {
        "a text".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match &node.value {
            Value::Text(text) => Ok(text.clone()),
            // What looks like a number or a truth value is a text where a text is asked for.
            Value::Int(_) | Value::Float(_) | Value::Bool(_) if !node.written.is_empty() => Ok(node.written.clone()),
            _ => Err(Refusal::WrongType),
        }
    }

    fn write(&self) -> Plain {
        Plain::Text(self.clone())
    }
}

impl Setting for PathBuf {
    fn expecting() -> String {
        "a path".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        match String::read(node)? {
            text if text.is_empty() || text.contains('\0') => {
                Err(Refusal::Impossible("a path is not empty".to_owned()))
            }
            // In the file, `./x` has already become a path from the file's folder; elsewhere it says nothing.
            text => Ok(PathBuf::from(text.strip_prefix("./").unwrap_or(&text))),
        }
    }

    fn write(&self) -> Plain {
        Plain::Text(self.to_string_lossy().into_owned())
    }
}

impl Setting for Duration {
    fn expecting() -> String {
        "a number of seconds above 0".to_owned()
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let seconds = Positive::new(number(node)?).ok_or(Refusal::WrongType)?.get();
        let too_long = |_| Refusal::Impossible(format!("{seconds} seconds are more than can be waited for"));
        let duration = Duration::try_from_secs_f64(seconds).map_err(too_long)?;
        if duration.is_zero() { Err(Refusal::WrongType) } else { Ok(duration) }
    }

    fn write(&self) -> Plain {
        match self.subsec_nanos() {
            0 => write_whole(self.as_secs()),
            _ => Plain::Float(self.as_secs_f64()),
        }
    }
}

/// A list; a single value counts as a list of one, as Vega has it.
impl<T: Setting> Setting for Vec<T> {
    fn expecting() -> String {
        format!("a list, each {}", T::expecting())
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Map(_) | Value::Null => return Err(Refusal::WrongType),
            _ => std::slice::from_ref(node),
        };
        let mut values = Vec::new();
        let mut wrong = Vec::new();
        for item in items {
            match T::read(item) {
                Ok(value) => values.push(value),
                Err(Refusal::WrongType) => {
                    wrong.push((format!("{} stands where each must be {}", item.kind(), T::expecting()), item.place));
                }
                Err(Refusal::Impossible(why)) => wrong.push((why, item.place)),
                Err(Refusal::Items(items)) => wrong.extend(items),
            }
        }
        if wrong.is_empty() { Ok(values) } else { Err(Refusal::Items(wrong)) }
    }

    fn write(&self) -> Plain {
        Plain::List(self.iter().map(Setting::write).collect())
    }
}

/// Exactly `N` values.
impl<T: Setting, const N: usize> Setting for [T; N] {
    fn expecting() -> String {
        format!("a list of {N}, each {}", T::expecting())
    }

    fn read(node: &Node) -> Result<Self, Refusal> {
        Vec::<T>::read(node)?.try_into().map_err(|_| Refusal::WrongType)
    }

    fn write(&self) -> Plain {
        Plain::List(self.iter().map(Setting::write).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::source::SourceId;
    use crate::config::yaml;

    fn read<T: Setting>(text: &str) -> Option<T> {
        let tree = yaml::parse(&format!("x: {text}"), SourceId(0)).unwrap();
        T::read(tree.get("x").unwrap()).ok()
    }

    #[test]
    fn numbers_are_read_within_their_bounds_only() {
        assert_eq!(read::<u64>("2.5e7"), Some(25_000_000));
        assert_eq!(read::<u64>("1_000"), Some(1000));
        for wrong in ["-1", "1.5", "x", "yes", "[1, 2]", "1e30"] {
            assert_eq!(read::<u64>(wrong), None, "{wrong}");
        }
        assert_eq!(read::<NonZeroU32>("0"), None);
        assert_eq!(read::<u32>("4294967295"), Some(u32::MAX));
        for (wrong, remedy) in [("99999999999", "4294967295 at most"), ("0", ""), ("-1", "")] {
            let tree = yaml::parse(&format!("x: {wrong}"), SourceId(0)).unwrap();
            let why = match NonZeroU32::read(tree.get("x").unwrap()) {
                Err(Refusal::Impossible(why)) => why,
                other => String::from(if other.is_ok() { "read" } else { "" }),
            };
            assert!(why.ends_with(remedy) && why.is_empty() == remedy.is_empty(), "{wrong}: {why}");
        }
        assert_eq!(read::<Ratio>("1").map(Ratio::get), Some(1.0));
        assert_eq!(read::<Ratio>("1.01"), None);
        assert_eq!((Positive::new(f64::INFINITY), Positive::new(f64::NAN)), (None, None));
        assert_eq!(read::<Duration>("0.5"), Some(Duration::from_millis(500)));
        assert_eq!(read::<Duration>("1e300"), None);
        assert_eq!(read::<Duration>("1e-12"), None);
    }

    #[test]
    fn a_single_value_is_a_list_of_one_and_a_number_a_text() {
        assert_eq!(read::<Vec<u32>>("3"), Some(vec![3]));
        assert_eq!(read::<Vec<String>>("[a, 11]"), Some(vec!["a".to_owned(), "11".to_owned()]));
        assert_eq!(read::<[u32; 2]>("[1, 2, 3]"), None);
    }
}
