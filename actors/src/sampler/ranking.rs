//! How trials compare with several objectives and with constraints: a trial that breaks its constraints less comes
//! first, then who was trained further (all that finished before all that were stopped), then the front it is on when the
//! better ones are peeled off, and among those of one front how much room it has. Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic Algorithm: NSGA-II", sections III-A (fronts),
//! III-B (room) and VI (constraints). With three objectives, where the crowding distance says little, room is the hypervolume
//! that a trial alone covers: Beume, Naujoks and Emmerich 2007, "SMS-EMOA: Multiobjective Selection Based on Dominated
//! Hypervolume" (European Journal of Operational Research).

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::archive::front::dominates;
use crate::archive::hypervolume::hypervolume;
use crate::ids::Epoch;
use crate::sampler::{Observation, VIOLATION};
use crate::trial::{FailureReason, Outcome};

/// What a trial's end says of its candidate.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Worth {
    /// It finished, at these costs, all finite and minimised.
    Costs(Vec<f64>),
    /// It was stopped after so many epochs, at these costs, all finite and minimised. They compare with those of others
    /// that came as far; that they came no further is what the stopping rule thinks of them.
    Stopped(Epoch, Vec<f64>),
    /// It breaks a constraint by this much, where that was measured: finite and above 0.
    Infeasible(Option<f64>),
}

impl Worth {
    /// Nothing where the trial went wrong, or was stopped before all its objectives were reported: that does not compare.
    pub(super) fn of<C>(observation: &Observation<C>) -> Option<Self> {
        let finite = |costs: &Option<Vec<f64>>| costs.clone().filter(|costs| costs.iter().all(|cost| cost.is_finite()));
        match &observation.outcome {
            Outcome::Finished => finite(&observation.costs).map(Self::Costs),
            Outcome::Stopped { epoch } => finite(&observation.stopped_costs).map(|costs| Self::Stopped(*epoch, costs)),
            Outcome::Failed { reason: FailureReason::Infeasible { .. } } => {
                let violation = observation.metrics.get(VIOLATION).map(|score| score.get());
                Some(Self::Infeasible(violation.filter(|violation| *violation > 0.0)))
            }
            Outcome::Failed { .. } => None,
        }
    }
}

/// A trial's standing among others. The lesser is the better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// By how much it breaks its constraints; infinite where that is not known.
    violation: f64,
    /// 0 where it finished; else the greater, the earlier it was stopped.
    unfinished: u32,
    /// 0 where nobody dominates it, 1 where only those of front 0 do, and so on.
    front: usize,
    /// What the front would lose with it: see [`distances`] and [`shares`].
    room: f64,
}

impl Standing {
    /// `Less` where `self` is better.
    pub(super) fn compare(self, other: Self) -> Ordering {
        let violation = self.violation.total_cmp(&other.violation);
        let further = violation.then(self.unfinished.cmp(&other.unfinished));
        further.then(self.front.cmp(&other.front)).then(other.room.total_cmp(&self.room))
    }
}

/// The standing of each among all of them. With one or two objectives `O(n log n)`, with more `O(n^2)` comparisons.
pub(super) fn standings<'a>(worths: impl IntoIterator<Item = &'a Worth>) -> Vec<Standing> {
    let mut standings = Vec::new();
    let mut comparable: BTreeMap<u32, Vec<(usize, &[f64])>> = BTreeMap::new();
    for (index, worth) in worths.into_iter().enumerate() {
        let (violation, unfinished, costs) = match worth {
            Worth::Costs(costs) => (0.0, 0, Some(costs)),
            Worth::Stopped(epoch, costs) => (0.0, u32::MAX - epoch.0, Some(costs)),
            Worth::Infeasible(violation) => (violation.unwrap_or(f64::INFINITY), 0, None),
        };
        standings.push(Standing { violation, unfinished, front: 0, room: 0.0 });
        if let Some(costs) = costs {
            comparable.entry(unfinished).or_default().push((index, costs));
        }
    }
    let peeled = comparable.into_values().flat_map(|costs| fronts(costs).into_iter().enumerate());
    for (front, members) in peeled {
        let rooms = match members.first().map_or(0, |member| member.1.len()) {
            3 if members.len() <= MOST_SHARES => shares(&members),
            _ => distances(members),
        };
        for (index, room) in rooms {
            standings[index].front = front;
            standings[index].room = room;
        }
    }
    standings
}

