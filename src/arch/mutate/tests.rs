//! The laws every mutation keeps, and Vega's distribution as it was worked out from its code.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use spnas_actors::rng::stream;

use super::*;
use crate::arch::limits::Bounds;

const SEED: &str = "111-2111-211111-211";

fn seed() -> SerialSequence {
    Grammar::Vega.parse(SEED).unwrap()
}

fn certain(policy: Policy) -> Mutation {
    let one = Probability::new(1.0).unwrap();
    Mutation { policy, expend_ratio: one, add_stage_ratio: one, ..Mutation::default() }
}

fn mark_counts(blocks: &[Block]) -> (usize, usize) {
    let count = |mark: Mark| blocks.iter().filter(|block| mark.of(block)).count();
    (count(Mark::DownSamples), count(Mark::Doubles))
}

fn ids(blocks: &[Block]) -> Vec<BlockId> {
    blocks.iter().map(|block| block.id).collect()
}

/// Sequences of up to 40 blocks with few to many marks.
fn any_blocks() -> impl Strategy<Value = Vec<Block>> {
    (1_u32..40, any::<u64>(), 0.0..0.6_f64).prop_map(|(length, seed, density)| {
        let mut rng = stream(seed, 0);
        let density = Probability(density);
        (0..length)
            .map(|id| Block {
                id: BlockId(id),
                down_samples: happens(density, &mut rng),
                doubles: happens(density, &mut rng),
            })
            .collect()
    })
}

