//! The problems: what can be chosen, what it costs, and how a search over it is measured.

use spnas_actors::archive::hypervolume;

use crate::tables;

/// Something computed from the chosen values.
type OfGenes<T> = Box<dyn Fn(&[u16]) -> T>;

/// A problem over a grid of choices.
pub(crate) struct Problem {
    pub(crate) name: &'static str,
    /// How many values each gene has, and whether near ones mean alike.
    pub(crate) genes: Vec<(u16, bool)>,
    pub(crate) evaluate: OfGenes<Vec<f64>>,
    pub(crate) measure: Measure,
}

/// How good a search is.
pub(crate) enum Measure {
    /// The hypervolume of its front up to `reference`, as a share of what the whole space covers.
    Share { reference: Vec<f64>, best: f64 },
    /// Something else about the candidate of the least cost, such as its test accuracy.
    OfBest(OfGenes<f64>),
}

impl Problem {
    /// The measure after these trials, in the order in which they finished.
    pub(crate) fn measure(&self, trials: &[(Vec<u16>, Vec<f64>)]) -> f64 {
        match &self.measure {
            Measure::Share { reference, best } => {
                let costs: Vec<&[f64]> = trials.iter().map(|(_, costs)| costs.as_slice()).collect();
                hypervolume(&costs, reference).unwrap_or(f64::NAN) / best
            }
            Measure::OfBest(shown) => {
                let best = trials.iter().min_by(|a, b| a.1[0].total_cmp(&b.1[0]));
                best.map_or(f64::NAN, |(genes, _)| shown(genes))
            }
        }
    }
}

/// The synthetic problems and, where the folder of tables is given, those of the tables.
pub(crate) fn all(tables: Option<&std::path::Path>) -> Vec<Problem> {
    let mut problems = vec![zdt1(), dtlz2(), serial_parallel()];
    for problem in &problems {
        check(problem);
    }
    if let Some(folder) = tables {
        problems.extend(tables::all(folder));
    }
    problems
}

/// ZDT1 (Zitzler, Deb and Thiele 2000) with 12 variables of 32 levels.
fn zdt1() -> Problem {
    let evaluate = |genes: &[u16]| {
        let x: Vec<f64> = genes.iter().map(|gene| f64::from(*gene) / 31.0).collect();
        let g = 1.0 + 9.0 * x[1..].iter().sum::<f64>() / 11.0;
        vec![x[0], g * (1.0 - (x[0] / g).sqrt())]
    };
    let measure = Measure::Share { reference: vec![1.1, 10.1], best: 10.759_376_556_999_51 };
    Problem { name: "zdt1d", genes: vec![(32, true); 12], evaluate: Box::new(evaluate), measure }
}

/// DTLZ2 (Deb, Thiele, Laumanns and Zitzler 2002) with three objectives and 12 variables of 64 levels.
fn dtlz2() -> Problem {
    let evaluate = |genes: &[u16]| {
        let x: Vec<f64> = genes.iter().map(|gene| f64::from(*gene) / 63.0).collect();
        let s = 1.0 + x[2..].iter().map(|x| (x - 0.5).powi(2)).sum::<f64>();
        let (a, b) = (x[0] * std::f64::consts::PI / 2.0, x[1] * std::f64::consts::PI / 2.0);
        vec![s * a.cos() * b.cos(), s * a.cos() * b.sin(), s * a.sin()]
    };
    let measure = Measure::Share { reference: vec![1.5; 3], best: 2.839_765_947_012_423_5 };
    Problem { name: "dtlz2d", genes: vec![(64, true); 12], evaluate: Box::new(evaluate), measure }
}

/// 5,308,416 backbones in the manner of SP-NAS: the depth of four stages (1 to 6), whether each doubles the width, and a
/// code of parallel paths for each; an error and the binary logarithm of a cost. Small fixed ruggedness of the error
/// is hashed from the genes' number.
fn serial_parallel() -> Problem {
    let genes = [[(6, true); 4], [(2, false); 4], [(4, false); 4]].concat();
    let measure = Measure::Share { reference: vec![0.65, 7.0], best: 1.947_694_363_989_593 };
    Problem { name: "spnas", genes, evaluate: Box::new(backbone), measure }
}

fn backbone(genes: &[u16]) -> Vec<f64> {
    const AREA: [f64; 4] = [1.0, 0.25, 0.0625, 0.015625];
    const WEIGHT: [f64; 4] = [0.05, 0.09, 0.14, 0.12];
    const PATH_GAIN: [f64; 4] = [0.0, 0.012, 0.020, 0.024];
    const PATH_COST: [f64; 4] = [0.0, 0.8, 1.8, 3.2];
    let bases = [6, 6, 6, 6, 2, 2, 2, 2, 4, 4, 4, 4];
    let number = genes.iter().zip(bases).fold(0_u64, |sum, (gene, base)| sum * base + u64::from(*gene));
    let (mut error, mut cost, mut width) = (0.70, 0.0, 1.0);
    let mut previous: Option<f64> = None;
    for stage in 0..4 {
        let depth = f64::from(genes[stage]) + 1.0;
        let path = usize::from(genes[8 + stage]);
        width *= f64::from(genes[4 + stage]) + 1.0;
        cost += 0.45 * depth * width * width * AREA[stage] * 2.0;
        let capacity = 1.0 - 1.0 / (1.0 + 0.35 * depth * width);
        error -= WEIGHT[stage] * capacity;
        if let Some(previous) = previous {
            error += 0.06 * (capacity - previous) * (capacity - previous);
        }
        previous = Some(capacity);
        error -= PATH_GAIN[path] * (1.0 - 0.12 * (depth - 1.0));
        cost += PATH_COST[path] * (0.5 + AREA[stage]);
    }
    vec![error + 0.02 * (unit(number) - 0.5), f64::log2(cost)]
}

/// A number in [0, 1) from one step of SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) fn unit(number: u64) -> f64 {
    let mut x = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// Costs of the synthetic problems that were computed in another language.
const GOLDEN: [(&str, u16, &[f64]); 8] = [
    ("zdt1d", 0, &[0.0, 1.0]),
    ("zdt1d", 16, &[0.516_129_032_258_064_5, 3.938_224_960_603_488_7]),
    ("zdt1d", 31, &[1.0, 6.837_722_339_831_62]),
    ("dtlz2d", 0, &[3.5, 0.0, 0.0]),
    ("dtlz2d", 32, &[0.487_841_743_230_315_4, 0.500_159_433_902_272_8, 0.716_317_760_603_419_3]),
    ("dtlz2d", 63, &[0.0, 0.0, 3.5]),
    ("spnas", 0, &[0.603_962_512_460_569_2, 0.257_387_842_692_651_75]),
    ("spnas", u16::MAX, &[0.295_867_444_084_647_8, 6.600_656_307_826_301]),
];

fn check(problem: &Problem) {
    for (_, gene, expected) in GOLDEN.iter().filter(|golden| golden.0 == problem.name) {
        let genes: Vec<u16> = problem.genes.iter().map(|(levels, _)| (*gene).min(levels - 1)).collect();
        let got = (problem.evaluate)(&genes);
        let close = got.iter().zip(*expected).all(|(got, expected)| (got - expected).abs() < 1e-12);
        assert!(close, "{} at {genes:?}: {got:?} where {expected:?} is known", problem.name);
    }
}
