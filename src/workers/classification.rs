//! Image classification as a [`Task`]: what reignition does with a backbone. Metrics are `accuracy` (top-1) and
//! `accuracy_top5`, in per cent.

use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use spnas_actors::Metrics;
use tch::nn::Path;
use tch::{Kind, Tensor};

use super::WorkError;
use super::task::{OnBatch, Part, Task};
use super::train::finite;
use crate::arch::Architecture;
use crate::data::classification::{ClassificationSource, LabelledBatch};
use crate::metrics::top_k::TopK;
use crate::nn::classifier::{Classes, Classifier, ClassifierConfig};
use crate::nn::{BatchNormMode, NnError, NormConfig};
use crate::train::fit::Learner;
use crate::train::mixup::Mixup;

/// The parameters of the classifier's last layer: what a reignited network's file holds beside the network itself.
pub(super) const HEAD: [&str; 2] = ["fc.weight", "fc.bias"];

/// Classification by a linear layer on the backbone. Weights of the network that a trial started from are kept where the
/// classifier has no place for them, so that what a trial leaves behind is that network with the backbone trained anew.
pub struct Classification {
    /// The classifier around the backbone.
    pub config: ClassifierConfig,
    /// Both parameters of the Beta distribution that mixes two images; 0 mixes none.
    pub mixup: f64,
    /// Share of the labels that is spread over all classes.
    pub label_smoothing: f64,
}

/// A classifier in training.
pub struct LearningClassifier {
    classifier: Classifier,
    mixup: Option<Mixup>,
    label_smoothing: f64,
}

impl Task for Classification {
    type Network = LearningClassifier;
    type Source = ClassificationSource;
    const KEEPS_THE_REST: bool = true;

    fn norm(&self) -> NormConfig {
        NormConfig { mode: BatchNormMode::Trained, ..self.config.norm }
    }

    fn with_norm(&self, norm: NormConfig) -> Self {
        Self { config: ClassifierConfig { norm, ..self.config }, ..*self }
    }

    fn build(&self, arch: &Architecture, root: Path<'_>, rng: &mut ChaCha8Rng) -> Result<LearningClassifier, NnError> {
        Ok(LearningClassifier {
            classifier: Classifier::new(root, arch, &self.config, rng)?,
            mixup: Mixup::new(self.mixup),
            label_smoothing: self.label_smoothing,
        })
    }

    fn forward(&self, network: &LearningClassifier, image: &Tensor) -> Result<(), NnError> {
        network.classifier.logits(&image.f_unsqueeze(0)?).map(drop)
    }

    fn measure(
        &self,
        network: &LearningClassifier,
        part: &Part<ClassificationSource>,
        limit: Option<usize>,
        on_batch: OnBatch<'_>,
    ) -> Result<Metrics, WorkError> {
        let classifier = &network.classifier;
        let mut counted = TopK::new(usize::try_from(classifier.classes()).unwrap_or_default())?;
        for batch in part.batches(limit, on_batch)? {
            let LabelledBatch { images, labels } = batch?;
            let logits = classifier.logits(&images.to_device(classifier.device()))?;
            let scores = || -> Result<_, tch::TchError> {
                let scores = logits.f_to_device(tch::Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
                Ok((Vec::<f32>::try_from(scores.f_view([-1i64])?)?, Vec::<i64>::try_from(&labels)?))
            };
            let (scores, labels) = scores().map_err(NnError::from)?;
            counted.add(&scores, &labels)?;
        }
        let named = [("accuracy", counted.top_1()), ("accuracy_top5", counted.top_5())];
        let known = named.into_iter().filter_map(|(name, value)| Some((name, value?)));
        Ok(known.map(|(name, value)| finite(name, 100.0 * value)).collect::<Result<_, _>>()?)
    }
}

impl Learner for LearningClassifier {
    type Batch = LabelledBatch;

    fn device(&self) -> tch::Device {
        self.classifier.device()
    }

    fn set_training(&mut self, _: bool) {
        // The loss is always of training, the logits always of evaluation.
    }

    fn images(batch: &LabelledBatch) -> usize {
        batch.labels.numel()
    }

    fn part(batch: &LabelledBatch, of: Range<usize>) -> Result<LabelledBatch, NnError> {
        Ok(batch.part(of)?)
    }

    fn losses(&self, batch: &LabelledBatch, rng: &mut ChaCha8Rng) -> Result<Vec<(&'static str, Tensor)>, NnError> {
        let batch = batch.to_device(self.classifier.device())?;
        let loss = match self.mixup {
            None => self.classifier.loss(&batch.images, Classes::Hard(&batch.labels), self.label_smoothing)?,
            Some(mixup) => {
                let mixed = mixup.mix(&batch, self.classifier.classes(), rng)?;
                self.classifier.loss(&mixed.images, Classes::Soft(&mixed.shares), self.label_smoothing)?
            }
        };
        Ok(vec![("classification", loss)])
    }

    fn observe(&self, batch: &LabelledBatch, _: &mut ChaCha8Rng) -> Result<(), NnError> {
        self.classifier.observe(&batch.images.f_to_device(self.classifier.device())?)
    }
}
