//! Intervals of what a quantity may be: conditions go in, their intersection or its emptiness comes out.

use super::Allowed;

/// An interval of numbers of 0 or more, each end with whether it belongs to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bounds {
    /// The lower end.
    pub low: f64,
    /// Whether the lower end itself is allowed.
    pub with_low: bool,
    /// The upper end; infinite where there is none.
    pub high: f64,
    /// Whether the upper end itself is allowed.
    pub with_high: bool,
}

impl Bounds {
    /// Whatever a quantity can be: none is negative.
    pub const ANY: Self = Self { low: 0.0, with_low: true, high: f64::INFINITY, with_high: false };

    /// What one condition allows.
    pub(super) fn of(allowed: Allowed) -> Self {
        let any = Self { low: f64::NEG_INFINITY, with_low: false, ..Self::ANY };
        match allowed {
            Allowed::Below(high) => Self { high, with_high: false, ..any },
            Allowed::AtMost(high) => Self { high, with_high: true, ..any },
            Allowed::Above(low) => Self { low, with_low: false, ..any },
            Allowed::AtLeast(low) => Self { low, with_low: true, ..any },
            Allowed::Exactly(value) => Self { low: value, with_low: true, high: value, with_high: true },
            Allowed::Within(low, high) => Self { low, with_low: true, high, with_high: true },
        }
    }

    /// What both allow, or `None` where that is nothing.
    pub(super) fn and(self, other: Self) -> Option<Self> {
        let (low, with_low) = match (self.low, other.low) {
            (a, b) if a > b => (a, self.with_low),
            (a, b) if a < b => (b, other.with_low),
            (a, _) => (a, self.with_low && other.with_low),
        };
        let (high, with_high) = match (self.high, other.high) {
            (a, b) if a < b => (a, self.with_high),
            (a, b) if a > b => (b, other.with_high),
            (a, _) => (a, self.with_high && other.with_high),
        };
        let exists = low < high || (low == high && with_low && with_high);
        exists.then_some(Self { low, with_low, high, with_high })
    }
}
