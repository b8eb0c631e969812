//! How many requests a client may make: a token bucket for each address. Addresses and the time come in, leave or the seconds
//! to wait go out. Pure, and bounded: buckets that have filled up again are forgotten.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

/// Most addresses that are told apart; beyond that they share one bucket.
const ADDRESSES: usize = 4096;

/// How many seconds' worth of requests may come at once.
const BURST_SECONDS: f64 = 2.0;

/// The buckets.
#[derive(Debug)]
pub(crate) struct Buckets {
    per_second: f64,
    burst: f64,
    buckets: HashMap<IpAddr, Bucket>,
    others: Bucket,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    /// Since the beginning, when `tokens` was right.
    at: Duration,
}

impl Buckets {
    /// Buckets for this many requests a second of each address, and twice as many at once.
    pub(crate) fn new(per_second: NonZeroU32) -> Self {
        let per_second = f64::from(per_second.get());
        let burst = per_second * BURST_SECONDS;
        Self { per_second, burst, buckets: HashMap::new(), others: Bucket { tokens: burst, at: Duration::ZERO } }
    }

    /// Lets a request of `address` in at the time `now`, or says how many whole seconds it is to wait.
    pub(crate) fn admit(&mut self, address: IpAddr, now: Duration) -> Result<(), u64> {
        if self.buckets.len() >= ADDRESSES && !self.buckets.contains_key(&address) {
            let (rate, burst) = (self.per_second, self.burst);
            self.buckets.retain(|_, bucket| bucket.filled(rate, burst, now).tokens < burst);
        }
        let full = Bucket { tokens: self.burst, at: now };
        let bucket = match self.buckets.len() < ADDRESSES || self.buckets.contains_key(&address) {
            true => self.buckets.entry(address).or_insert(full),
            false => &mut self.others,
        };
        *bucket = bucket.filled(self.per_second, self.burst, now);
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Ok(());
        }
        // A bucket that is short of less than one token fills within a second at one token a second.
        let seconds = ((1.0 - bucket.tokens) / self.per_second).ceil();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 2")]
        Err(seconds.clamp(1.0, 2.0) as u64)
    }
}

impl Bucket {
    fn filled(self, per_second: f64, burst: f64, now: Duration) -> Self {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        Self { tokens: (self.tokens + passed * per_second).min(burst), at: now.max(self.at) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    #[test]
    fn a_client_gets_its_rate_and_no_more_whatever_others_do() {
        let mut buckets = Buckets::new(NonZeroU32::new(10).unwrap());
        let mut admitted = |address: IpAddr, ms: u64| buckets.admit(address, Duration::from_millis(ms)).is_ok();
        assert_eq!((0..50).filter(|_| admitted(address(1), 0)).count(), 20, "a burst");
        assert!(admitted(address(2), 0), "another client");
        assert_eq!((0..50).filter(|_| admitted(address(1), 1_000)).count(), 10);
        // Two requests each 100 ms, of which one is let in.
        assert_eq!((1..=100).filter(|turn| admitted(address(1), 1_000 + turn * 50)).count(), 50);
        assert_eq!(buckets.admit(address(1), Duration::ZERO), Err(1), "a clock that goes back changes nothing");
    }

    #[test]
    fn memory_is_bounded_however_many_addresses_there_are() {
        let mut buckets = Buckets::new(NonZeroU32::MIN);
        for number in 0..20_000 {
            let _ = buckets.admit(address(number), Duration::ZERO);
        }
        assert!(buckets.buckets.len() <= ADDRESSES);
        assert!(buckets.admit(address(90_000), Duration::ZERO).is_err(), "the shared bucket is empty");
        assert!(buckets.admit(address(90_001), Duration::from_secs(5)).is_ok(), "full buckets were forgotten");
        assert!(buckets.buckets.len() < 10);
    }
}
