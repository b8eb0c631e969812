//! The space, the trainers and the search that are measured: the same three parameters that the peers are given, and
//! trials that do nothing unless told to.

use std::path::Path;
use std::sync::Arc;

use rand::RngExt;
use serde::{Deserialize, Serialize};
use spnas_actors::device::{Device, Place};
use spnas_actors::ids::WeightsId;
use spnas_actors::rng::SearchRng;
use spnas_actors::sampler::random::RandomSampler;
use spnas_actors::{
    Epoch, Objective, Progress, Search, SearchSpace, TrainJob, TrainTrial, Trained, TrialError, metrics,
};

use crate::{JournalKind, Options};

/// `x` uniform in [0, 1), `k` from 1 to 8, `c` from 0 to 3.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) k: u8,
    pub(crate) c: u8,
}

pub(crate) struct Points;

impl SearchSpace for Points {
    type Candidate = Point;

    fn sample(&self, rng: &mut SearchRng) -> Point {
        Point { x: rng.random(), k: rng.random_range(1..9), c: rng.random_range(0..4) }
    }

    fn mutate(&self, parent: &Point, rng: &mut SearchRng) -> Point {
        let x = (parent.x + 0.1 * (rng.random::<f64>() - 0.5)).clamp(0.0, 1.0);
        Point { x, ..parent.clone() }
    }

    fn key(&self, point: &Point) -> String {
        format!("{:x}-{}-{}", point.x.to_bits(), point.k, point.c)
    }
}

/// Training code made of a closure; its weights are no bytes at all.
#[derive(Clone)]
pub(crate) struct Trains<F>(pub(crate) F);

impl<F> TrainTrial for Trains<F>
where
    F: FnMut(&TrainJob<Point>, &mut Progress) -> Result<f64, TrialError> + 'static,
{
    type Candidate = Point;

    fn train(&mut self, job: &TrainJob<Point>, progress: &mut Progress) -> Result<Trained, TrialError> {
        let loss = (self.0)(job, progress)?;
        Ok(Trained { weights: nothing(), metrics: metrics([("loss", loss)])? })
    }
}

fn nothing() -> WeightsId {
    static NOTHING: std::sync::OnceLock<WeightsId> = std::sync::OnceLock::new();
    NOTHING.get_or_init(|| WeightsId::of(&[])).clone()
}

pub(crate) fn loss() -> Objective {
    Objective::minimise("loss")
}

/// A search by random draws on threads, as the options say, in a folder where its journal is a file.
pub(crate) fn search<F>(options: &Options, trials: u64, epochs: u32, folder: &Path, train: F) -> Search<Point>
where
    F: FnMut(&TrainJob<Point>, &mut Progress) -> Result<f64, TrialError> + Clone + Send + Sync + 'static,
{
    let devices = (0..options.workers).map(|index| Device::new(Place::Cpu { index }, 1));
    let search = Search::new([loss()], trials, Epoch(epochs))
        .seed(options.seed)
        .sampler(|| RandomSampler::new(Arc::new(Points)))
        .journal_sync(options.journal.sync())
        .trainers(devices, move |_| Ok(Trains(train.clone())));
    match options.journal {
        JournalKind::Memory => search,
        JournalKind::Interval | JournalKind::Full => search.folder(folder),
    }
}

pub(crate) fn folder(options: &Options) -> tempfile::TempDir {
    tempfile::tempdir_in(&options.folder).expect("the folder can be written")
}
