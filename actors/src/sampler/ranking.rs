//! How trials compare with several objectives: by the front they are on when the better ones are peeled off, and among
//! those of one front by how much room they have. Source: Deb et al. 2002, "A Fast and Elitist Multiobjective Genetic
//! Algorithm: NSGA-II", sections III-A and III-B.

use std::cmp::Ordering;

use crate::archive::front::dominates;

/// A trial's standing among others. The lesser is the better: the earlier front, then the more room.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Standing {
    /// 0 where nobody dominates it, 1 where only those of front 0 do, and so on.
    front: usize,
    /// The crowding distance in its front: the sides of the box between its neighbours there, each as a share of the
    /// front's extent; infinite at an end of the front.
    room: f64,
}

impl Standing {
    /// Before it has been compared with anybody.
    pub(super) const UNKNOWN: Self = Self { front: 0, room: 0.0 };

    /// `Less` where `self` is better.
    pub(super) fn compare(self, other: Self) -> Ordering {
        self.front.cmp(&other.front).then(other.room.total_cmp(&self.room))
    }
}

/// The standing of each of these costs, all finite, among all of them. `O(n^2)` a front.
pub(super) fn standings(costs: &[&[f64]]) -> Vec<Standing> {
    let mut standings = vec![Standing::UNKNOWN; costs.len()];
    let mut left: Vec<usize> = (0..costs.len()).collect();
    for front in 0.. {
        if left.is_empty() {
            break;
        }
        let beaten = |&one: &usize| left.iter().any(|&other| dominates(costs[other], costs[one]));
        let (later, members): (Vec<usize>, Vec<usize>) = left.iter().copied().partition(beaten);
        for (member, room) in rooms(costs, &members) {
            standings[member] = Standing { front, room };
        }
        left = later;
    }
    standings
}

/// The crowding distance of each member of one front.
fn rooms(costs: &[&[f64]], members: &[usize]) -> Vec<(usize, f64)> {
    let mut rooms: Vec<(usize, f64)> = members.iter().map(|&member| (member, 0.0)).collect();
    let objectives = members.first().map_or(0, |&member| costs[member].len());
    (0..objectives).for_each(|objective| {
        let cost = |member: usize| costs[member][objective];
        rooms.sort_by(|a, b| cost(a.0).total_cmp(&cost(b.0)));
        let (Some(&(first, _)), Some(&(last, _))) = (rooms.first(), rooms.last()) else { return };
        let extent = cost(last) - cost(first);
        let values: Vec<f64> = rooms.iter().map(|&(member, _)| cost(member)).collect();
        for (index, (_, room)) in rooms.iter_mut().enumerate() {
            let neighbours = index.checked_sub(1).and_then(|before| Some((values[before], *values.get(index + 1)?)));
            *room += match neighbours {
                Some((before, after)) if extent > 0.0 => (after - before) / extent,
                Some(_) => 0.0,
                None => f64::INFINITY,
            };
        }
    });
    rooms
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn standings_of(costs: &[Vec<f64>]) -> Vec<Standing> {
        standings(&costs.iter().map(Vec::as_slice).collect::<Vec<_>>())
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

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// The front's number is the length of the longest chain of dominations above the trial.
        #[test]
        fn the_front_is_the_longest_chain_of_betters(
            costs in prop::collection::vec(prop::collection::vec((0..4_u8).prop_map(f64::from), 2), 0..12),
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
