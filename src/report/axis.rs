//! Axes: from numbers to places in a picture, with ticks at round numbers and labels that are short and true. Pure.

use std::fmt::{self, Display};

/// A scale from values to a picture's units.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Scale {
    kind: Kind,
    /// Values at the two ends.
    domain: (f64, f64),
    /// Their places.
    range: (f64, f64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Linear,
    Logarithmic,
}

/// A mark on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tick {
    /// Its place in the picture.
    pub(crate) at: f64,
    /// What it says.
    pub(crate) label: String,
}

/// Values whose largest is this many times the smallest are drawn on a logarithmic scale.
const LOGARITHMIC_FROM: f64 = 50.0;

impl Scale {
    /// A linear scale over `values`, with a little room at both ends. Values that are all the same get room around them.
    pub(crate) fn linear(values: impl IntoIterator<Item = f64>, range: (f64, f64)) -> Self {
        let (low, high) = extent(values).unwrap_or((0.0, 1.0));
        let span = high - low;
        let room = if span > 0.0 { 0.05 * span } else { 0.05 * low.abs().max(1e-3) };
        // No room below zero for quantities that have no negative values.
        let bottom = if low >= 0.0 { (low - room).max(0.0) } else { low - room };
        Self { kind: Kind::Linear, domain: (bottom, high + room), range }
    }

    /// A linear scale exactly from `low` to `high`.
    pub(crate) fn exact(low: f64, high: f64, range: (f64, f64)) -> Self {
        let high = if high > low { high } else { low + 1.0 };
        Self { kind: Kind::Linear, domain: (low, high), range }
    }

    /// A scale that suits `values`: logarithmic where they are positive and far apart, else linear.
    pub(crate) fn fitting(values: impl IntoIterator<Item = f64> + Clone, range: (f64, f64)) -> Self {
        match extent(values.clone()) {
            Some((low, high)) if low > 0.0 && high / low > LOGARITHMIC_FROM => {
                let room = (high / low).powf(0.04);
                Self { kind: Kind::Logarithmic, domain: (low / room, high * room), range }
            }
            _ => Self::linear(values, range),
        }
    }

    /// Whether it is logarithmic.
    pub(crate) fn is_logarithmic(&self) -> bool {
        self.kind == Kind::Logarithmic
    }

    /// The place of `value`, within the range.
    pub(crate) fn place(&self, value: f64) -> f64 {
        let ((low, high), (from, to)) = (self.domain, self.range);
        let share = match self.kind {
            Kind::Linear => (value - low) / (high - low),
            Kind::Logarithmic => (value / low).ln() / (high / low).ln(),
        };
        // A NaN, as of a logarithm of what is not positive, stands at the low end.
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        from + share * (to - from)
    }

    /// About `count` ticks at round values.
    pub(crate) fn ticks(&self, count: usize) -> Vec<Tick> {
        let (low, high) = self.domain;
        let (values, step) = match self.kind {
            Kind::Linear => {
                let step = round_step((high - low) / count.max(1) as f64);
                (multiples(low, high, step), step)
            }
            Kind::Logarithmic => (decades(low, high, count), 0.0),
        };
        values
            .into_iter()
            .map(|value| Tick { at: self.place(value), label: Short { value, step }.to_string() })
            .collect()
    }

    /// About `count` ticks at round times, for values in milliseconds.
    pub(crate) fn time_ticks(&self, count: usize) -> Vec<Tick> {
        let (low, high) = self.domain;
        let least = (high - low) / count.max(1) as f64;
        let step = TIME_STEPS_MS.into_iter().find(|step| *step >= least);
        let step = step.unwrap_or_else(|| round_step(least / DAY_MS) * DAY_MS);
        let times = multiples(low, high, step);
        times.into_iter().map(|ms| Tick { at: self.place(ms), label: tick_time(ms, step) }).collect()
    }
}

/// The smallest and the largest of the finite `values`.
pub(crate) fn extent(values: impl IntoIterator<Item = f64>) -> Option<(f64, f64)> {
    values.into_iter().filter(|value| value.is_finite()).fold(None, |extent, value| match extent {
        None => Some((value, value)),
        Some((low, high)) => Some((low.min(value), high.max(value))),
    })
}

/// 1, 2 or 5 times a power of ten: the smallest that is not much below `about`.
fn round_step(about: f64) -> f64 {
    if !(about.is_finite() && about > 0.0) {
        return 1.0;
    }
    let least = 0.7 * about;
    let power = 10_f64.powf(least.log10().floor());
    // The tolerance keeps a step that is already round from being doubled by rounding.
    [1.0, 2.0, 5.0, 10.0]
        .map(|digit| digit * power)
        .into_iter()
        .find(|step| *step >= least * (1.0 - 1e-9))
        .unwrap_or(power)
}

