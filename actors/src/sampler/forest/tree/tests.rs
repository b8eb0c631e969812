//! A tree fits what it has seen, generalises by the features that matter, and knows absent from zero.

use rand::RngExt;

use crate::rng::stream;

use super::*;

fn row(features: &[f64], outputs: &[f64]) -> Row {
    Row { features: features.to_vec(), outputs: outputs.to_vec() }
}

fn grown(kinds: &[FeatureKind], rows: &[Row], number: u64) -> Tree {
    Tree::grow(kinds, &rows.iter().collect::<Vec<_>>(), &mut stream(3, number))
}

#[test]
fn what_is_told_apart_is_known_exactly_and_what_is_not_by_its_mean() {
    let kinds = [FeatureKind::Ordered, FeatureKind::Categorical { levels: 3 }];
    let rows = [
        row(&[1.0, 0.0], &[10.0, -1.0]),
        row(&[2.0, 0.0], &[20.0, -2.0]),
        row(&[2.0, 1.0], &[30.0, -3.0]),
        row(&[2.0, 2.0], &[50.0, -4.0]),
        row(&[2.0, 2.0], &[70.0, -6.0]),
    ];
    for number in 0..20 {
        let tree = grown(&kinds, &rows, number);
        for known in &rows[..3] {
            assert_eq!(tree.predict(&known.features), known.outputs);
        }
        assert_eq!(tree.predict(&[2.0, 2.0]), [60.0, -5.0]);
    }
}

#[test]
fn a_feature_that_is_absent_is_told_from_every_number() {
    let kinds = [FeatureKind::Ordered];
    let rows = [row(&[f64::NAN], &[7.0]), row(&[-1.0], &[1.0]), row(&[0.0], &[2.0]), row(&[f64::NAN], &[9.0])];
    for number in 0..20 {
        let tree = grown(&kinds, &rows, number);
        assert_eq!(tree.predict(&[f64::NAN]), [8.0]);
        assert_eq!((tree.predict(&[-5.0]), tree.predict(&[5.0])), ([1.0].as_slice(), [2.0].as_slice()));
    }
}

#[test]
fn many_trees_together_guess_a_sum_they_have_seen_little_of() {
    // Of 8^4 places, 150 are known; the fourth feature says nothing.
    let kinds = [FeatureKind::Ordered; 4];
    let mut rng = stream(1, 0);
    let mut place = || -> [f64; 4] { std::array::from_fn(|_| f64::from(rng.random_range(0..8_u8))) };
    let value = |at: &[f64; 4]| 4.0 * at[0] + 2.0 * at[1] - at[2];
    let rows: Vec<Row> = (0..150).map(|_| place()).map(|at| row(&at, &[1e6 + value(&at)])).collect();
    let trees: Vec<Tree> = (0..30).map(|number| grown(&kinds, &rows, number)).collect();
    let guess = |at: &[f64; 4]| trees.iter().map(|tree| tree.predict(at)[0] - 1e6).sum::<f64>() / 30.0;
    let unseen: Vec<[f64; 4]> = (0..300).map(|_| place()).collect();
    let mean = unseen.iter().map(value).sum::<f64>() / 300.0;
    let error: f64 = unseen.iter().map(|at| (guess(at) - value(at)).powi(2)).sum();
    let variance: f64 = unseen.iter().map(|at| (mean - value(at)).powi(2)).sum();
    assert!(error < 0.15 * variance, "{}", error / variance);
}

#[test]
fn rows_that_all_say_the_same_make_one_leaf() {
    let kinds = [FeatureKind::Ordered];
    let tree = grown(&kinds, &[row(&[1.0], &[3.0]), row(&[2.0], &[3.0])], 0);
    assert_eq!((tree.nodes.len(), tree.predict(&[9.0])), (1, [3.0].as_slice()));
    // Different outputs that no feature tells apart.
    let tree = grown(&kinds, &[row(&[1.0], &[3.0]), row(&[1.0], &[5.0])], 0);
    assert_eq!((tree.nodes.len(), tree.predict(&[1.0])), (1, [4.0].as_slice()));
}
