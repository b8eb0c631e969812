//! From the checked configuration to what a step runs on: devices, data, detector, sampler, stopping rule.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use spnas_actors::Epoch;
use spnas_actors::device::{Device, Place};
use spnas_actors::objective::Objective;
use spnas_actors::stopping::asha::{Asha, AshaError, AshaMode, AshaSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::{NeverStop, StoppingRule};

use crate::arch::cost::{InputSize, MultiplyAdds, Params};
use crate::arch::limits::{Bounds, Limits};
use crate::arch::mutate::{Mutation, Policy, Probability};
use crate::arch::serial::SerialBackbone;
use crate::config::{self as checked, DataSource, Devices, EarlyStopping, OnWorse, Split, Trainer};
use crate::data::coco::{self, CocoPaths};
use crate::data::detection::DetectionSource;
use crate::data::image_file::{ImageCache, Resize as LoadResize};
use crate::data::loader::LoaderConfig;
use crate::data::transform::AugmentConfig;
use crate::data::voc::{self, Classes, VocPaths};
use crate::data::{DataError, DetectionDataset, ImageSize};
use crate::nn::block::BatchNormMode;
use crate::nn::detector::{AnchorConfig, RoiConfig, RpnConfig, TopN, TransformConfig};
use crate::nn::detector::{FasterRcnnConfig, Resize};
use crate::search::serial::{Ceilings, SerialSpace};
use crate::train::{Decay, FitConfig, OptimizerConfig, Schedule, WarmUp, WarmUpKind};
use crate::workers::{DataPart, DetectionTask};

/// What the decoded images of all splits may take together, in bytes.
const IMAGE_CACHE_BYTES: usize = 2 << 30;

/// Trainers a shared evaluator serves before there is a second one.
const TRAINERS_PER_EVALUATOR: usize = 4;

/// A step that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The stopping rule's numbers do not fit.
    #[error("early_stopping: {0}")]
    Asha(#[from] AshaError),
    /// The data and the detector disagree on the classes.
    #[error(
        "model.model_desc.num_classes is {configured}, but {source_name} has {found} classes, which makes {} with the background",
        found + 1
    )]
    Classes {
        /// In the configuration, with the background.
        configured: u32,
        /// In the data, without it.
        found: usize,
        /// The data set.
        source_name: String,
    },
    /// The splits have different classes.
    #[error("{one} and {other} have different classes")]
    Splits {
        /// A split.
        one: String,
        /// Another.
        other: String,
    },
    /// There is no such device.
    #[error("{0}")]
    Device(String),
    /// A combination that nothing can be built from.
    #[error("{0}")]
    Unsupported(String),
}

/// Trainers and evaluators of a machine.
pub struct Crew {
    /// One device a trainer.
    pub trainers: Vec<Device>,
    /// One device an evaluator.
    pub evaluators: Vec<Device>,
}

/// The devices that a configuration names, with each one's share of the processor.
///
/// # Errors
/// [`SetupError::Device`] where a CUDA device is not there.
pub fn crew(devices: &Devices, one_at_a_time: bool) -> Result<Crew, SetupError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let found = crate::workers::cuda_devices();
    let cuda: Vec<u32> = match devices {
        Devices::Auto => (0..found).collect(),
        Devices::Cuda(ordinals) => {
            if let Some(absent) = ordinals.iter().find(|ordinal| **ordinal >= found) {
                return Err(SetupError::Device(format!(
                    "general.devices names cuda:{absent}, but {found} CUDA devices are visible"
                )));
            }
            ordinals.clone()
        }
        Devices::Cpu(_) => Vec::new(),
    };
    let shares = match devices {
        Devices::Cpu(shares) => shares.get(),
        Devices::Auto | Devices::Cuda(_) => 1,
    };
    let places: Vec<Place> = if cuda.is_empty() {
        (0..shares).map(|index| Place::Cpu { index }).collect()
    } else {
        cuda.into_iter().map(|ordinal| Place::Cuda { ordinal }).collect()
    };
    let places = if one_at_a_time { places.into_iter().take(1).collect() } else { places };
    let threads = (cores / places.len()).max(1);
    let evaluators = places.iter().step_by(TRAINERS_PER_EVALUATOR);
    Ok(Crew {
        evaluators: evaluators.map(|place| Device { place: place.clone(), threads }).collect(),
        trainers: places.into_iter().map(|place| Device { place, threads }).collect(),
    })
}

/// The data of a step.
pub struct StepData {
    /// To train on.
    pub train: DataPart,
    /// To measure on.
    pub val: DataPart,
    /// Held out to the end.
    pub test: DataPart,
}

