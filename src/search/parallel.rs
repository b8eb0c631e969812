//! The parallel phase's sampler: serial winners come in, candidates with extra sub-networks (and, if wanted, another order
//! of the neck) go out. Of results, draws only heed which
//! candidates broke a measured limit (`infeasible.rs`); all candidates start from the weights of the serial network
//! that they grow from, which the caller has (no proposal names a parent).
//!
//! The first proposals are the seeds as they are. After them a seed is drawn uniformly, and then, by
//! [`Law::InverseCost`], how many extra sub-networks each group l gets: while there are fewer than `max_extra`, another is
//! added with probability
//!
//! ```text
//!  p_l = p · min_j m_j / m_l
//! ```
//!
//! where m_l are the multiply-adds of one sub-network of group l with its connector, and p is the probability at the
//! cheapest group. So P(K_l ≥ k) = p_l^k for k up to `max_extra`, independent for each group: the probability of adding
//! a sub-network is inversely proportional to its multiply-adds, as the paper has it (Jiang et al. 2020, parallel phase). With
//! p = 0.6, the default, the cheapest group stays serial in 0.4 of the draws, as in the authors' code.
//!
//! What breaks a limit, is expected to, or is known is drawn again; the law is then the one above, conditional on that. After
//! [`MAX_TRIES`] misses in a row the space is gone through in order, so that the search ends exactly when nothing is left.

use rand::RngExt;
use spnas_actors::TrialId;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::{Ask, Observation, Proposal, Sampler, Suggestion};

use super::ceilings::{CeilingError, Ceilings};
use super::constraint::Limit;
use super::infeasible::Infeasible;
use crate::arch::Architecture;
use crate::arch::architecture::ArchitectureError;
use crate::arch::cost::{self, CostError, InputSize};
use crate::arch::mutate::Probability;
use crate::arch::parallel::{MAX_EXTRA, NeckCode, Parallel};
use crate::arch::serial::SerialBackbone;

mod remaining;
mod space;

/// Draws at one candidate before the space is gone through in order.
pub const MAX_TRIES: u32 = 2000;

/// What a parallel search is made of.
#[derive(Debug, Clone)]
pub struct ParallelSpace {
    /// The networks to start from, usually the serial phase's winners without a parallel part; at least one.
    pub seeds: Vec<Architecture>,
    /// What is searched.
    pub searched: Searched,
    /// Stages of each group, finest first; empty: every stage is a group.
    pub groups: Vec<u32>,
    /// The most extra sub-networks of a group; 3 in SP-NAS.
    pub max_extra: u32,
    /// Whether sub-networks are the main path's own layers run again.
    pub share_weights: bool,
    /// How many sub-networks a group gets.
    pub law: Law,
    /// What a candidate may cost.
    pub ceilings: Ceilings,
}

/// Which parts of an architecture are drawn; the others are the seed's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Searched {
    /// The numbers of sub-networks: the paper and the authors' code.
    SubNetworks,
    /// The order of the neck's outputs: Vega's rewrite.
    Neck,
    /// Both.
    Both,
}

impl Searched {
    fn sub_networks(self) -> bool {
        self != Searched::Neck
    }

    fn neck(self) -> bool {
        self != Searched::SubNetworks
    }
}

/// How a group's number of extra sub-networks is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Law {
    /// Inversely to what a sub-network costs; see the head of this file.
    InverseCost {
        /// The probability of another sub-network at the group where one is cheapest.
        cheapest: Probability,
    },
    /// `compat: vega`: P(K = k) is proportional to `max_extra + 1 - k` whatever the cost: 0.4, 0.3, 0.2, 0.1 for 0 to 3.
    Fixed,
}

impl Default for Law {
    fn default() -> Self {
        Law::InverseCost { cheapest: SIX_TENTHS }
    }
}

const SIX_TENTHS: Probability = match Probability::new(0.6) {
    Some(probability) => probability,
    None => unreachable!(),
};

/// The sampler. Of results it knows which candidates were infeasible.
#[derive(Debug, Clone)]
pub struct ParallelSearch {
    space: ParallelSpace,
    /// Of each seed and group, the probability of another sub-network; empty for [`Law::Fixed`].
    probabilities: Vec<Vec<f64>>,
    /// What broke a limit when it was measured.
    infeasible: Infeasible,
}

