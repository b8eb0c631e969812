//! Checked search steps: what is searched, how, and when a trial is not worth going on.

use std::num::NonZeroU32;

use spnas_actors::objective::Objective;
use spnas_actors::sampler::spec::SamplerSpec;

use super::super::setting::Ratio;
use super::{Code, Dataset, EarlyStopping, Found, ImageSize, Model, Reignition, Trainer};
use crate::arch::parallel::NeckCode;

/// A step that searches backbones.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchStep {
    /// How candidates are proposed.
    pub algorithm: Algorithm,
    /// Where the search begins.
    pub space: SearchSpace,
    /// The network around the searched part.
    pub model: Model,
    /// When a trial is ended early.
    pub early_stopping: EarlyStopping,
    /// How each candidate is trained.
    pub trainer: Trainer,
    /// On what.
    pub dataset: Dataset,
    /// How each is measured.
    pub evaluator: Evaluator,
    /// When growth that is stuck has its best backbone trained as a classifier, and how.
    pub reignition: Option<Box<StuckReignition>>,
}

/// The paper's reignition: growth that has brought no improvement for some results trains the backbone of its best
/// network as a classifier, and goes on from there.
#[derive(Debug, Clone, PartialEq)]
pub struct StuckReignition {
    /// Results without improvement.
    pub n_stuck: NonZeroU32,
    /// How often in a search.
    pub max_reignitions: NonZeroU32,
    /// How the backbone becomes a classifier.
    pub how: Reignition,
    /// How the classifier is trained.
    pub trainer: Trainer,
    /// On what.
    pub dataset: Dataset,
}

/// How candidates are proposed.
#[derive(Debug, Clone, PartialEq)]
pub struct Algorithm {
    /// Who proposes.
    pub policy: Policy,
    /// How many candidates are trained in all.
    pub max_sample: NonZeroU32,
    /// What the Pareto front compares; at least one, distinct.
    pub objectives: Vec<Objective>,
    /// How a child is made from its parent.
    pub mutation: Mutation,
    /// What a candidate may be.
    pub limits: Limits,
    /// Whether a child starts from its parent's weights.
    pub inherit_weights: bool,
    /// Whose rules hold where Vega's code and the paper differ.
    pub compat: Compat,
}

/// Who proposes candidates.
#[derive(Debug, Clone, PartialEq)]
pub enum Policy {
    /// SP-NAS's serial search: mutations of members of the Pareto front.
    SpNas,
    /// One of the engine's samplers, over the serial space.
    Sampled(SamplerSpec),
    /// SP-NAS's parallel search: extra sub-networks beside the serial backbones of an earlier step.
    Parallel {
        /// Most extra sub-networks of a group of stages.
        max_sub_networks: NonZeroU32,
        /// Whether they share the weights of the main path.
        share_weights: bool,
        /// Stages of each group; empty: every stage is one.
        groups: Vec<u32>,
    },
}

/// How a child is made from its parent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mutation {
    /// Draws of an operation per child.
    pub num_mutate: NonZeroU32,
    /// Probability that a drawn expansion is done.
    pub expend_ratio: Ratio,
    /// Probability that a drawn new stage is added.
    pub add_stage_ratio: Ratio,
}

/// What a candidate may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Fewest blocks.
    pub min_depth: NonZeroU32,
    /// Most blocks.
    pub max_depth: NonZeroU32,
    /// Fewest stages.
    pub min_stages: NonZeroU32,
    /// Most stages.
    pub max_stages: NonZeroU32,
    /// Most parameters of the backbone.
    pub max_params: Option<u64>,
    /// Most multiply-adds of the backbone at [`Evaluator::input_size`].
    pub max_flops: Option<u64>,
}

/// Whose rules hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compat {
    /// The paper's, with the meaning of each key as documented.
    Paper,
    /// What Vega's code does, defects included, for comparisons with it.
    Vega,
}

/// Where the search begins.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchSpace {
    /// The codes to start from; distinct, within the limits, at least one where no networks are found.
    pub seeds: Vec<Code>,
    /// The code of a ParallelFPN to start from.
    pub neck: Option<NeckCode>,
    /// Networks of an earlier step to start from instead of the codes.
    pub found: Option<Found>,
}

/// How a network is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Evaluator {
    /// The input at which multiply-adds are counted.
    pub input_size: ImageSize,
}