/// Reads the splits of a data set.
///
/// # Errors
/// Where they cannot be read or do not belong together.
pub fn data(dataset: &checked::Dataset) -> Result<StepData, SetupError> {
    let data = StepData {
        train: part(&dataset.train, true)?,
        val: part(&dataset.val, false)?,
        test: part(&dataset.test, false)?,
    };
    let names = |part: &DataPart| part.source.dataset().categories.clone();
    for other in [&data.val, &data.test] {
        if names(&data.train) != names(other) {
            let source = |part: &DataPart| part.source.dataset().source.display().to_string();
            return Err(SetupError::Splits { one: source(&data.train), other: source(other) });
        }
    }
    Ok(data)
}

fn part(split: &Split, training: bool) -> Result<DataPart, SetupError> {
    let mut dataset = read(&split.source)?;
    if training {
        dataset = dataset.without_empty_images();
    }
    if let Some(limit) = split.limit {
        dataset = dataset.truncated(limit.get() as usize);
    }
    let resize = split.size.map_or(LoadResize::Original, |size| {
        LoadResize::Size(ImageSize { width: size.width.get(), height: size.height.get() })
    });
    let augment = if training {
        AugmentConfig { flip: split.flip.get(), scale: (split.scale[0].get(), split.scale[1].get()) }
    } else {
        AugmentConfig::NONE
    };
    let batch_size = split.batch_size.get() as usize;
    let base = if training { LoaderConfig::training(batch_size, 0) } else { LoaderConfig::evaluation(batch_size) };
    let loader = LoaderConfig {
        threads: split.num_workers.max(1) as usize,
        shuffle: training && split.shuffle,
        drop_last: training && split.drop_last,
        ..base
    };
    let cache = Arc::new(ImageCache::new(resize, IMAGE_CACHE_BYTES)?);
    Ok(DataPart { source: Arc::new(DetectionSource::new(Arc::new(dataset), cache, augment)?), loader })
}

fn read(source: &DataSource) -> Result<DetectionDataset, DataError> {
    match source {
        DataSource::Coco { images, annotations } => {
            coco::read(&CocoPaths { annotations: annotations.clone(), images: images.clone() })
        }
        DataSource::Voc { root, split, classes } => {
            let classes = if classes.is_empty() { Classes::FromData } else { Classes::Given(classes.clone()) };
            voc::read(&VocPaths { root: root.clone(), split: split.clone() }, &classes)
        }
    }
}

/// What all trials of a step have in common.
///
/// # Errors
/// Where data and detector do not fit.
pub fn task(
    model: &checked::Model,
    trainer: &Trainer,
    evaluator: checked::Evaluator,
    data: &StepData,
) -> Result<DetectionTask, SetupError> {
    let found = data.train.source.dataset().num_classes();
    let configured = model.desc.num_classes.get();
    if found + 1 != configured as usize {
        let source_name = data.train.source.dataset().source.display().to_string();
        return Err(SetupError::Classes { configured, found, source_name });
    }
    Ok(DetectionTask {
        detector: detector(&model.desc)?,
        train: data.train.clone(),
        val: data.val.clone(),
        fit: FitConfig {
            schedule: schedule(trainer, &data.train),
            clip_grad_norm: trainer.grad_clip.map(|norm| norm.get()),
            micro_batches: trainer.micro_batches.get() as usize,
            mixed_precision: trainer.amp,
        },
        optimizer: optimizer(&trainer.optimiser),
        valid_interval: trainer.with_valid.then(|| trainer.valid_interval.get()),
        valid_images: None,
        pretrained: None,
        inherit_weights: true,
        freeze_inherited: model.desc.freeze_swap_keys,
        cost_input: input_size(evaluator.input_size)?,
    })
}

fn input_size(size: checked::ImageSize) -> Result<InputSize, SetupError> {
    InputSize::new(size.height.get(), size.width.get())
        .ok_or_else(|| SetupError::Unsupported("evaluator.input_size is too large to count for".to_owned()))
}

