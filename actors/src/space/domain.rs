//! Domains: the values of one parameter, how they are drawn, and how one is moved to its neighbour. Numbers are moved on
//! the unit interval, linearly or by the logarithm, so that one step size fits every range.

use rand::RngExt;

use super::error::DomainError;
use super::value::ParamValue;
use crate::objective::Score;
use crate::rng::{SearchRng, standard_normal};

/// How a range of numbers is spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Equal differences count the same.
    Linear,
    /// Equal ratios count the same: for learning rates, sizes, penalties. The range is above 0.
    Log,
}

/// The values that a parameter can take.
#[derive(Debug, Clone, PartialEq)]
pub enum Domain {
    /// One of these, without order; distinct, at least one.
    Category(Vec<ParamValue>),
    /// `low`, `low + step`, … up to `high` at most.
    Int {
        /// The least.
        low: i64,
        /// The most.
        high: i64,
        /// The distance between two values: 1 or more, and 1 on a logarithmic scale.
        step: i64,
        /// How they are spread.
        scale: Scale,
    },
    /// Any number from `low` to `high`. Values are rounded to a millionth of the range or less (linear), or to six
    /// significant digits (logarithmic): finer differences are none that a search could tell.
    Float {
        /// The least.
        low: f64,
        /// The most.
        high: f64,
        /// How they are spread.
        scale: Scale,
    },
}

/// The standard deviation of a move on the unit interval. Source: Hutter, Hoos, Leyton-Brown 2011, "Sequential
/// Model-Based Optimization for General Algorithm Configuration" (LION 5), section 4.3, where neighbours of numbers are
/// drawn with 0.2.
const MOVE: f64 = 0.2;

/// Draws of a move that must change an integer, before it goes to the next one.
const DRAWS: usize = 8;

/// Decimal digits that are kept of a float.
const DIGITS: i32 = 6;