proptest! {
    #[test]
    fn a_swap_keeps_blocks_ids_and_mark_counts_and_moves_one_mark_by_at_most_three(
        parent in any_blocks(), number in any::<u64>()
    ) {
        let mut blocks = parent.clone();
        match paper::swap(&mut blocks, &mut stream(number, 0)) {
            None => {
                prop_assert_eq!(&blocks, &parent);
                // Nothing could move: of each kind, all blocks but the first are marked or none is.
                for mark in [Mark::DownSamples, Mark::Doubles] {
                    let marked = parent.iter().skip(1).filter(|block| mark.of(block)).count();
                    prop_assert!(marked == 0 || marked == parent.len() - 1);
                }
            }
            Some(Operation::Swap { moves, .. }) => {
                prop_assert_eq!(ids(&blocks), ids(&parent));
                prop_assert_eq!(mark_counts(&blocks), mark_counts(&parent));
                prop_assert_eq!(blocks[0], parent[0]);
                prop_assert!(blocks != parent);
                prop_assert!(moves.len() == 1 && (1..=3).contains(&moves[0].0.abs_diff(moves[0].1)));
            }
            Some(other) => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn an_expand_adds_fresh_blocks_without_marks_and_leaves_the_others_as_they_were(
        parent in any_blocks(), number in any::<u64>(), count in 1_u32..4
    ) {
        let mut blocks = parent.clone();
        paper::expand(&mut blocks, count, &Limits::NONE, &mut stream(number, 0)).unwrap();
        prop_assert_eq!(blocks.len(), parent.len() + count as usize);
        prop_assert_eq!(blocks[0], parent[0]);
        let old = ids(&parent);
        let (kept, new): (Vec<Block>, Vec<Block>) = blocks.iter().partition(|block| old.contains(&block.id));
        prop_assert_eq!(kept, parent);
        prop_assert!(new.iter().all(|block| !block.down_samples && !block.doubles));
        prop_assert!(SerialSequence::new(blocks).is_some(), "ids are distinct");
    }

    #[test]
    fn a_vega_swap_keeps_digits_ids_and_dash_count(parent in any_blocks(), number in any::<u64>()) {
        let mut blocks = parent.clone();
        let done = vega::swap(&mut blocks, &mut stream(number, 0));
        prop_assert_eq!(ids(&blocks), ids(&parent));
        prop_assert_eq!(mark_counts(&blocks), mark_counts(&parent));
        let strides = |blocks: &[Block]| blocks.iter().map(|block| block.down_samples).collect::<Vec<_>>();
        prop_assert_eq!(strides(&blocks), strides(&parent));
        prop_assert_eq!(done.is_some(), blocks != parent);
    }

    #[test]
    fn a_vega_expand_adds_two_blocks_of_stride_1_inside_and_keeps_the_dash_count(
        parent in any_blocks(), number in any::<u64>()
    ) {
        let mut blocks = parent.clone();
        if vega::expand(&mut blocks, &mut stream(number, 0)).is_some() {
            prop_assert_eq!(blocks.len(), parent.len() + 2);
            prop_assert_eq!(mark_counts(&blocks), mark_counts(&parent));
            prop_assert_eq!(blocks[0].id, parent[0].id);
            prop_assert_eq!(blocks.last().unwrap().id, parent.last().unwrap().id);
        } else {
            prop_assert_eq!(parent.len(), 1);
        }
    }

}

proptest! {
    // A code without acceptable children takes all of `MAX_TRIES`, hence the fewer cases.
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_child_differs_keeps_the_limits_and_is_one_that_was_asked_for(
        parent in any_blocks(), number in any::<u64>(), vega in any::<bool>(), room in 0_usize..4
    ) {
        let parent = SerialSequence::new(parent).unwrap();
        let limits = Limits {
            depth: Bounds::new(1, parent.depth() + room).unwrap(),
            stages: Bounds::new(1, parent.stage_count() + 1).unwrap(),
        };
        let mutation = certain(if vega { Policy::Vega } else { Policy::Paper });
        let odd = |sequence: &SerialSequence| Grammar::Vega.print(sequence).len() % 2 == 1;
        if let Ok(child) = mutation.child(&parent, &limits, &mut stream(number, 0), odd) {
            prop_assert!(limits.check(&child.sequence).is_ok());
            prop_assert!(Grammar::Paper.print(&child.sequence) != Grammar::Paper.print(&parent));
            prop_assert!(odd(&child.sequence));
            prop_assert!(!child.operations.0.is_empty());
            let kept = child.sequence.blocks().iter().map(|block| block.id);
            prop_assert!(ids(parent.blocks()).iter().all(|id| kept.clone().any(|kept| kept == *id)));
        }
    }
}

#[test]
fn the_seed_has_the_161_swap_children_of_vega_each_as_likely_as_the_others() {
    let blocks = seed().blocks().to_vec();
    let dashes = vega::dashes(&blocks);
    assert!(dashes.iter().all(|dash| dash.max_step == 3));
    let mut children: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
    for first in -3..3 {
        for second in -3..3 {
            for third in -3..3 {
                if let Some(after) = vega::place(blocks.len(), &dashes, &[first, second, third]) {
                    *children.entry(after).or_default() += 1;
                }
            }
        }
    }
    assert_eq!(children.len(), 162);
    assert_eq!(children.remove(&vega::doubling_blocks(&blocks)), Some(1));
    assert_eq!(children.len(), 161);
    assert!(children.values().all(|&weight| weight == 1));

    let mut rng = stream(1, 0);
    let mut seen = BTreeSet::new();
    for _ in 0..5000 {
        let mut blocks = blocks.clone();
        vega::swap(&mut blocks, &mut rng).unwrap();
        let after = vega::doubling_blocks(&blocks);
        assert!(children.contains_key(&after));
        seen.insert(Grammar::Vega.print(&SerialSequence::new(blocks).unwrap()));
    }
    assert_eq!(seen.len(), 161);
    assert!(seen.contains("1112-111-211111-211"), "the first dash one step on");
    assert!(seen.contains("1-112-111211-111211"), "the dashes two, three and three steps back");
}

#[test]
fn draws_are_as_frequent_as_stated() {
    const DRAWS: u32 = 100_000;
    let check = |counts: [u32; 4], expected: [f64; 4]| {
        for (count, expected) in counts.into_iter().zip(expected) {
            assert!((f64::from(count) / f64::from(DRAWS) - expected).abs() < 0.01, "{counts:?} {expected:?}");
        }
    };
    let mutation = Mutation::default();
    let mut rng = stream(7, 0);
    let mut counts = [0; 4];
    for _ in 0..DRAWS {
        counts[match vega::draw(&mutation, &mut rng) {
            vega::Draw::Swap => 0,
            vega::Draw::Expand => 1,
            vega::Draw::Nothing => 3,
        }] += 1;
    }
    check(counts, [0.5, 0.35, 0.0, 0.15]);
    let mut counts = [0; 4];
    for _ in 0..DRAWS {
        counts[match paper::draw(&mutation, &mut rng) {
            paper::Draw::Swap => 0,
            paper::Draw::Expand => 1,
            paper::Draw::AddStage => 2,
            paper::Draw::Nothing => 3,
        }] += 1;
    }
    check(counts, [1.0 / 3.0, 0.3 / 3.0, 0.05 / 3.0, (0.7 + 0.95) / 3.0]);
}

#[test]
fn vegas_children_grow_by_as_many_blocks_as_worked_out() {
    // Blocks added to an accepted child: 0, 2, 4, 6 with these shares, leaving swaps that lead back to the seed aside.
    let mutation = Mutation { policy: Policy::Vega, ..Mutation::default() };
    let mut rng = stream(3, 0);
    let mut counts = [0_u32; 4];
    for _ in 0..20_000 {
        let child = mutation.child(&seed(), &Limits::NONE, &mut rng, |_| true).unwrap();
        counts[(child.sequence.depth() - 16) / 2] += 1;
    }
    for (count, expected) in counts.into_iter().zip([0.272, 0.445, 0.240, 0.043]) {
        assert!((f64::from(count) / 20_000.0 - expected).abs() < 0.015, "{counts:?}");
    }
}

#[test]
fn a_vega_expand_after_a_dash_takes_the_doubling_over() {
    let parent = Grammar::Vega.parse("1-2").unwrap();
    let mut codes = BTreeSet::new();
    let mut rng = stream(0, 0);
    for _ in 0..200 {
        let mut blocks = parent.blocks().to_vec();
        vega::expand(&mut blocks, &mut rng).unwrap();
        codes.insert(Grammar::Vega.print(&SerialSequence::new(blocks).unwrap()));
    }
    assert_eq!(codes.into_iter().collect::<Vec<_>>(), ["1-112", "11-12", "111-2"]);
}

#[test]
fn a_code_that_cannot_swap_ends_in_an_error_or_falls_through_to_another_operation() {
    let stuck = Grammar::Vega.parse("1-2-2-2").unwrap();
    let mut rng = stream(0, 0);
    assert_eq!(vega::swap(&mut stuck.blocks().to_vec(), &mut rng), None);
    assert_eq!(paper::swap(&mut stuck.blocks().to_vec(), &mut rng), None);
    let zero = Probability::new(0.0).unwrap();
    let one = Probability::new(1.0).unwrap();
    // Only swaps: in Vega's mode a ratio of 1 never expands.
    for mutation in [
        Mutation { expend_ratio: zero, add_stage_ratio: zero, ..Mutation::default() },
        Mutation { policy: Policy::Vega, expend_ratio: one, ..Mutation::default() },
    ] {
        let error = mutation.child(&stuck, &Limits::NONE, &mut rng, |_| true).unwrap_err();
        assert_eq!(error, NoChild { code: "vega:1-2-2-2".to_owned(), tries: MAX_TRIES });
    }
    for policy in [Policy::Paper, Policy::Vega] {
        let mutation = Mutation { policy, ..Mutation::default() };
        let child = mutation.child(&stuck, &Limits::NONE, &mut rng, |_| true).unwrap();
        assert!(child.sequence.depth() > 4);
    }
}

#[test]
fn add_stage_halves_the_resolution_keeps_the_width_and_stops_at_the_limits() {
    let mut blocks = seed().blocks().to_vec();
    let limits = Limits::default();
    let done = paper::add_stage(&mut blocks, 5, &limits);
    assert_eq!(done, Some(Operation::AddStage { block: BlockId(16) }));
    assert_eq!(Grammar::Paper.print(&SerialSequence::new(blocks.clone()).unwrap()), "111-2111-211111-211-1");
    assert_eq!(paper::add_stage(&mut blocks, 5, &limits), None, "max_stages");
    let four = Limits { stages: Bounds::new(1, 5).unwrap(), ..limits };
    assert_eq!(paper::add_stage(&mut blocks, 9, &four), None, "limits");
    let deep = Limits { depth: Bounds::new(8, 17).unwrap(), ..limits };
    assert_eq!(paper::add_stage(&mut blocks, 9, &deep), None, "depth");
    assert_eq!(paper::expand(&mut blocks, 2, &deep, &mut stream(0, 0)), None, "depth");
}

#[test]
fn every_kind_of_operation_is_reached_and_described() {
    let mut rng = stream(11, 0);
    let mutation = Mutation { num_mutate: 2, ..certain(Policy::Paper) };
    let mut origins = BTreeSet::new();
    for _ in 0..300 {
        let child = mutation.child(&seed(), &Limits::default(), &mut rng, |_| true).unwrap();
        origins.insert(child.operations.to_string());
    }
    for origin in ["swap + swap", "swap + expand", "add stage + swap", "expand + add stage"] {
        assert!(origins.contains(origin), "{origin} not in {origins:?}");
    }
}

#[test]
fn both_variants_of_swap_are_equally_likely() {
    let mut rng = stream(5, 0);
    let mut doubling = 0;
    for _ in 0..10_000 {
        if let Some(Operation::Swap { mark: Mark::Doubles, .. }) = paper::swap(&mut seed().blocks().to_vec(), &mut rng)
        {
            doubling += 1;
        }
    }
    assert!((4_800..5_200).contains(&doubling), "{doubling}");
}

#[test]
fn the_same_seed_gives_the_same_children() {
    let children = |number| -> Vec<String> {
        let mut rng = stream(number, 0);
        let child = |_| Mutation::default().child(&seed(), &Limits::default(), &mut rng, |_| true).unwrap();
        (0..20).map(child).map(|child| Grammar::Vega.print(&child.sequence)).collect()
    };
    assert_eq!(children(1), children(1));
    assert_ne!(children(1), children(2));
}

#[test]
fn a_probability_is_from_0_to_1() {
    assert_eq!(Probability::new(1.5), None);
    assert_eq!(Probability::new(-0.1), None);
    assert_eq!(Probability::new(f64::NAN), None);
    assert_eq!(Probability::new(0.0).map(Probability::get), Some(0.0));
}
