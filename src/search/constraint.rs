//! Resource constraints: `general.quota` as text comes in, a [`Quota`] that judges what a network costs goes out. Pure.
//!
//! ```text
//!  quota     := condition ("and" condition)*
//!  condition := name operator number | number operator name | name "in" "[" number "," number "]" | "model_valid"
//!  operator  := "<" | "<=" | ">" | ">=" | "=="
//! ```
//!
//! Names and units are Vega's: `flops` in 10^9 multiply-adds, `params` in thousands. Any subset of the quantities may be
//! limited, from either side. `model_valid` always holds: a network that cannot be built is never proposed.

use std::fmt;
use std::str::FromStr;

use crate::config::nearest;

mod bounds;
mod parse;

pub use bounds::Bounds;

/// What can be limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Quantity {
    /// Multiply-adds of the backbone for one image of the size that is counted for, in 10^9.
    Flops,
    /// Trainable parameters of the whole network, in thousands.
    Params,
    /// Activation memory of the backbone for one image of that size, in MiB.
    Memory,
    /// Time of one forward pass of one image, in milliseconds, measured on the device.
    Latency,
    /// Memory that the network takes with one image, in MiB: an *estimate*, of the built network's tensors and the outputs
    /// of its backbone's convolutions. No device is asked; see `src/workers/measure.rs`.
    PeakMemory,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Flops, Self::Params, Self::Memory, Self::Latency, Self::PeakMemory];

    /// The name in a quota and among the metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Flops => "flops",
            Self::Params => "params",
            Self::Memory => "memory",
            Self::Latency => "latency",
            Self::PeakMemory => "peak_memory",
        }
    }

    /// The quantity that `name` means. Vega's `host_latency` and `device_latency` are latencies on the device that
    /// trains, as there is no other.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "host_latency" | "device_latency" => Some(Self::Latency),
            name => Self::ALL.into_iter().find(|quantity| quantity.name() == name),
        }
    }

    /// Whether it takes a built network to tell it.
    pub fn is_measured(self) -> bool {
        matches!(self, Self::Latency | Self::PeakMemory)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a quantity may be. Bounds are finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Allowed {
    /// `< x`
    Below(f64),
    /// `<= x`
    AtMost(f64),
    /// `> x`
    Above(f64),
    /// `>= x`
    AtLeast(f64),
    /// `== x`
    Exactly(f64),
    /// `in [low, high]`, both included.
    Within(f64, f64),
}

impl Allowed {
    /// Whether `value` is allowed; a NaN never is.
    pub fn holds(self, value: f64) -> bool {
        match self {
            Self::Below(bound) => value < bound,
            Self::AtMost(bound) => value <= bound,
            Self::Above(bound) => value > bound,
            Self::AtLeast(bound) => value >= bound,
            Self::Exactly(bound) => value == bound,
            Self::Within(low, high) => low <= value && value <= high,
        }
    }

    /// Which limit a value that is not allowed breaks.
    fn broken_by(self, value: f64) -> Limit {
        match self {
            Self::Below(_) | Self::AtMost(_) => Limit::Upper,
            Self::Above(_) | Self::AtLeast(_) => Limit::Lower,
            Self::Exactly(bound) if value < bound => Limit::Lower,
            Self::Within(low, _) if value < low => Limit::Lower,
            Self::Exactly(_) | Self::Within(..) => Limit::Upper,
        }
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Below(bound) => write!(f, "< {bound}"),
            Self::AtMost(bound) => write!(f, "<= {bound}"),
            Self::Above(bound) => write!(f, "> {bound}"),
            Self::AtLeast(bound) => write!(f, ">= {bound}"),
            Self::Exactly(bound) => write!(f, "== {bound}"),
            Self::Within(low, high) => write!(f, "in [{low}, {high}]"),
        }
    }
}

/// One condition on one quantity: `flops < 10`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Condition {
    /// On what.
    pub quantity: Quantity,
    /// What it may be.
    pub allowed: Allowed,
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.quantity, self.allowed)
    }
}

