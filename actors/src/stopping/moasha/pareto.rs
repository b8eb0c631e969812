//! A rung that compares by several costs. It ranks exactly while few trials have entered, and by a sample afterwards, so
//! that neither its memory for the ranking nor the cost of an entry grows; see `moasha.rs`.

use std::collections::{BTreeSet, HashMap};

use super::Spread;
use super::ranking::{place_of, ranking};
use crate::archive::{Front, Insertion};
use crate::ids::TrialId;
use crate::stopping::ladder::{Entrant, Rung};

/// As many trials are ranked against each other.
const RANKED: usize = 256;

/// The trials of a rung, or a sample of them.
#[derive(Debug)]
pub(in crate::stopping) struct ParetoRung {
    eta: usize,
    spread: Spread,
    /// How many have entered.
    count: usize,
    /// The Pareto front of all that have entered; made with the first, when the number of costs is known.
    front: Option<Front>,
    /// The costs of all that have entered, or of a uniform sample.
    sample: Vec<Vec<f64>>,
    promotion: Promotion,
}

/// Who waits, and who of them may be promoted.
#[derive(Debug)]
enum Promotion {
    /// Nobody waits in this rung, or all that have entered are in the sample. Then the ranking is made anew for each that
    /// enters.
    Exact {
        /// The trials of the sample, in its order.
        trials: Vec<TrialId>,
        /// Places in the sample, the best first.
        order: Vec<usize>,
        /// Those that wait, with their arrival.
        waiting: HashMap<TrialId, u64>,
    },
    /// More have entered: each has the place that it had when it came.
    Sampled {
        /// Those that wait.
        waiting: HashMap<TrialId, Standing>,
        /// Those of them that were on top.
        promotable: BTreeSet<Standing>,
    },
}

/// A waiting trial's place when it came. The lesser is the better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    place: usize,
    arrival: u64,
    trial: TrialId,
}

impl ParetoRung {
    /// An empty rung of which one in `eta` is on top.
    pub(super) fn new(eta: u32, spread: Spread) -> Self {
        let promotion = Promotion::Exact { trials: Vec::new(), order: Vec::new(), waiting: HashMap::new() };
        Self { eta: eta as usize, spread, count: 0, front: None, sample: Vec::new(), promotion }
    }

    /// Whether no trial of the rung dominates the new one.
    fn join_front(&mut self, trial: TrialId, costs: &[f64]) -> bool {
        let front = self.front.get_or_insert_with(|| Front::new(costs.len()));
        matches!(front.insert(trial, costs.to_vec()), Ok(Insertion::Joined { .. } | Insertion::Tied { .. }))
    }

    /// From here on places are kept as they are.
    fn begin_sampling(&mut self) {
        let Promotion::Exact { trials, order, waiting } = &self.promotion else { return };
        let standings = order.iter().enumerate().filter_map(|(place, &index)| {
            let trial = *trials.get(index)?;
            Some(Standing { place, arrival: *waiting.get(&trial)?, trial })
        });
        let waiting: HashMap<TrialId, Standing> = standings.map(|standing| (standing.trial, standing)).collect();
        let share = self.sample.len() / self.eta;
        let promotable = waiting.values().filter(|standing| standing.place < share).copied().collect();
        self.promotion = Promotion::Sampled { waiting, promotable };
    }

    /// Puts the newest of the sample in the place of one drawn at random, or of itself, so that each that has entered is
    /// in the sample with the same probability. Source: Vitter 1985, "Random Sampling with a Reservoir", algorithm R. The
    /// draw is a function of how many have entered.
    fn thin(&mut self) {
        let drawn = split_mix(self.count as u64) % self.count as u64;
        let newest = self.sample.len() - 1;
        self.sample.swap(newest, usize::try_from(drawn).unwrap_or(newest).min(newest));
        self.sample.truncate(RANKED);
    }
}

impl Rung for ParetoRung {
    /// It goes on where it is on top, not dominated, or where there are too few to judge it by.
    fn enter(&mut self, Entrant { trial, arrival, costs }: Entrant<'_>, waits: bool) -> bool {
        let costs: Vec<f64> = costs.iter().map(|cost| cost.get()).collect();
        let not_dominated = self.join_front(trial, &costs);
        if self.count == RANKED {
            self.begin_sampling();
        }
        self.count += 1;
        self.sample.push(costs);
        let share = self.sample.len() / self.eta;
        let place = match &mut self.promotion {
            Promotion::Exact { trials, order, waiting } => {
                trials.push(trial);
                if waits {
                    waiting.insert(trial, arrival);
                }
                if waiting.is_empty() {
                    place_of(self.sample.len() - 1, &self.sample, self.spread, share)
                } else {
                    *order = ranking(&self.sample, self.spread, usize::MAX);
                    order.iter().take(share).position(|&index| index + 1 == self.sample.len())
                }
            }
            Promotion::Sampled { waiting, promotable } => {
                let place = place_of(self.sample.len() - 1, &self.sample, self.spread, share);
                if waits {
                    let standing = Standing { place: place.unwrap_or(usize::MAX), arrival, trial };
                    waiting.insert(trial, standing);
                    if place.is_some() {
                        promotable.insert(standing);
                    }
                }
                self.thin();
                place
            }
        };
        place.is_some() || not_dominated || share == 0
    }

    fn promotable(&self) -> Option<TrialId> {
        match &self.promotion {
            Promotion::Exact { trials, order, waiting } => {
                let share = self.sample.len() / self.eta;
                let top = order.iter().take(share).filter_map(|&index| trials.get(index));
                top.copied().find(|trial| waiting.contains_key(trial))
            }
            Promotion::Sampled { promotable, .. } => promotable.first().map(|standing| standing.trial),
        }
    }

    /// `O(n)`: asked when a search is over.
    fn best_waiting(&self) -> Option<TrialId> {
        match &self.promotion {
            Promotion::Exact { trials, order, waiting } => {
                let trials = order.iter().filter_map(|&index| trials.get(index));
                trials.copied().find(|trial| waiting.contains_key(trial))
            }
            Promotion::Sampled { waiting, .. } => waiting.values().min().map(|standing| standing.trial),
        }
    }

    fn no_longer_waits(&mut self, trial: TrialId) {
        match &mut self.promotion {
            Promotion::Exact { waiting, .. } => _ = waiting.remove(&trial),
            Promotion::Sampled { waiting, promotable } => {
                if let Some(standing) = waiting.remove(&trial) {
                    promotable.remove(&standing);
                }
            }
        }
    }
}

/// A step of SplitMix64. Source: Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number Generators", figure 17.
fn split_mix(number: u64) -> u64 {
    let mut x = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}
