//! What this process has used so far, as Linux tells it. Elsewhere everything is 0.

use std::time::{Duration, Instant};

/// The resident set, in bytes.
pub(crate) fn resident_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: u64 = text.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0);
    pages * 4096
}

/// Processor time of all threads, the kernel's part included. The scheduler counts in steps of 10 ms.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name, in parentheses, may hold blanks; utime and stime are fields 14 and 15.
    let after_name = text.rsplit(") ").next().unwrap_or_default();
    let ticks = |field: usize| after_name.split(' ').nth(field - 3).and_then(|ticks| ticks.parse::<u64>().ok());
    Duration::from_millis(10 * (ticks(14).unwrap_or(0) + ticks(15).unwrap_or(0)))
}

/// A stretch of time that is being measured.
pub(crate) struct Stretch {
    began: Instant,
    processor: Duration,
    resident: u64,
}

impl Stretch {
    pub(crate) fn begin() -> Self {
        Self { began: Instant::now(), processor: processor_time(), resident: resident_bytes() }
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Processor seconds.
    pub(crate) fn processor_seconds(&self) -> f64 {
        (processor_time().saturating_sub(self.processor)).as_secs_f64()
    }

    /// By how many bytes the resident set has grown.
    pub(crate) fn growth(&self) -> u64 {
        resident_bytes().saturating_sub(self.resident)
    }
}

/// The value below which this share of `values` lies.
pub(crate) fn percentile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let last = values.len().saturating_sub(1);
    values.get((share * last as f64).round() as usize).copied().unwrap_or(0)
}