/// The fronts, best first, each in the order of its costs. Source: Zhang et al. 2015, "An Efficient Approach to
/// Nondominated Sorting for Evolutionary Multiobjective Optimization" (ENS-BS): in the order of costs nobody is dominated
/// by a later one, and who dominates a member of some front is dominated by none of a later front, so that a binary
/// search finds the front of each.
fn fronts(mut costs: Vec<(usize, &[f64])>) -> Vec<Vec<(usize, &[f64])>> {
    costs.sort_by(|a, b| in_order(a.1, b.1));
    let mut fronts: Vec<Vec<(usize, &[f64])>> = Vec::new();
    for one in costs {
        let is_beaten = |front: &Vec<(usize, &[f64])>| match one.1.len() {
            // With two objectives the last of a front is the lowest in the second.
            0..=2 => front.last().is_some_and(|last| dominates(last.1, one.1)),
            _ => front.iter().rev().any(|other| dominates(other.1, one.1)),
        };
        let place = fronts.partition_point(is_beaten);
        match fronts.get_mut(place) {
            Some(front) => front.push(one),
            None => fronts.push(vec![one]),
        }
    }
    fronts
}

fn in_order(a: &[f64], b: &[f64]) -> Ordering {
    a.iter().zip(b).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

/// How many members a front may have for the hypervolume of each to be told in well under a millisecond's time.
const MOST_SHARES: usize = 64;

/// How far behind the worst of a front the point lies up to which hypervolume is counted, as a share of the front's extent:
/// far enough for the ends of the front to have some, near enough for them not to have most of it.
const BEHIND: f64 = 0.1;

/// The hypervolume that each member of one front covers and no other does, each objective measured by the front's extent.
fn shares(members: &[(usize, &[f64])]) -> Vec<(usize, f64)> {
    let points = over_extent(&members.iter().map(|(_, costs)| *costs).collect::<Vec<_>>());
    let but = |left_out: Option<usize>| {
        let points = points.iter().enumerate().filter(|(at, _)| Some(*at) != left_out);
        covered(&points.map(|(_, point)| point.as_slice()).collect::<Vec<_>>())
    };
    let all = but(None);
    members.iter().enumerate().map(|(at, (index, _))| (*index, all - but(Some(at)))).collect()
}

/// The costs of the members of one front, each from 0 to 1 over the front's extent; 0 where that is none, or beyond what a
/// number can hold.
pub(super) fn over_extent(front: &[&[f64]]) -> Vec<Vec<f64>> {
    let scale = |objective: usize| {
        let costs = || front.iter().map(|costs| costs[objective]);
        let low = costs().fold(f64::INFINITY, f64::min);
        (low, costs().fold(f64::NEG_INFINITY, f64::max) - low)
    };
    let scales: Vec<(f64, f64)> = (0..front.first().map_or(0, |costs| costs.len())).map(scale).collect();
    let scaled = |costs: &[f64]| {
        let share = |(cost, (low, extent)): (&f64, &(f64, f64))| match (f64::MIN_POSITIVE..f64::MAX).contains(extent) {
            true => (cost - low) / extent,
            false => 0.0,
        };
        costs.iter().zip(&scales).map(share).collect()
    };
    front.iter().map(|costs| scaled(costs)).collect()
}

/// The hypervolume of some of what [`over_extent`] gave.
#[expect(clippy::expect_used, reason = "scaled costs are finite, and as many as there are objectives")]
pub(super) fn covered(points: &[&[f64]]) -> f64 {
    let Some(first) = points.first() else { return 0.0 };
    hypervolume(points, &vec![1.0 + BEHIND; first.len()]).expect("finite points of one length")
}

/// The crowding distance of each member of one front: the sides of the box between its neighbours there, each as a share of the
/// front's extent; infinite at an end of the front.
fn distances(members: Vec<(usize, &[f64])>) -> Vec<(usize, f64)> {
    let mut rooms = vec![0.0; members.len()];
    let mut order: Vec<usize> = (0..members.len()).collect();
    let objectives = members.first().map_or(0, |member| member.1.len());
    for objective in 0..objectives {
        let cost = |member: usize| members[member].1[objective];
        order.sort_by(|a, b| cost(*a).total_cmp(&cost(*b)));
        let (Some(&first), Some(&last)) = (order.first(), order.last()) else { break };
        let extent = cost(last) - cost(first);
        // Where all are alike there are no ends.
        if extent > 0.0 {
            rooms[first] = f64::INFINITY;
            rooms[last] = f64::INFINITY;
            for three in order.windows(3) {
                rooms[three[1]] += (cost(three[2]) - cost(three[0])) / extent;
            }
        }
    }
    members.into_iter().map(|(index, _)| index).zip(rooms).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standings_of(costs: &[Vec<f64>]) -> Vec<Standing> {
        standings(&costs.iter().cloned().map(Worth::Costs).collect::<Vec<_>>())
    }

    #[test]
    fn fronts_are_peeled_off_and_room_decides_within_one() {
        let costs = [[0.0, 4.0], [1.0, 2.0], [2.0, 1.5], [4.0, 0.0], [2.0, 3.0], [5.0, 5.0]].map(Vec::from);
        let got = standings_of(&costs);
        assert_eq!(got.iter().map(|standing| standing.front).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 2]);
        assert_eq!((got[0].room, got[3].room), (f64::INFINITY, f64::INFINITY));
        // (2 - 0) / 4 + (4 - 1.5) / 4, and (4 - 1) / 4 + (2 - 0) / 4.
        assert_eq!((got[1].room, got[2].room), (1.125, 1.25));
        assert_eq!(got[2].compare(got[1]), Ordering::Less);
        assert_eq!(got[4].compare(got[5]), Ordering::Less);
    }

    #[test]
    fn with_three_objectives_room_is_what_a_trial_alone_covers() {
        let ends = [[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]];
        let inner = [[0.4, 0.4, 0.4], [0.45, 0.45, 0.39]];
        let costs: Vec<Vec<f64>> = ends.iter().chain(&inner).map(|point| point.to_vec()).collect();
        let got = standings_of(&costs);
        // Below the inner one next to it, and short of the two ends at 1: 0.01 * (1 - 0.45)^2.
        assert!((got[4].room - 0.003_025).abs() < 1e-12, "{}", got[4].room);
        assert_eq!(got[3].compare(got[4]), Ordering::Less);
        let far = [[-f64::MAX, 0.0, 1.0], [f64::MAX, 1.0, 0.0], [0.0, 0.5, 0.5]].map(Vec::from);
        assert!(standings_of(&far).iter().all(|standing| standing.room.is_finite()), "an extent beyond all bounds");
        // The order in which they are told makes no difference.
        let turned = standings_of(&costs.iter().rev().cloned().collect::<Vec<_>>());
        for (one, other) in got.iter().zip(turned.iter().rev()) {
            assert!((one.room - other.room).abs() < 1e-12);
        }
    }

    #[test]
    fn who_breaks_a_constraint_comes_after_all_who_do_not_and_by_how_much() {
        let worths = [
            Worth::Infeasible(None),
            Worth::Infeasible(Some(2.0)),
            Worth::Costs(vec![9.0]),
            Worth::Infeasible(Some(0.5)),
            Worth::Costs(vec![1.0]),
        ];
        let got = standings(&worths);
        let mut order: Vec<usize> = (0..worths.len()).collect();
        order.sort_by(|a, b| got[*a].compare(got[*b]));
        assert_eq!(order, [4, 2, 3, 1, 0]);
    }

    #[test]
    fn who_was_trained_further_comes_first_and_costs_decide_among_those_who_came_as_far() {
        let stopped = |epoch, cost| Worth::Stopped(Epoch(epoch), vec![cost]);
        let worths = [
            stopped(1, 0.1),
            Worth::Infeasible(Some(0.1)),
            stopped(9, 8.0),
            stopped(9, 7.0),
            Worth::Costs(vec![9.0]),
            stopped(3, 0.0),
        ];
        let got = standings(&worths);
        let mut order: Vec<usize> = (0..worths.len()).collect();
        order.sort_by(|a, b| got[*a].compare(got[*b]));
        assert_eq!(order, [4, 3, 2, 5, 0, 1]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// The front's number is the length of the longest chain of dominations above the trial.
        #[test]
        fn the_front_is_the_longest_chain_of_betters(
            costs in (1..4_usize).prop_flat_map(|objectives| {
                prop::collection::vec(prop::collection::vec((0..4_u8).prop_map(f64::from), objectives), 0..12)
            }),
        ) {
            fn chain(costs: &[Vec<f64>], of: usize) -> usize {
                let betters = (0..costs.len()).filter(|&other| dominates(&costs[other], &costs[of]));
                betters.map(|better| chain(costs, better) + 1).max().unwrap_or(0)
            }
            let expected: Vec<usize> = (0..costs.len()).map(|of| chain(&costs, of)).collect();
            prop_assert_eq!(standings_of(&costs).iter().map(|standing| standing.front).collect::<Vec<_>>(), expected);
        }
    }
}
