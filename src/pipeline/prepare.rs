//! From a step of the configuration to what runs: its candidates, its data, its networks and what they start from. Whatever
//! is wrong with files that a step needs is said here, before anything of it starts.

use std::sync::Arc;

use spnas_actors::objective::Objective;
use spnas_actors::sampler::spec::SamplerSpec;
use spnas_actors::stopping::NeverStop;
use spnas_actors::{Epoch, SearchEnd};

use super::networks::{self, Descriptions, FoundNetwork};
use super::output::{Numbers, Taken};
use super::setup::{self, SetupError};
use super::step::Plan;
use super::task_folder::TaskFolder;
use super::tuning::Tuning;
use super::{PipelineError, Watcher, summary};
use crate::arch::Architecture;
use crate::config::{
    Checked, Dataset, Evaluator, General, Head, Lesson, Models, Network, Policy, Reignition, RunPath, SearchStep, Step,
    StepKind, StuckReignition, TrainStep, Trainer,
};
use crate::search::constraint::{Quantity, Quota};
use crate::search::parallel::ParallelSpace;
use crate::search::serial::SerialSpace;
use crate::workers::{Classification, Detection, Parts, Reigniter, Segmentation, Starts, Task, Training, Work, starts};

/// Where the candidates of a step come from.
pub(super) enum Candidates {
    Serial(SerialSpace),
    Parallel(ParallelSpace),
    Sampled(SerialSpace, SamplerSpec),
    List(Vec<Architecture>),
}

/// A step, ready to run.
pub(super) enum Prepared {
    Detection(Plan, Arc<Work<Detection>>),
    Segmentation(Plan, Arc<Work<Segmentation>>),
    Classification(Plan, Arc<Work<Classification>>),
    Program(Tuning),
}

impl Prepared {
    /// Runs the step to its end, or goes on with it.
    pub(super) fn run(
        self,
        folder: &TaskFolder,
        general: &General,
        watcher: &mut dyn Watcher,
    ) -> Result<SearchEnd, PipelineError> {
        match self {
            Prepared::Detection(plan, work) => plan.run(work, folder, general, watcher),
            Prepared::Segmentation(plan, work) => plan.run(work, folder, general, watcher),
            Prepared::Classification(plan, work) => plan.run(work, folder, general, watcher),
            Prepared::Program(tuning) => tuning.run(folder, general, watcher),
        }
    }
}

/// Prepares a step.
pub(super) fn step(step: &Step, checked: &Checked, folder: &TaskFolder) -> Result<Prepared, PipelineError> {
    let fingerprint = checked.fingerprint(&step.name);
    let quota = checked.general.quota.clone().unwrap_or_default();
    match &step.kind {
        StepKind::Search(search) => search_step(&step.name, search, quota, fingerprint, folder),
        StepKind::Program(program) => Ok(Prepared::Program(Tuning::new(&step.name, program, fingerprint)?)),
        StepKind::Train(train) => train_step(&step.name, train, quota, fingerprint, folder),
    }
}

fn search_step(
    name: &str,
    step: &SearchStep,
    quota: Quota,
    fingerprint: String,
    folder: &TaskFolder,
) -> Result<Prepared, PipelineError> {
    let found = match &step.space.found {
        Some(found) => networks::find(found, folder)?,
        None => Vec::new(),
    };
    let network = common(&found)?.unwrap_or(&step.model.desc);
    let seeds: Vec<Architecture> = match found.is_empty() {
        true => setup::seeds(step),
        false => found.iter().map(|found| found.architecture.clone()).collect(),
    };
    let Some(first) = seeds.first().cloned() else {
        return Err(PipelineError::Sampler("there is no network to begin with".to_owned()));
    };
    let descriptions = Descriptions::like(&found).unwrap_or_else(|| Descriptions::of(network, first.clone()));
    let candidates = match step.algorithm.policy {
        Policy::SpNas => Candidates::Serial(setup::serial_space(step, &quota)?),
        Policy::Sampled(spec) => Candidates::Sampled(setup::serial_space(step, &quota)?, spec),
        Policy::Parallel { .. } => Candidates::Parallel(setup::parallel_space(step, network, seeds, &quota)?),
    };
    let objectives = step.algorithm.objectives.clone();
    let epochs = Epoch(step.trainer.epochs.get());
    let (rule, judged_by) = setup::stopping(&step.early_stopping, epochs)?;
    let plan = Plan {
        name: name.to_owned(),
        objectives,
        trials: step.algorithm.max_sample.get().into(),
        epochs: step.trainer.epochs_trained(),
        taken: Taken::Front,
        rule,
        judged_by,
        candidates,
        descriptions,
        numbers: Numbers::Trials,
        before: Vec::new(),
        fingerprint,
        isolation: step.trainer.isolation,
    };
    let way = Way {
        trainer: &step.trainer,
        evaluator: step.evaluator,
        measured: measured(&quota, &step.algorithm.objectives),
        quota,
        keep_best: None,
        starts: Starts {
            networks: found.iter().filter_map(FoundNetwork::start).collect(),
            inherit: step.algorithm.inherit_weights,
            freeze: network.freeze_swap_keys,
            ..Starts::default()
        },
        pretrained: step.model.pretrained_model_file.as_ref(),
        convert_for: network.convert_pretrained.then_some(&first),
        reigniter: step.reignition.as_ref().map(|stuck| reigniter(network, stuck, step.evaluator)).transpose()?,
        folder,
    };
    prepared(plan, network, &step.dataset, way)
}