impl ParallelSearch {
    /// A search over `space`.
    ///
    /// # Errors
    /// No seed, one that groups or ceilings do not fit or that cannot be counted, or too large a `max_extra`.
    pub fn new(space: ParallelSpace) -> Result<Self, ParallelSpaceError> {
        if space.seeds.is_empty() {
            return Err(ParallelSpaceError::NoSeed);
        }
        if space.max_extra > MAX_EXTRA {
            return Err(ParallelSpaceError::TooMany { max_extra: space.max_extra });
        }
        let mut probabilities = Vec::new();
        for seed in &space.seeds {
            let code = || seed.code().to_string();
            let groups = space.groups_of(seed);
            let serial = Parallel::new(&groups, &vec![0; groups.len()], space.share_weights)
                .map_err(|error| ParallelSpaceError::Groups { code: code(), error: error.into() })?;
            let cut = Architecture { parallel: Some(serial), ..seed.clone() };
            cut.check().map_err(|error| ParallelSpaceError::Groups { code: code(), error })?;
            space.ceilings.check(seed).map_err(|error| ParallelSpaceError::Cost { code: code(), error })?;
            let law = space.law_of(seed);
            probabilities.extend(law.map_err(|error| ParallelSpaceError::Cost { code: code(), error: error.into() })?);
        }
        Ok(Self { space, probabilities, infeasible: Infeasible::default() })
    }

    /// The next candidate of the law, whatever has been proposed and whatever it costs.
    fn draw(&self, rng: &mut SearchRng) -> Architecture {
        let number = rng.random_range(0..self.space.seeds.len());
        self.space.draw(number, self.probabilities.get(number).map(Vec::as_slice), rng)
    }

    fn next_new(&self, ask: &mut Ask<'_>) -> Option<Architecture> {
        for _ in 0..MAX_TRIES {
            let candidate = self.draw(ask.rng);
            if (ask.is_new)(&candidate.key()) && self.judge(&candidate) == Judgement::Fits {
                return Some(candidate);
            }
        }
        self.first_remaining(ask.is_new)
    }

    fn judge(&self, candidate: &Architecture) -> Judgement {
        match self.space.ceilings.check(candidate) {
            Ok(cost) => match self.infeasible.expects(&cost) {
                None => Judgement::Fits,
                Some(Limit::Lower) => Judgement::TooLittle,
                Some(Limit::Upper) => Judgement::TooMuch,
            },
            Err(error) if error.is_too_little() => Judgement::TooLittle,
            Err(_) => Judgement::TooMuch,
        }
    }
}

/// What limits, and results of the same search, say of a candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judgement {
    Fits,
    /// Only one with more sub-networks could fit.
    TooLittle,
    /// None with more sub-networks could fit.
    TooMuch,
}

/// The probability of another sub-network at each group: `cheapest` where one costs least, and elsewhere less by as much
/// as it costs more.
///
/// # Errors
/// Those of [`cost::sub_networks`].
pub fn add_probabilities(
    backbone: &SerialBackbone,
    groups: &[u32],
    input: InputSize,
    cheapest: Probability,
) -> Result<Vec<f64>, CostError> {
    let costs = cost::sub_networks(backbone, groups, input)?;
    let adds: Vec<f64> = costs.iter().map(|cost| cost.multiply_adds.0 as f64).collect();
    let least = adds.iter().copied().fold(f64::INFINITY, f64::min);
    Ok(adds.iter().map(|adds| cheapest.get() * least / adds.max(1.0)).collect())
}

/// One of 0, 1, …, `count` - 1 with probabilities that fall evenly: `count`, `count` - 1, …, 1 over their sum. For four:
/// 0.4, 0.3, 0.2, 0.1, which is how both of Vega's codes draw.
fn falling(count: u32, rng: &mut SearchRng) -> u32 {
    let count = u64::from(count.max(1));
    let mut ticket = rng.random_range(0..count * (count + 1) / 2);
    for value in 0..count {
        let share = count - value;
        if ticket < share {
            return value as u32;
        }
        ticket -= share;
    }
    0
}