/// The multiples of `step` from `low` to `high`.
fn multiples(low: f64, high: f64, step: f64) -> Vec<f64> {
    let first = (low / step - 1e-9).ceil();
    let count = ((high / step + 1e-9).floor() - first).clamp(-1.0, 1_000.0);
    // `+ 0.0` turns a negative zero into zero.
    (0..=count as i64).filter(|_| count >= 0.0).map(|at| (first + at as f64) * step + 0.0).collect()
}

/// Round values on a logarithmic scale: 1, 2 and 5 times powers of ten, or fewer where there are many decades.
fn decades(low: f64, high: f64, count: usize) -> Vec<f64> {
    let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
    let digits: &[f64] = if (last - first) as usize * 3 <= count + 3 { &[1.0, 2.0, 5.0] } else { &[1.0] };
    let stride = ((last - first) as usize / count.max(1)).max(1);
    let powers = (first..=last).step_by(stride);
    let values = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10_f64.powi(power)));
    values.filter(|value| (low..=high).contains(value)).collect()
}

/// A number for a person: with the prefixes k, M, G, T from ten thousand on, and with as many digits as `step` needs.
#[derive(Debug, Clone, Copy)]
struct Short {
    value: f64,
    /// The smallest difference that must show; 0 where the value stands alone.
    step: f64,
}

impl Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { value, step } = *self;
        let size = value.abs();
        let (unit, prefix) = match size {
            1e12.. => (1e12, "T"),
            1e9.. => (1e9, "G"),
            1e6.. => (1e6, "M"),
            1e4.. => (1e3, "k"),
            _ => (1.0, ""),
        };
        if value == 0.0 {
            return f.write_str("0");
        }
        if unit == 1.0 && (size < 1e-4 || step > 0.0 && step < 1e-5) {
            return write!(f, "{value:.0e}");
        }
        let digits = if step > 0.0 {
            (-(step / unit).log10() - 1e-9).ceil().max(0.0) as usize
        } else {
            significant_decimals(value / unit)
        };
        let text = trimmed(format!("{:.digits$}", value / unit), step == 0.0);
        let text = text.strip_prefix('-').map_or(text.clone(), |rest| format!("\u{2212}{rest}"));
        if prefix.is_empty() { f.write_str(&text) } else { write!(f, "{text}\u{a0}{prefix}") }
    }
}

/// Decimals for four significant digits.
fn significant_decimals(value: f64) -> usize {
    (3.0 - value.abs().max(1e-9).log10().floor()).clamp(0.0, 8.0) as usize
}