fn train_step(
    name: &str,
    step: &TrainStep,
    quota: Quota,
    fingerprint: String,
    folder: &TaskFolder,
) -> Result<Prepared, PipelineError> {
    let found = match &step.models {
        Models::Found(found) => networks::find(found, folder)?,
        Models::Described(_) => Vec::new(),
    };
    let (network, pretrained) = match &step.models {
        Models::Described(model) => (&model.desc, model.pretrained_model_file.as_ref()),
        Models::Found(written) => {
            let missing = || PipelineError::Sampler("there is no network to train".to_owned());
            (common(&found)?.ok_or_else(missing)?, written.pretrained_model_file.as_ref())
        }
    };
    let mut list: Vec<Architecture> = match found.is_empty() {
        true => vec![setup::architecture(network)?],
        false => found.iter().map(|found| found.architecture.clone()).collect(),
    };
    if let Some(Reignition { stem: Some(stem), .. }) = step.trainer.reignition {
        list.iter_mut().for_each(|arch| arch.serial.stem = stem);
    }
    let Some(first) = list.first().cloned() else {
        return Err(PipelineError::Sampler("there is no network to train".to_owned()));
    };
    let lesson = if step.trainer.reignition.is_some() { Lesson::Images } else { network.head.lesson() };
    let accuracy: Objective = lesson.accuracy().0;
    let plan = Plan {
        name: name.to_owned(),
        objectives: vec![accuracy.clone()],
        trials: list.len() as u64,
        epochs: step.trainer.epochs_trained(),
        taken: Taken::Finished,
        rule: Box::new(NeverStop),
        judged_by: Vec::new(),
        candidates: Candidates::List(list),
        descriptions: Descriptions::like(&found).unwrap_or_else(|| Descriptions::of(network, first.clone())),
        numbers: match found.is_empty() {
            true => Numbers::Given(vec![0]),
            false => Numbers::Given(found.iter().map(|found| found.number).collect()),
        },
        before: match step.trainer.reignition {
            None => summary::before(&found, &accuracy.name),
            Some(_) => Vec::new(),
        },
        fingerprint,
        isolation: step.trainer.isolation,
    };
    let way = Way {
        trainer: &step.trainer,
        evaluator: step.evaluator,
        // Networks that were found are trained whatever they take.
        quota: Quota::default(),
        measured: measured(&quota, &[]),
        keep_best: Some(accuracy),
        starts: Starts {
            networks: found.iter().filter_map(FoundNetwork::start).collect(),
            inherit: true,
            freeze: network.freeze_swap_keys,
            ..Starts::default()
        },
        pretrained,
        convert_for: network.convert_pretrained.then_some(&first),
        reigniter: None,
        folder,
    };
    match step.trainer.reignition {
        Some(reignition) => {
            let data = setup::classification_data(&step.dataset)?;
            let classes = data.train.source.images().classes().len();
            let task = setup::classification(network, classes, reignition);
            Ok(Prepared::Classification(plan, Arc::new(way.work(task, data)?)))
        }
        None => prepared(plan, network, &step.dataset, way),
    }
}