/// Conditions that hold together. What is left out is not limited.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quota(Vec<Condition>);

impl Quota {
    /// The quota that `text` says.
    ///
    /// # Errors
    /// The first place where it is no quota, or a condition that together with those before it allows nothing.
    pub fn parse(text: &str) -> Result<Self, QuotaError> {
        parse::quota(text).map(Self)
    }

    /// Its conditions, in the order in which they are written.
    pub fn conditions(&self) -> &[Condition] {
        &self.0
    }

    /// Between what a quantity must lie; `None` where the conditions on it exclude each other, which no parsed quota's do.
    pub fn bounds(&self, quantity: Quantity) -> Option<Bounds> {
        let own = self.0.iter().filter(|condition| condition.quantity == quantity);
        own.map(|condition| Bounds::of(condition.allowed)).try_fold(Bounds::ANY, Bounds::and)
    }

    /// Whether it limits what only a built network can tell.
    pub fn is_measured(&self) -> bool {
        self.0.iter().any(|condition| condition.quantity.is_measured())
    }

    /// Whether it limits `quantity`.
    pub fn limits(&self, quantity: Quantity) -> bool {
        self.0.iter().any(|condition| condition.quantity == quantity)
    }

    /// Judges a network by what `cost` says of it; conditions on what it does not say are left out.
    ///
    /// # Errors
    /// The first condition that does not hold.
    pub fn check(&self, cost: impl Fn(Quantity) -> Option<f64>) -> Result<(), Violation> {
        for &Condition { quantity, allowed } in &self.0 {
            if let Some(value) = cost(quantity).filter(|value| !allowed.holds(*value)) {
                return Err(Violation { quantity, value, allowed });
            }
        }
        Ok(())
    }
}

/// As [`Quota::parse`] reads it.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some((first, rest)) = self.0.split_first() else { return f.write_str(MODEL_VALID) };
        write!(f, "{first}")?;
        rest.iter().try_for_each(|condition| write!(f, " and {condition}"))
    }
}

impl FromStr for Quota {
    type Err = QuotaError;

    fn from_str(text: &str) -> Result<Self, QuotaError> {
        Self::parse(text)
    }
}

/// Vega's condition that the network can be built.
const MODEL_VALID: &str = "model_valid";

/// A condition that does not hold: `flops is 12.3, the quota allows < 10`.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[error("{quantity} is {value}, the quota allows {allowed}")]
pub struct Violation {
    /// Of what.
    pub quantity: Quantity,
    /// What it is.
    pub value: f64,
    /// What it may be.
    pub allowed: Allowed,
}

impl Violation {
    /// Whether there is too much of it or too little.
    pub fn limit(&self) -> Limit {
        self.allowed.broken_by(self.value)
    }
}

/// A text that is no quota.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("at character {at}: {why}")]
pub struct QuotaError {
    /// Where, in characters from 1.
    pub at: usize,
    /// What is wrong there.
    pub why: QuotaProblem,
}

/// What is wrong with the text of a quota.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum QuotaProblem {
    /// Something else should stand here.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What could.
        expected: &'static str,
    },
    /// No quantity has this name.
    #[error("there is no `{name}`{}", known(name))]
    UnknownName {
        /// The name.
        name: String,
    },
    /// Not a number of this world.
    #[error("`{text}` is not a finite number")]
    Number {
        /// What stands there.
        text: String,
    },
    /// Nothing can meet the conditions on this quantity.
    #[error("`{condition}` leaves nothing that {} could be", condition.quantity)]
    Impossible {
        /// The condition that takes away the rest.
        condition: Condition,
    },
}

fn known(name: &str) -> String {
    let names = Quantity::ALL.map(Quantity::name);
    match nearest(name, names.into_iter().chain(["host_latency", "device_latency", MODEL_VALID])) {
        Some(nearest) => format!("; did you mean `{nearest}`?"),
        None => format!("; there are {}", names.join(", ")),
    }
}

pub use spnas_actors::trial::Limit;

#[cfg(test)]
mod tests;
