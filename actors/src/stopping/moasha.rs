//! Multi-objective ASHA: successive halving by all objectives at once. Source: Schmucker et al. 2021, "Multi-objective
//! Asynchronous Successive Halving" (arXiv 2106.12639), section 4: the trials of a rung are ranked by non-dominated
//! sorting, those of one front by how they spread over it.
//!
//! Rungs, modes and what completes a trial are those of [`Asha`](super::asha::Asha). Of the `n` trials in a rung, the
//! first `floor(n / eta)` of the ranking are on top (`moasha/ranking.rs`).
//! - [`AshaMode::Stop`](super::asha::AshaMode::Stop): a trial that enters a rung goes on if it is on top, **or if no trial of the rung dominates it**,
//!   however many there are of those: nothing says that they are worse.
//! - [`AshaMode::Promote`](super::asha::AshaMode::Promote): every trial pauses at every rung, and those on top are promoted in the ranking's order.
//!
//! What it costs (`moasha/pareto.rs`): a rung keeps the exact Pareto front of all that ever entered it (an entry costs
//! `O(log n)` with two objectives, `O(front)` with more), and ranks exactly as long as no more than 256 trials have
//! entered. From then on a new trial is ranked among a uniform sample of 256 of them, and its place is not reconsidered
//! when others come: `O(256 log 256)` with two objectives, `O(256^2)` comparisons at worst with more.

use serde::{Deserialize, Serialize};

use super::asha::{AshaError, AshaSpec};
use super::ladder::{Climb, Ladder};
use crate::ids::Epoch;

mod pareto;
mod ranking;

use pareto::ParetoRung;

/// The settings of [`MoAsha`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MoAshaSpec {
    /// The rungs, and what happens to the trials that are not on top.
    pub halving: AshaSpec,
    /// The order within a front.
    pub spread: Spread,
}

/// How trials of one front are put in order, where not all of them are on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// An epsilon-net: after the trial with the least first cost, always the one that is furthest from all before it.
    /// Source: Salinas et al. 2021, "A Multi-Objective Perspective on Jointly Tuning Hardware and Hyperparameters",
    /// section 3; the best of those that Schmucker et al. compare.
    EpsilonNet,
    /// The larger crowding distance first. Source: Deb et al. 2002, NSGA-II, section III-B.
    Crowding,
}

/// Multi-objective ASHA, by all judged objectives: those that [`Search::stopping`](crate::Search::stopping) is given, so name
/// two or more there. For its cost see the head of this file.
#[derive(Debug)]
pub struct MoAsha {
    ladder: Ladder<ParetoRung>,
}

impl MoAsha {
    /// The rule with these settings.
    ///
    /// # Errors
    /// See [`AshaError`].
    pub fn new(spec: MoAshaSpec) -> Result<Self, AshaError> {
        let MoAshaSpec { halving, spread } = spec;
        let AshaSpec { max_epochs, eta, mode, .. } = halving;
        let rung = || ParetoRung::new(eta, spread);
        Ok(Self { ladder: Ladder::new(mode, &halving.rungs()?, max_epochs, rung) })
    }

    /// Where the rungs stand, from the lowest up.
    pub fn rungs(&self) -> Vec<Epoch> {
        self.ladder.epochs().collect()
    }
}

impl Climb for MoAsha {
    type Rung = ParetoRung;

    fn ladder(&self) -> &Ladder<ParetoRung> {
        &self.ladder
    }

    fn ladder_mut(&mut self) -> &mut Ladder<ParetoRung> {
        &mut self.ladder
    }
}

#[cfg(test)]
mod tests;