/// What is measured of each trained network: what the quota limits or an objective names.
fn measured(quota: &Quota, objectives: &[Objective]) -> Vec<Quantity> {
    let named = |quantity: Quantity| objectives.iter().any(|objective| objective.name == quantity.name());
    let all = Quantity::ALL.into_iter().filter(|quantity| quantity.is_measured());
    all.filter(|quantity| quota.limits(*quantity) || named(*quantity)).collect()
}

/// How a stuck search of such networks reignites a backbone.
fn reigniter(network: &Network, stuck: &StuckReignition, evaluator: Evaluator) -> Result<Reigniter, PipelineError> {
    let StuckReignition { how, trainer, dataset, .. } = stuck;
    let data = setup::classification_data(dataset)?;
    let classes = data.train.source.images().classes().len();
    let task = setup::classification(network, classes, *how);
    let training = setup::training(trainer, evaluator, &data.train, None)?;
    let work = Work { task, data, training, starts: Starts::default(), reigniter: None };
    Ok(Reigniter { work: Arc::new(work), epochs: trainer.epochs.get() })
}

/// What networks that were found have in common: everything but the backbone and the order of the neck.
fn common(found: &[FoundNetwork]) -> Result<Option<&Network>, PipelineError> {
    let Some(first) = found.first() else { return Ok(None) };
    let unlike = |other: &&FoundNetwork| {
        let (one, other) = (&first.network, &other.network);
        (&one.head, one.num_classes, &one.transform, one.backbone.frozen_bn, one.backbone.bn_eps)
            != (&other.head, other.num_classes, &other.transform, other.backbone.frozen_bn, other.backbone.bn_eps)
    };
    match found.iter().find(unlike) {
        Some(other) => Err(PipelineError::Unlike { one: first.number, other: other.number }),
        None => Ok(Some(&first.network)),
    }
}

/// How the networks of a step are trained, whatever they are for.
struct Way<'a> {
    trainer: &'a Trainer,
    evaluator: Evaluator,
    quota: Quota,
    measured: Vec<Quantity>,
    keep_best: Option<Objective>,
    starts: Starts,
    pretrained: Option<&'a RunPath>,
    /// The network that `pretrained` is converted for, where it is.
    convert_for: Option<&'a Architecture>,
    reigniter: Option<Reigniter>,
    folder: &'a TaskFolder,
}

impl Way<'_> {
    fn work<T: Task>(self, task: T, data: Parts<T::Source>) -> Result<Work<T>, PipelineError> {
        // Measured without need, the best of one epoch is its last.
        let keep_best = self.keep_best.filter(|_| self.trainer.with_valid);
        let training = setup::training(self.trainer, self.evaluator, &data.train, keep_best)?;
        let training = Training { quota: self.quota, measured: self.measured, ..training };
        let mut starts = self.starts;
        if let Some(file) = self.pretrained {
            let path = setup::weights_file(&file.resolve(self.folder.root()));
            // Read once here, so that a wrong file is an error before anything starts.
            let bytes = starts::pretrained(&task, &path, self.convert_for)
                .map_err(|why| PipelineError::Weights { path, why: Box::new(why) })?;
            starts.pretrained = Some(Arc::new(bytes));
        }
        Ok(Work { task, data, training, starts, reigniter: self.reigniter })
    }
}

/// The step with networks that are for what their head says.
fn prepared(plan: Plan, network: &Network, dataset: &Dataset, way: Way<'_>) -> Result<Prepared, PipelineError> {
    let configured = network.num_classes.get();
    let classes = |found: usize, source_name: String| match found + 1 == configured as usize {
        true => Ok(()),
        false => Err(SetupError::Classes { configured, found, source_name }),
    };
    match &network.head {
        Head::FasterRcnn(head) => {
            let data = setup::detection_data(dataset)?;
            let images = data.train.source.dataset();
            classes(images.num_classes(), images.source.display().to_string())?;
            let task = setup::detection(network, head)?;
            Ok(Prepared::Detection(plan, Arc::new(way.work(task, data)?)))
        }
        Head::SemanticFpn(head) => {
            let ignore = u16::try_from(head.ignore_index).unwrap_or(u16::MAX);
            let data = setup::segmentation_data(dataset, configured as usize, ignore)?;
            let images = data.train.source.dataset();
            classes(images.num_classes() - 1, images.source.display().to_string())?;
            let task = setup::segmentation(network, *head);
            Ok(Prepared::Segmentation(plan, Arc::new(way.work(task, data)?)))
        }
    }
}
