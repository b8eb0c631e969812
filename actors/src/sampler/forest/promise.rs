//! What a candidate promises, given what the trees say of it: how far its guessed costs lie beyond the Pareto front.

use crate::archive::Front;
use crate::sampler::forest::tree::Tree;

/// The front, in units of its own extent.
#[derive(Debug)]
pub(super) struct Target {
    /// The least of each cost on the front, and one over its extent there.
    scales: Vec<(f64, f64)>,
    members: Vec<Vec<f64>>,
}

impl Target {
    pub(super) fn over(front: &Front) -> Self {
        let objectives = front.objectives();
        let cost = |objective: usize| front.members().map(move |member| member.costs[objective]);
        let scales: Vec<(f64, f64)> = (0..objectives)
            .map(|objective| {
                let least = cost(objective).fold(f64::INFINITY, f64::min);
                let extent = cost(objective).fold(f64::NEG_INFINITY, f64::max) - least;
                // A front of one place has no extent: then any unit serves.
                (least, if extent > 0.0 { extent.recip() } else { 1.0 })
            })
            .collect();
        let members = front.members().map(|member| in_units(&member.costs, &scales)).collect();
        Self { scales, members }
    }

    pub(super) fn score(&self, costs: &[f64]) -> f64 {
        let mode = std::env::var("MODE").unwrap_or_default();
        if mode.is_empty() || costs.len() != 2 || self.members.len() < 2 {
            return self.distance(costs);
        }
        let r: f64 = mode.parse().unwrap();
        let z = in_units(costs, &self.scales);
        let mut gain = 0.0;
        if z[0] < r && z[1] < r {
            let mut left = z[0];
            let mut height = r;
            for member in &self.members {
                if member[0] <= z[0] {
                    height = height.min(member[1]);
                    continue;
                }
                let right = member[0].min(r);
                if height <= z[1] {
                    break;
                }
                gain += (right - left) * (height - z[1]);
                left = right;
                height = height.min(member[1]);
            }
            if height > z[1] {
                gain += (r - left).max(0.0) * (height - z[1]);
            }
        }
        if gain > 0.0 { -gain } else { self.distance(costs).max(0.0) }
    }

    /// How far `costs` are from not being dominated by any member, in units of the front: below 0 they are beyond the
    /// front, by that much in at least one cost against every member. The maximin improvement, with its sign turned.
    pub(super) fn distance(&self, costs: &[f64]) -> f64 {
        let costs = in_units(costs, &self.scales);
        let behind = |member: &Vec<f64>| costs.iter().zip(member).map(|(a, b)| a - b).fold(f64::INFINITY, f64::min);
        self.members.iter().map(behind).fold(f64::NEG_INFINITY, f64::max)
    }
}

fn in_units(costs: &[f64], scales: &[(f64, f64)]) -> Vec<f64> {
    costs.iter().zip(scales).map(|(cost, (least, unit))| (cost - least) * unit).collect()
}

/// The mean of what the trees say, less so many of its standard deviations.
pub(super) fn optimistic(trees: &[&Tree], features: &[f64], deviations: f64) -> Vec<f64> {
    let mut sums: Vec<(f64, f64)> = Vec::new();
    for tree in trees {
        let outputs = tree.predict(features);
        sums.resize(outputs.len(), (0.0, 0.0));
        for (sum, output) in sums.iter_mut().zip(outputs) {
            sum.0 += output;
            sum.1 += output * output;
        }
    }
    let count = trees.len() as f64;
    sums.into_iter()
        .map(|(sum, squares)| {
            let mean = sum / count;
            mean - deviations * (squares / count - mean * mean).max(0.0).sqrt()
        })
        .collect()
}