impl ParallelSpace {
    /// The search of the paper over these seeds: sub-networks, a group a stage, at most three each, with weights of their
    /// own.
    pub fn of(seeds: Vec<Architecture>, ceilings: Ceilings) -> Self {
        let (searched, law) = (Searched::SubNetworks, Law::default());
        Self { seeds, searched, groups: Vec::new(), max_extra: 3, share_weights: false, law, ceilings }
    }

    fn groups_of(&self, seed: &Architecture) -> Vec<u32> {
        if self.groups.is_empty() { vec![1; seed.serial.sequence.stage_count()] } else { self.groups.clone() }
    }

    /// The probability of another sub-network at each group of a seed; `None` for [`Law::Fixed`].
    fn law_of(&self, seed: &Architecture) -> Result<Option<Vec<f64>>, CostError> {
        let Law::InverseCost { cheapest } = self.law else { return Ok(None) };
        add_probabilities(&seed.serial, &self.groups_of(seed), self.ceilings.input, cheapest).map(Some)
    }

    /// A candidate of this seed by the law, whatever it costs.
    fn draw(&self, seed: usize, law: Option<&[f64]>, rng: &mut SearchRng) -> Architecture {
        let seed = &self.seeds[seed];
        let parallel = self.searched.sub_networks().then(|| {
            let extra = |group: usize| match law.and_then(|law| law.get(group)) {
                Some(&another) => (0..self.max_extra).take_while(|_| rng.random::<f64>() < another).count() as u32,
                None => falling(self.max_extra + 1, rng),
            };
            (0..self.groups_of(seed).len()).map(extra).collect::<Vec<u32>>()
        });
        let stages = seed.serial.sequence.stage_count() as u32;
        let neck = self.searched.neck().then(|| (0..stages).map(|_| falling(stages, rng)).collect::<Vec<u32>>());
        self.candidate(seed, parallel.as_deref(), neck)
    }

    /// `seed` with these numbers of sub-networks and this order of the neck, where they are searched.
    fn candidate(&self, seed: &Architecture, extra: Option<&[u32]>, neck: Option<Vec<u32>>) -> Architecture {
        let mut candidate = seed.clone();
        if let Some(extra) = extra {
            candidate.parallel = Parallel::new(&self.groups_of(seed), extra, self.share_weights)
                .ok()
                .filter(|parallel| !parallel.is_serial());
        }
        if let Some(levels) = neck {
            candidate.neck = NeckCode::new(levels).ok();
        }
        candidate
    }
}

impl Sampler for ParallelSearch {
    type Candidate = Architecture;

    fn ask(&self, ask: &mut Ask<'_>) -> Suggestion<Architecture> {
        let seeds = self.space.seeds.iter().map(|seed| (seed.key(), seed));
        if let Some((key, seed)) = seeds.into_iter().find(|(key, _)| (ask.is_new)(key)) {
            let origin = "seed".to_owned();
            return Suggestion::Propose(Proposal { candidate: seed.clone(), key, parent: None, origin });
        }
        match self.next_new(ask) {
            Some(candidate) => {
                let (key, origin) = (candidate.key(), "parallel".to_owned());
                Suggestion::Propose(Proposal { candidate, key, parent: None, origin })
            }
            None => Suggestion::Exhausted,
        }
    }

    fn tell(&mut self, observation: &Observation<Architecture>) {
        let cost = || cost::architecture(&observation.candidate, self.space.ceilings.input).ok();
        self.infeasible.tell(&observation.outcome, cost);
    }

    fn parents(&self) -> Vec<TrialId> {
        Vec::new()
    }
}

/// Why a parallel search cannot start.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ParallelSpaceError {
    /// There is no seed.
    #[error("no network to start from: name at least one, or a step that has found some")]
    NoSeed,
    /// Too many sub-networks.
    #[error("{max_extra} extra sub-networks a group are above the limit of {MAX_EXTRA}")]
    TooMany {
        /// What was asked for.
        max_extra: u32,
    },
    /// The groups do not cut this seed's stages.
    #[error("seed {code}: {error}")]
    Groups {
        /// The seed.
        code: String,
        /// Why.
        error: ArchitectureError,
    },
    /// A seed costs more or less than allowed, or cannot be built.
    #[error("seed {code} cannot be searched from: {error}")]
    Cost {
        /// The seed.
        code: String,
        /// Why.
        error: CeilingError,
    },
}

#[cfg(test)]
mod tests;
