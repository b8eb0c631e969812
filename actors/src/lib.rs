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

mod candidate;
mod clock;
#[cfg(unix)]
mod command;
mod handle;
mod messages;
mod permits;
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
pub use command::{CommandTrainer, ExternalProgram};
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