impl Domain {
    /// Whether there is such a domain.
    ///
    /// # Errors
    /// See [`DomainError`].
    pub fn check(&self) -> Result<(), DomainError> {
        match self {
            Domain::Category(values) => {
                if values.is_empty() {
                    return Err(DomainError::Empty);
                }
                let twice = values.iter().enumerate().find(|(at, value)| values[..*at].contains(value));
                twice.map_or(Ok(()), |(_, value)| Err(DomainError::Twice { value: value.clone() }))
            }
            Domain::Int { low, high, step, scale } => {
                let (from, to) = (*low as f64, *high as f64);
                if low > high {
                    return Err(DomainError::Reversed { low: from, high: to });
                }
                if *step < 1 {
                    return Err(DomainError::Step { step: *step });
                }
                match scale {
                    Scale::Log if *low < 1 => Err(DomainError::LogOfNothing { low: from }),
                    Scale::Log if *step != 1 => Err(DomainError::StepOnLog),
                    _ => Ok(()),
                }
            }
            Domain::Float { low, high, scale } => {
                if !(low.is_finite() && high.is_finite() && (high - low).is_finite()) {
                    return Err(DomainError::NotFinite);
                }
                if low > high {
                    return Err(DomainError::Reversed { low: *low, high: *high });
                }
                match scale {
                    Scale::Log if *low <= 0.0 => Err(DomainError::LogOfNothing { low: *low }),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Whether `value` is one of the domain's.
    pub fn contains(&self, value: &ParamValue) -> bool {
        match (self, value) {
            (Domain::Category(values), value) => values.contains(value),
            (Domain::Int { low, high, step, .. }, ParamValue::Int(value)) => {
                (low..=high).contains(&value) && (i128::from(*value) - i128::from(*low)) % i128::from(*step) == 0
            }
            (Domain::Float { low, high, .. }, ParamValue::Float(value)) => (*low..=*high).contains(&value.get()),
            _ => false,
        }
    }

    /// How many values there are; `None` for floats, which are not counted.
    pub fn count(&self) -> Option<u64> {
        match self {
            Domain::Category(values) => Some(values.len() as u64),
            Domain::Int { .. } => Some(self.last_index().saturating_add(1)),
            Domain::Float { low, high, .. } => (low == high).then_some(1),
        }
    }

    /// Whether there is more than one value.
    pub fn is_open(&self) -> bool {
        self.count() != Some(1)
    }

    /// The place of a number of the domain on the unit interval, linearly or by its logarithm; the middle of its share for
    /// an integer, and for the choices of a category. `None` for what is not in the domain.
    pub fn unit(&self, value: &ParamValue) -> Option<f64> {
        if !self.contains(value) {
            return None;
        }
        let share = |index: u64, count: u64| (index as f64 + 0.5) / count as f64;
        let place = match (self, value) {
            (Domain::Category(values), value) => {
                let index = values.iter().position(|known| known == value)?;
                share(index as u64, values.len() as u64)
            }
            (Domain::Int { low, step, scale: Scale::Linear, .. }, ParamValue::Int(value)) => {
                let index = (i128::from(*value) - i128::from(*low)) / i128::from(*step);
                share(u64::try_from(index).unwrap_or(u64::MAX), self.last_index().saturating_add(1))
            }
            (Domain::Int { low, high, .. }, ParamValue::Int(value)) => {
                let (from, to) = log_bounds(*low, *high);
                ((*value as f64).ln() - from) / (to - from)
            }
            (Domain::Float { low, high, .. }, _) if low == high => 0.5,
            (Domain::Float { low, high, scale: Scale::Linear }, value) => (value.as_f64()? - low) / (high - low),
            (Domain::Float { low, high, scale: Scale::Log }, value) => {
                (value.as_f64()?.ln() - low.ln()) / (high.ln() - low.ln())
            }
            (Domain::Int { .. }, _) => return None,
        };
        Some(place.clamp(0.0, 1.0))
    }

    /// The value at a place of the unit interval: the other way round than [`Domain::unit`].
    pub fn at(&self, unit: f64) -> ParamValue {
        let unit = unit.clamp(0.0, 1.0);
        let index = |count: u64| ((unit * count as f64) as u64).min(count.saturating_sub(1));
        match self {
            Domain::Category(values) => values[index(values.len() as u64) as usize].clone(),
            Domain::Int { scale: Scale::Linear, .. } => {
                self.integer(index(self.last_index().saturating_add(1)).min(self.last_index()))
            }
            Domain::Int { low, high, scale: Scale::Log, .. } => {
                let (from, to) = log_bounds(*low, *high);
                let value = (from + unit * (to - from)).exp().round();
                ParamValue::Int((value as i64).clamp(*low, *high))
            }
            Domain::Float { low, high, scale } => {
                let value = match scale {
                    Scale::Linear => to_decimals(low + unit * (high - low), decimals_of(high - low)),
                    Scale::Log => to_digits((low.ln() + unit * (high.ln() - low.ln())).exp()),
                };
                // A finite range has finite values; a NaN cannot come of them.
                ParamValue::Float(Score::new(value.clamp(*low, *high) + 0.0).unwrap_or_else(|| finite(*low)))
            }
        }
    }

    /// A value drawn from the whole domain: evenly, on the parameter's scale.
    pub fn sample(&self, rng: &mut SearchRng) -> ParamValue {
        self.at(rng.random())
    }

    /// Another value than `from` where there is one: any other choice of a category, a number nearby.
    pub fn step(&self, from: &ParamValue, rng: &mut SearchRng) -> ParamValue {
        if !self.is_open() {
            return from.clone();
        }
        if let Domain::Category(values) = self {
            let others: Vec<&ParamValue> = values.iter().filter(|value| *value != from).collect();
            return others[rng.random_range(0..others.len())].clone();
        }
        let Some(unit) = self.unit(from) else { return self.sample(rng) };
        for _ in 0..DRAWS {
            let to = self.at(reflected(unit + MOVE * standard_normal(rng)));
            if to != *from {
                return to;
            }
        }
        let beside = self.beside(from);
        beside[rng.random_range(0..beside.len())].clone()
    }

    /// The values next to `from`, in order: every other choice of a category, the integers before and after, a tenth of
    /// the range downwards and upwards for floats.
    pub fn beside(&self, from: &ParamValue) -> Vec<ParamValue> {
        match (self, from) {
            (Domain::Category(values), from) => values.iter().filter(|value| *value != from).cloned().collect(),
            (Domain::Int { step, .. }, ParamValue::Int(value)) => {
                let around = [value.checked_sub(*step), value.checked_add(*step)];
                around.into_iter().flatten().map(ParamValue::Int).filter(|value| self.contains(value)).collect()
            }
            (Domain::Float { .. }, from) => {
                let Some(unit) = self.unit(from) else { return Vec::new() };
                let around = [unit - MOVE / 2.0, unit + MOVE / 2.0].map(|unit| self.at(unit));
                let mut beside: Vec<ParamValue> = around.into_iter().filter(|value| value != from).collect();
                beside.dedup();
                beside
            }
            (Domain::Int { .. }, _) => Vec::new(),
        }
    }

    /// `value` as one of this domain: an integer written where a float is asked for becomes one.
    pub fn accept(&self, value: &ParamValue) -> Option<ParamValue> {
        let value = match (self, value) {
            (Domain::Float { .. }, ParamValue::Int(value)) => ParamValue::float(*value as f64)?,
            (_, value) => value.clone(),
        };
        self.contains(&value).then_some(value)
    }

    /// The number of the last integer, counted from 0; 0 for other domains.
    fn last_index(&self) -> u64 {
        let Domain::Int { low, high, step, .. } = self else { return 0 };
        let last = (i128::from(*high) - i128::from(*low)) / i128::from((*step).max(1));
        u64::try_from(last).unwrap_or(u64::MAX)
    }

    /// The integer number `index`, counted from 0.
    fn integer(&self, index: u64) -> ParamValue {
        let Domain::Int { low, high, step, .. } = self else { return ParamValue::Int(0) };
        let value = i128::from(*low) + i128::from(index) * i128::from(*step);
        ParamValue::Int(i64::try_from(value).unwrap_or(*high))
    }
}

/// The logarithms between which integers are drawn, so that the first and the last have their whole share.
fn log_bounds(low: i64, high: i64) -> (f64, f64) {
    ((low as f64 - 0.5).ln(), (high as f64 + 0.5).ln())
}

#[expect(clippy::expect_used, reason = "bounds are checked to be finite")]
fn finite(value: f64) -> Score {
    Score::new(value).expect("the bounds of a range are finite")
}

/// Decimals that give a range of this width its digits.
fn decimals_of(width: f64) -> i32 {
    if width > 0.0 { DIGITS - width.log10().floor() as i32 } else { 17 }
}

/// `value` with so many digits behind the point: written and read again, so that it is the number nearest to them.
fn to_decimals(value: f64, decimals: i32) -> f64 {
    match usize::try_from(decimals) {
        // More digits than a float has change nothing.
        Ok(decimals) if decimals <= 30 => format!("{value:.decimals$}").parse().unwrap_or(value),
        Ok(_) => value,
        Err(_) => to_digits(value),
    }
}

/// `value` with its significant digits.
fn to_digits(value: f64) -> f64 {
    let digits = DIGITS as usize - 1;
    format!("{value:.digits$e}").parse().unwrap_or(value)
}

/// Back onto the unit interval, as from a mirror at either end.
fn reflected(unit: f64) -> f64 {
    let turned = unit.rem_euclid(2.0);
    if turned > 1.0 { 2.0 - turned } else { turned }
}

#[cfg(test)]
mod tests;