/// The detector around the backbone.
fn detector(desc: &checked::FasterRcnn) -> Result<FasterRcnnConfig, SetupError> {
    let checked::Neck::Fpn { channels } = desc.neck else {
        return Err(SetupError::Unsupported("model_desc.neck: ParallelFPN is not built yet; use FPN".to_owned()));
    };
    let sizes: Vec<u32> = desc.anchors.sizes.iter().map(|size| size.get()).collect();
    if let Some(pair) = sizes.windows(2).find(|pair| u64::from(pair[1]) != 2 * u64::from(pair[0])) {
        return Err(SetupError::Unsupported(format!(
            "model_desc.anchor_sizes: {} after {}: sizes double from level to level, as the strides do",
            pair[1], pair[0]
        )));
    }
    let (min, max) = (i64::from(desc.transform.min_size.get()), i64::from(desc.transform.max_size.get()));
    let top = |pre: NonZeroU32, post: NonZeroU32| TopN { pre_nms: pre.get().into(), post_nms: post.get().into() };
    let defaults = FasterRcnnConfig::default();
    Ok(FasterRcnnConfig {
        num_classes: desc.num_classes.get().into(),
        transform: TransformConfig {
            resize: Resize::Within { shorter: vec![min], longer: max },
            image_mean: desc.transform.image_mean,
            image_std: desc.transform.image_std.map(|value| value.get()),
            size_divisible: defaults.transform.size_divisible,
        },
        batch_norm: if desc.backbone.frozen_bn { BatchNormMode::Frozen } else { BatchNormMode::Trained },
        fpn_channels: channels.get().into(),
        anchors: AnchorConfig {
            base_size: f64::from(desc.anchors.sizes[0].get()),
            aspect_ratios: desc.anchors.ratios.iter().map(|ratio| ratio.get()).collect(),
        },
        rpn: RpnConfig {
            fg_iou_threshold: desc.rpn.fg_iou_thresh.get(),
            bg_iou_threshold: desc.rpn.bg_iou_thresh.get(),
            batch_size_per_image: desc.rpn.batch_size_per_image.get() as usize,
            positive_fraction: desc.rpn.positive_fraction.get(),
            training: top(desc.rpn.pre_nms_top_n[0], desc.rpn.post_nms_top_n[0]),
            testing: top(desc.rpn.pre_nms_top_n[1], desc.rpn.post_nms_top_n[1]),
            nms_threshold: desc.rpn.nms_thresh.get(),
            score_threshold: desc.rpn.score_thresh.get(),
            ..RpnConfig::default()
        },
        roi: RoiConfig {
            representation_size: desc.head.representation_size.get().into(),
            fg_iou_threshold: desc.head.fg_iou_thresh.get(),
            bg_iou_threshold: desc.head.bg_iou_thresh.get(),
            batch_size_per_image: desc.head.batch_size_per_image.get() as usize,
            positive_fraction: desc.head.positive_fraction.get(),
            score_threshold: desc.head.score_thresh.get(),
            nms_threshold: desc.head.nms_thresh.get(),
            detections_per_image: desc.head.detections_per_img.get().into(),
            ..RoiConfig::default()
        },
        ..defaults
    })
}

fn optimizer(optimiser: &checked::Optimiser) -> OptimizerConfig {
    let (lr, weight_decay) = (optimiser.lr.get(), optimiser.weight_decay.get());
    let adam = |betas: [f64; 2], eps, decoupled| OptimizerConfig::Adam {
        lr,
        beta1: betas[0],
        beta2: betas[1],
        eps,
        weight_decay,
        decoupled,
    };
    match optimiser.kind {
        checked::OptimiserKind::Sgd { momentum, nesterov } => {
            OptimizerConfig::Sgd { lr, momentum: momentum.get(), weight_decay, nesterov }
        }
        checked::OptimiserKind::Adam { betas, eps } => adam(betas.map(|beta| beta.get()), eps.get(), false),
        checked::OptimiserKind::AdamW { betas, eps } => adam(betas.map(|beta| beta.get()), eps.get(), true),
    }
}

fn schedule(trainer: &Trainer, train: &DataPart) -> Schedule {
    use checked::{Curve, Unit, WarmupShape};
    let images = train.source.dataset().images.len();
    let batch = train.loader.batch_size;
    let steps_per_epoch = if train.loader.drop_last { images / batch } else { images.div_ceil(batch) }.max(1) as f64;
    let after = &trainer.schedule.after;
    // The schedule counts in epochs; what is given in steps is brought to them.
    let epochs = |value: f64| match after.unit {
        Unit::Epoch => value,
        Unit::Step => value / steps_per_epoch,
    };
    let lr = trainer.optimiser.lr.get();
    let decay = match &after.curve {
        Curve::Constant => Decay::Constant,
        Curve::MultiStep { milestones, gamma } => Decay::MultiStep {
            milestones: milestones.iter().map(|at| epochs(f64::from(*at))).collect(),
            gamma: gamma.get(),
        },
        Curve::Step { step_size, gamma } => {
            Decay::Step { size: epochs(f64::from(step_size.get())), gamma: gamma.get() }
        }
        Curve::Cosine { t_max, eta_min } => {
            Decay::Cosine { t_max: epochs(f64::from(t_max.get())), eta_min: eta_min.get() / lr }
        }
    };
    let warm_up = trainer.schedule.warmup.map(|warmup| WarmUp {
        steps: warmup.iters.get(),
        ratio: warmup.ratio.get(),
        kind: match warmup.shape {
            WarmupShape::Linear => WarmUpKind::Linear,
            WarmupShape::Constant => WarmUpKind::Constant,
            WarmupShape::Exponential => WarmUpKind::Exponential,
        },
    });
    Schedule { decay, warm_up }
}