fn trimmed(text: String, trim: bool) -> String {
    if trim && text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// [`short`], but with all four digits, so that the numbers of a column stand under each other.
pub(crate) fn column(value: f64) -> String {
    let whole = short(value);
    if !whole.contains('.') || whole.contains('\u{a0}') {
        return whole;
    }
    let digits = significant_decimals(value);
    format!("{value:.digits$}").replacen('-', "\u{2212}", 1)
}

/// `value` with four significant digits and a prefix where it is large: `0.4213`, `25.6 M`.
pub(crate) fn short(value: f64) -> String {
    if value.fract() == 0.0 && value.abs() < 1e4 {
        return format!("{value:.0}").replacen('-', "\u{2212}", 1);
    }
    Short { value, step: 0.0 }.to_string()
}

const SECOND_MS: f64 = 1e3;
const MINUTE_MS: f64 = 60.0 * SECOND_MS;
const HOUR_MS: f64 = 60.0 * MINUTE_MS;
const DAY_MS: f64 = 24.0 * HOUR_MS;

const TIME_STEPS_MS: [f64; 26] = [
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    50.0,
    100.0,
    200.0,
    500.0,
    SECOND_MS,
    2.0 * SECOND_MS,
    5.0 * SECOND_MS,
    10.0 * SECOND_MS,
    15.0 * SECOND_MS,
    30.0 * SECOND_MS,
    MINUTE_MS,
    2.0 * MINUTE_MS,
    5.0 * MINUTE_MS,
    10.0 * MINUTE_MS,
    15.0 * MINUTE_MS,
    30.0 * MINUTE_MS,
    HOUR_MS,
    2.0 * HOUR_MS,
    6.0 * HOUR_MS,
    12.0 * HOUR_MS,
    DAY_MS,
];

/// A time on an axis whose ticks are `step` apart, in its largest units: `40 s`, `1 h 30`, `2 d`.
fn tick_time(ms: f64, step: f64) -> String {
    let parts = |large: f64, small: f64, unit: &str| {
        let whole = (ms / large).floor();
        let rest = ((ms - whole * large) / small).round();
        if rest == 0.0 { format!("{whole:.0}\u{a0}{unit}") } else { format!("{whole:.0}\u{a0}{unit}\u{a0}{rest:02.0}") }
    };
    if ms == 0.0 {
        "0".to_owned()
    } else if step < SECOND_MS && ms < SECOND_MS {
        format!("{ms:.0}\u{a0}ms")
    } else if ms < MINUTE_MS {
        format!("{}\u{a0}s", trimmed(format!("{:.3}", ms / SECOND_MS), true))
    } else if ms < HOUR_MS {
        parts(MINUTE_MS, SECOND_MS, "min")
    } else if ms < DAY_MS {
        parts(HOUR_MS, MINUTE_MS, "h")
    } else {
        parts(DAY_MS, HOUR_MS, "d")
    }
}

/// A duration for a person: `840 ms`, `12.4 s`, `3 min 20 s`, `5 h 02 min`, `2 d 7 h`.
pub(crate) fn duration(ms: u64) -> String {
    let seconds = ms / 1_000;
    let (minutes, hours) = (seconds / 60, seconds / 3_600);
    match seconds {
        0 => format!("{ms}\u{a0}ms"),
        1..60 => format!("{:.1}\u{a0}s", ms as f64 / 1e3),
        60..3_600 => format!("{minutes}\u{a0}min\u{a0}{:02}\u{a0}s", seconds % 60),
        3_600..86_400 => format!("{hours}\u{a0}h\u{a0}{:02}\u{a0}min", minutes % 60),
        _ => format!("{}\u{a0}d\u{a0}{}\u{a0}h", hours / 24, hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn labels(ticks: &[Tick]) -> Vec<String> {
        ticks.iter().map(|tick| tick.label.replace('\u{a0}', " ")).collect()
    }

    #[test]
    fn ticks_stand_at_round_values() {
        assert_eq!(labels(&Scale::exact(0.0, 1.0, (0.0, 100.0)).ticks(5)), ["0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Scale::exact(2.1e7, 4.4e7, (0.0, 100.0)).ticks(4)), ["25 M", "30 M", "35 M", "40 M"]);
        assert_eq!(labels(&Scale::exact(-3.0, 3.0, (0.0, 100.0)).ticks(3)), ["\u{2212}2", "0", "2"]);
    }

    #[test]
    fn times_have_units_that_suit_the_step() {
        let ticks = |ms| labels(&Scale::exact(0.0, ms, (0.0, 100.0)).time_ticks(4));
        assert_eq!(ticks(1_900.0), ["0", "500 ms", "1 s", "1.5 s"]);
        assert_eq!(ticks(3.5 * HOUR_MS), ["0", "1 h", "2 h", "3 h"]);
        assert_eq!(ticks(100.0 * MINUTE_MS), ["0", "30 min", "1 h", "1 h 30"]);
        assert_eq!(
            [duration(12_440), duration(200_000)].map(|text| text.replace('\u{a0}', " ")),
            ["12.4 s", "3 min 20 s"]
        );
    }

    #[test]
    fn far_values_get_a_logarithmic_scale_and_close_ones_do_not() {
        assert!(Scale::fitting([1.0, 1000.0], (0.0, 1.0)).is_logarithmic());
        assert!(!Scale::fitting([0.0, 1000.0], (0.0, 1.0)).is_logarithmic());
        assert_eq!(labels(&Scale::fitting([1.0, 900.0], (0.0, 1.0)).ticks(4)), ["1", "10", "100", "1000"]);
    }

    #[test]
    fn numbers_are_short_and_true() {
        let shown = [0.421_34, 25_557_032.0, 12.0, -0.5, 1e-7].map(|value| short(value).replace('\u{a0}', " "));
        assert_eq!(shown, ["0.4213", "25.56 M", "12", "\u{2212}0.5", "1e-7"]);
    }

    proptest! {
        #[test]
        fn every_tick_is_inside_and_in_order(low in -1e9..1e9_f64, span in 1e-6..1e9_f64, count in 2..12_usize) {
            let scale = Scale::exact(low, low + span, (10.0, 90.0));
            for ticks in [scale.ticks(count), scale.time_ticks(count)] {
                prop_assert!(ticks.len() <= 2 * count + 2, "{} ticks", ticks.len());
                prop_assert!(ticks.iter().all(|tick| (10.0..=90.0).contains(&tick.at)));
                prop_assert!(ticks.windows(2).all(|pair| pair[0].at <= pair[1].at));
            }
        }
    }
}
