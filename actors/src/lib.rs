//! An asynchronous search engine made of actors.
//!
//! ```text
//!  ┌─ SamplerActor ◄─ AskSampler ─┐              ┌─ LeaseWork, ReportProgress, EndAttempt ─ Worker (trainer, cuda:0)
//!  │   owns the policy            │              ▼                                          │  └ its thread: TrainTrial
//!  └── Answer ───────────────► Scheduler ── Outbox ── Job, Verdict ───────────────────────► ├ Worker (trainer, cuda:1)
//!                                 │   ▲         └─► Journal: every transition, durable      │  └ its thread: TrainTrial
//!  ┌─ ArchiveKeeper ◄── Observe ──┘   │             before it is shown outside              └ Worker (evaluator)
//!  │   writes the Pareto front        │                                                        └ its thread: EvaluateTrial
//!  └── who has left it ───────────────┘          WeightStore: blobs by content id; never in a mailbox
//!
//!  Supervisor: starts them all, rebuilds what fails, passes on stop, pause and resume
//! ```
//!
//! There is no generation and no barrier: a device that falls free asks for work and gets it at once, chosen with every
//! result that has arrived by then. To use it, implement [`SearchSpace`] (or a [`Sampler`] of your own), [`TrainTrial`] and
//! perhaps [`EvaluateTrial`], and put a [`Search`] together. No type of the actor library is part of this crate's
//! interface, and no tensor either.
//!
//! Reading order: `trial` and `state` (what a search is), `event` (what can happen), `messages` (who says what to whom),
//! `scheduler` (who decides), `worker`, `sampler`, `archive`, `stopping`, `weights`, `journal`, `resume`, `supervisor`.
//!
//! # Versions
//!
//! Versions are semantic ones (semver.org). Before 1.0 a new minor version may break what is written against this crate, a
//! new patch version may not. What may not change otherwise:
//!
//! - every public item, but those that the documentation does not show;
//! - the journal: a version reads what all before it wrote ([`journal::FORMAT`] counts its forms) and refuses a newer form by
//!   name. A search that goes on draws what it would have drawn: a sampler that draws otherwise is a breaking change;
//! - the lines of an external program ([`ExternalProgram`]): keys are added, none changes.
//!
//! Enums of causes and events may get variants in a minor version. Frames between a search and its workers' processes are
//! for one build of both, which each checks of the other. A newer Rust than before is a minor version.

mod candidate;
mod clock;
#[cfg(unix)]
mod command;
mod handle;
mod messages;
mod permits;
#[cfg(unix)]
mod process_end;
#[cfg(unix)]
mod process_group;
mod progress;
mod scheduler;
mod search;
mod snapshot;
mod supervisor;
mod worker;

pub mod archive;
pub mod broker;
pub mod device;
pub mod event;
pub mod ids;
pub mod journal;
pub mod memory;
pub mod objective;
pub mod resume;
pub mod rng;
pub mod sampler;
pub mod simulation;
pub mod space;
pub mod state;
pub mod stopping;
pub mod timeline;
pub mod trial;
pub mod weights;
pub mod work;

pub use candidate::RawCandidate;
#[cfg(unix)]
pub use command::{CommandTrainer, ExternalProgram, fuzz_line};
pub use handle::{ActivityView, FoundTrial, Remote, SearchHandle, SearchOutcome, WorkerActivity, front};
pub use ids::{Attempt, Epoch, TrialId, WeightsId};
pub use messages::{Command, Leave, SearchEnd};
pub use objective::{Direction, Metrics, Objective, Score};
pub use permits::WorkPermits;
pub use progress::{Activity, Progress, metrics};
pub use sampler::{AskTell, Sampler, SamplerSpec};
pub use search::{Search, SearchError, journal_path};
pub use snapshot::{FrontTrial, Mode, Snapshot};
pub use space::{Assignment, Crossover, Encode, Feature, FeatureKind, ParameterSpace, SearchSpace};
pub use supervisor::PlacementError;
pub use work::{EvaluateJob, EvaluateTrial, Start, TrainJob, TrainTrial, Trained, TrialError};
#[cfg(unix)]
pub use worker::process::WorkerCommand;
#[cfg(unix)]
pub use worker::process::frame::{FrameError, fuzz_frames};
#[cfg(unix)]
pub use worker::process::serve::{ServeError, WorkerProcess};
pub use worker::reason::error_chain;
pub use worker::thread::panic_message;

/// The example of the README, which must compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
