//! A forest that learns from a stream of rows: the latest are kept, and of its trees a few are grown anew with each
//! row, so that no row costs much and no tree is old.
//!
//! Which rows a tree is grown from depends on how many there have been, and on nothing else; it is grown when somebody
//! asks. So a search resumed after a hundred thousand trials grows each tree once, and gets the same forest.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::rng::stream;
use crate::sampler::forest::tree::{Row, Tree};
use crate::space::FeatureKind;

/// With so many rows all trees are grown anew at each row; with twice as many, half of them, and so on.
const ROWS_FOR_ALL: u64 = 40;

/// The forest and its rows.
#[derive(Debug, Clone)]
pub(super) struct Model {
    kinds: Vec<FeatureKind>,
    /// The latest, the oldest first.
    rows: VecDeque<Row>,
    /// How many there have been.
    count: u64,
    /// From how many a tree is grown at most.
    window: usize,
    trees: RefCell<Vec<Option<Grown>>>,
}

/// A tree and how many rows there had been when it was due.
#[derive(Debug, Clone)]
struct Grown {
    at: u64,
    tree: Tree,
}

impl Model {
    pub(super) fn new(kinds: Vec<FeatureKind>, trees: usize, window: usize) -> Self {
        Self { kinds, rows: VecDeque::new(), count: 0, window, trees: RefCell::new(vec![None; trees]) }
    }

    pub(super) fn learn(&mut self, row: Row) {
        self.rows.push_back(row);
        self.count += 1;
        // A tree may have been due as many rows ago as there are trees.
        if self.rows.len() > self.window + self.trees.get_mut().len() {
            self.rows.pop_front();
        }
    }

    /// Grows what is due, and shows the trees; none where there are no rows.
    pub(super) fn with_trees<T>(&self, look: impl FnOnce(&[&Tree]) -> T) -> T {
        let mut trees = self.trees.borrow_mut();
        let every = (self.count / ROWS_FOR_ALL).clamp(1, trees.len() as u64);
        for (number, slot) in (0_u64..).zip(trees.iter_mut()) {
            // The latest time when it was this tree's turn: all of the same remainder are grown together.
            let due = self.count - (self.count + every - number % every) % every;
            if due > 0 && slot.as_ref().is_none_or(|grown| grown.at != due) {
                *slot = Some(Grown { at: due, tree: self.grow(number, due) });
            }
        }
        let trees: Vec<&Tree> = trees.iter().flatten().map(|grown| &grown.tree).collect();
        look(&trees)
    }

    /// The tree of this number from the rows that there were when `due` of them had come.
    fn grow(&self, number: u64, due: u64) -> Tree {
        let later = usize::try_from(self.count - due).unwrap_or(usize::MAX);
        let end = self.rows.len().saturating_sub(later);
        let rows: Vec<&Row> = self.rows.range(end.saturating_sub(self.window)..end).collect();
        Tree::grow(&self.kinds, &rows, &mut stream(due, number))
    }
}
