//! One regression tree over candidates' features, of several outputs at once. Rows of features and outputs go in, the mean
//! of the leaf that a candidate falls into comes out.
//!
//! Source: Geurts, Ernst and Wehenkel 2006, "Extremely Randomized Trees" (Machine Learning 63), section 2: at each node one
//! test is drawn at random for every feature, and the one that lowers the outputs' variance most is taken; all rows grow
//! every tree. With several outputs their variances are summed, each as a share of its whole.

use rand::RngExt;

use crate::rng::SearchRng;
use crate::space::FeatureKind;

/// A candidate that has been measured.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// One number a feature; NaN is absent.
    pub(super) features: Vec<f64>,
    /// As many in every row.
    pub(super) outputs: Vec<f64>,
}

/// A tree, as the list of its nodes; the first is the root.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The leaves' means, one leaf after another.
    means: Vec<f64>,
    outputs: usize,
}

#[derive(Debug, Clone)]
enum Node {
    Inner {
        feature: usize,
        test: Test,
        passed: usize,
        failed: usize,
    },
    /// Where its means begin.
    Leaf(usize),
}

/// A question to one feature.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Test {
    Below(f64),
    Equals(f64),
    IsAbsent,
}

impl Test {
    fn passes(self, value: f64) -> bool {
        match self {
            Self::Below(threshold) => value < threshold,
            Self::Equals(level) => value == level,
            Self::IsAbsent => value.is_nan(),
        }
    }
}

impl Tree {
    /// Grows a tree from `rows`, of which there is at least one. `O(n log n)` for each feature, as long as the tests divide
    /// well.
    pub(super) fn grow(kinds: &[FeatureKind], rows: &[&Row], rng: &mut SearchRng) -> Self {
        let outputs = rows.first().map_or(0, |row| row.outputs.len());
        let mut tree = Self { nodes: Vec::new(), means: Vec::new(), outputs };
        let scales = (0..outputs).map(|output| scale(rows, output)).collect();
        let mut growth = Growth { kinds, scales, rng, values: Vec::new(), outputs: Vec::new() };
        let mut rows: Vec<&Row> = rows.to_vec();
        growth.node(&mut tree, &mut rows);
        tree
    }

    /// The outputs of a candidate with these features.
    pub(super) fn predict(&self, features: &[f64]) -> &[f64] {
        let mut at = 0;
        loop {
            match self.nodes[at] {
                Node::Leaf(mean) => return &self.means[mean..mean + self.outputs],
                Node::Inner { feature, test, passed, failed } => {
                    at = if test.passes(features[feature]) { passed } else { failed };
                }
            }
        }
    }

    fn leaf(&mut self, rows: &[&Row]) -> usize {
        let begin = self.means.len();
        for output in 0..self.outputs {
            self.means.push(rows.iter().map(|row| row.outputs[output]).sum::<f64>() / rows.len() as f64);
        }
        self.nodes.push(Node::Leaf(begin));
        self.nodes.len() - 1
    }
}

/// One over the root of an output's sum of squared deviations; 0 where it is the same everywhere.
fn scale(rows: &[&Row], output: usize) -> f64 {
    let mean = rows.iter().map(|row| row.outputs[output]).sum::<f64>() / rows.len() as f64;
    let deviation: f64 = rows.iter().map(|row| (row.outputs[output] - mean).powi(2)).sum();
    if deviation > 0.0 { deviation.sqrt().recip() } else { 0.0 }
}

/// What stays the same while a tree grows, and the columns of the node at hand, one number a row.
struct Growth<'a> {
    kinds: &'a [FeatureKind],
    scales: Vec<f64>,
    rng: &'a mut SearchRng,
    /// Of one feature.
    values: Vec<f64>,
    /// Of each output, scaled, about their mean.
    outputs: Vec<Vec<f64>>,
}

impl Growth<'_> {
    /// Grows the node over `rows`; its place.
    fn node(&mut self, tree: &mut Tree, rows: &mut [&Row]) -> usize {
        let alike = rows.iter().all(|row| row.outputs == rows[0].outputs);
        let Some((feature, test)) = (if alike { None } else { self.best_test(rows) }) else { return tree.leaf(rows) };
        let mut passing = 0;
        for index in 0..rows.len() {
            if test.passes(rows[index].features[feature]) {
                rows.swap(index, passing);
                passing += 1;
            }
        }
        let place = tree.nodes.len();
        tree.nodes.push(Node::Leaf(0));
        let (yes, no) = rows.split_at_mut(passing);
        let passed = self.node(tree, yes);
        let failed = self.node(tree, no);
        tree.nodes[place] = Node::Inner { feature, test, passed, failed };
        place
    }

    /// The best of one random test a feature; none where the features do not tell the rows apart.
    fn best_test(&mut self, rows: &[&Row]) -> Option<(usize, Test)> {
        self.outputs.resize_with(self.scales.len(), Vec::new);
        for (output, (column, scale)) in self.outputs.iter_mut().zip(&self.scales).enumerate() {
            // About the node's mean, or digits are lost where the mean is large beside the deviations.
            let mean = rows.iter().map(|row| row.outputs[output]).sum::<f64>() / rows.len() as f64;
            column.clear();
            column.extend(rows.iter().map(|row| (row.outputs[output] - mean) * scale));
        }
        let mut best = None;
        let mut most = f64::NEG_INFINITY;
        for feature in 0..self.kinds.len() {
            self.values.clear();
            self.values.extend(rows.iter().map(|row| row.features[feature]));
            let Some(test) = self.draw_test(self.kinds[feature]) else { continue };
            let gain = self.gain(test);
            if gain > most {
                (best, most) = (Some((feature, test)), gain);
            }
        }
        best
    }

    /// A random test that some of the rows pass and some fail.
    fn draw_test(&mut self, kind: FeatureKind) -> Option<Test> {
        let (mut least, mut most, mut present) = (f64::INFINITY, f64::NEG_INFINITY, 0);
        for value in self.values.iter().filter(|value| !value.is_nan()) {
            least = least.min(*value);
            most = most.max(*value);
            present += 1;
        }
        let some_absent = present < self.values.len();
        if present == 0 || (least == most && !some_absent) {
            return None;
        }
        if some_absent && (least == most || self.rng.random_bool(0.5)) {
            return Some(Test::IsAbsent);
        }
        match kind {
            // Above the least, so that it passes; at most the largest, so that this one fails.
            FeatureKind::Ordered => Some(Test::Below(most - self.rng.random::<f64>() * (most - least))),
            FeatureKind::Categorical { .. } => loop {
                let level = self.values[self.rng.random_range(0..self.values.len())];
                if !level.is_nan() {
                    return Some(Test::Equals(level));
                }
            },
        }
    }

    /// How much of the outputs' variance a test explains, but for what is the same for all tests at this node. As each
    /// output sums to 0 here, what passes sums to the opposite of what fails.
    fn gain(&self, test: Test) -> f64 {
        let passing = self.values.iter().filter(|value| test.passes(**value)).count();
        let (yes, no) = (passing as f64, (self.values.len() - passing) as f64);
        if yes == 0.0 || no == 0.0 {
            return f64::NEG_INFINITY;
        }
        let passed = |column: &Vec<f64>| -> f64 {
            let both = column.iter().zip(&self.values);
            both.map(|(output, value)| if test.passes(*value) { *output } else { 0.0 }).sum()
        };
        self.outputs.iter().map(|column| passed(column).powi(2) * (yes.recip() + no.recip())).sum()
    }
}

#[cfg(test)]
mod tests;