/// The backbone that a description with this code names.
pub fn backbone(desc: &checked::Backbone, code: &checked::Code) -> SerialBackbone {
    let sequence = code.sequence().clone();
    SerialBackbone { sequence, block: desc.block, stem: desc.stem, base_width: desc.base_width.get() }
}

/// The space of a search step.
///
/// # Errors
/// Where a limit is out of range.
pub fn space(step: &checked::SearchStep) -> Result<SerialSpace, SetupError> {
    let algorithm = &step.algorithm;
    let seeds = step.space.seeds.iter().map(|code| backbone(&step.model.desc.backbone, code));
    let limits = &algorithm.limits;
    let bounds = |what: &str, least: NonZeroU32, most: NonZeroU32| {
        Bounds::new(least.get() as usize, most.get() as usize)
            .ok_or_else(|| SetupError::Unsupported(format!("search_algorithm: {what}: {least} to {most} is empty")))
    };
    let probability = |ratio: crate::config::Ratio| {
        Probability::new(ratio.get()).ok_or_else(|| SetupError::Unsupported("a ratio is not within 0 to 1".to_owned()))
    };
    Ok(SerialSpace {
        seeds: seeds.collect(),
        mutation: Mutation {
            policy: match algorithm.compat {
                checked::Compat::Paper => Policy::Paper,
                checked::Compat::Vega => Policy::Vega,
            },
            num_mutate: algorithm.mutation.num_mutate.get(),
            expend_ratio: probability(algorithm.mutation.expend_ratio)?,
            add_stage_ratio: probability(algorithm.mutation.add_stage_ratio)?,
            max_stages: limits.max_stages.get() as usize,
            blocks_per_expand: BLOCKS_PER_EXPAND,
        },
        limits: match algorithm.compat {
            checked::Compat::Paper => Limits {
                depth: bounds("depth", limits.min_depth, limits.max_depth)?,
                stages: bounds("stages", limits.min_stages, limits.max_stages)?,
            },
            checked::Compat::Vega => Limits::NONE,
        },
        ceilings: Ceilings {
            input: input_size(step.evaluator.input_size)?,
            params: limits.max_params.map(Params),
            multiply_adds: limits.max_flops.map(MultiplyAdds),
            activation_bytes: None,
        },
    })
}

/// What the authors' code and Vega's insert at an expand.
const BLOCKS_PER_EXPAND: u32 = 2;

/// The stopping rule, and what it judges by.
///
/// # Errors
/// Where its numbers do not fit.
pub fn stopping(
    early_stopping: &EarlyStopping,
    epochs: Epoch,
    otherwise: &Objective,
) -> Result<(Box<dyn StoppingRule>, Objective), SetupError> {
    Ok(match early_stopping {
        EarlyStopping::None => (Box::new(NeverStop), otherwise.clone()),
        // The configuration has warned: no trial comes to the first comparison before its end.
        EarlyStopping::Asha { min_epochs, .. } if min_epochs.get() > epochs.0 => {
            (Box::new(NeverStop), otherwise.clone())
        }
        EarlyStopping::Asha { metric, eta, min_epochs, mode } => {
            let mode = match mode {
                OnWorse::Stop => AshaMode::Stop,
                OnWorse::Promote => AshaMode::Promote,
            };
            let spec = AshaSpec { min_epochs: Epoch(min_epochs.get()), max_epochs: epochs, eta: eta.get(), mode };
            (Box::new(Asha::new(spec)?), metric.0.clone())
        }
        EarlyStopping::Median { metric, min_epochs, min_trials } => {
            let spec = MedianSpec { grace: Epoch(min_epochs.get()), min_trials: min_trials.get() as usize };
            (Box::new(Median::new(spec)), metric.0.clone())
        }
    })
}

/// A file that users name without caring for its format: `model_0.pth` finds `model_0.safetensors` beside it.
pub fn weights_file(path: &Path) -> std::path::PathBuf {
    let ours = path.with_extension("safetensors");
    if !path.exists() && ours.exists() { ours } else { path.to_owned() }
}
