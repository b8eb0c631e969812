//! Checked search steps whose trials an external program trains: what is searched is a space of parameters, and what a
//! trial is only the program knows.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use spnas_actors::objective::Objective;
use spnas_actors::sampler::spec::SamplerSpec;
use spnas_actors::{Assignment, ParameterSpace};

use super::EarlyStopping;

/// A step that searches parameters of a program.
#[derive(Debug, Clone, PartialEq)]
pub struct ProgramStep {
    /// Who proposes.
    pub sampler: SamplerSpec,
    /// Candidates of the space that are tried first.
    pub start_from: Vec<Assignment>,
    /// The folder of an earlier run, or a journal, whose trials the sampler is told of before its own.
    pub warm_start: Option<PathBuf>,
    /// How many candidates are trained in all.
    pub max_sample: NonZeroU32,
    /// What the Pareto front compares; at least one, distinct.
    pub objectives: Vec<Objective>,
    /// What is searched.
    pub space: ParameterSpace,
    /// When a trial is ended early.
    pub early_stopping: EarlyStopping,
    /// What trains them.
    pub trainer: ProgramTrainer,
}

/// The program that trains the trials of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramTrainer {
    /// The program and its arguments; not empty.
    pub command: Vec<String>,
    /// Epochs of a trial, in whatever unit the program reports.
    pub epochs: NonZeroU32,
    /// How long it may say nothing; no limit where there is none.
    pub silence_limit: Option<Duration>,
    /// How long it may take to end when it is told to.
    pub grace: Duration,
}
