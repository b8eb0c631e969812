//! What clients send of searches and are shown of them: requests come in and become wishes, searches go out as JSON.

use std::num::NonZeroU32;
use std::path::Path;

use serde::{Deserialize, Serialize};
use spnas_actors::WorkerActivity;
use utoipa::{IntoParams, ToSchema};

use crate::config::{self, Options};
use crate::pipeline::check_devices;
use crate::service::Service;
use crate::service::folded::{CountsView, FrontView, TrialView};
use crate::service::hosted::{Hosted, State, Summary};
use crate::service::problem::{Fault, Problem};
use crate::service::record::{End, Kind, SearchId, Share};
use crate::service::registry::{What, Wish};
use crate::service::study::spec::StudySpec;

/// Longest configuration, in bytes.
const CONFIG_BYTES: usize = 256 << 10;

/// Most overrides.
const OVERRIDES: usize = 1_000;

/// Longest name, in characters.
const NAME: usize = 200;

/// Largest weight.
const WEIGHT: u32 = 1_000;

/// A search to be made, as JSON. As YAML it is the configuration alone.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSearch {
    /// The configuration: the text of a YAML file, as for `spnas run`.
    #[schema(max_length = 262_144)]
    pub(super) config: String,
    /// Values over those of the configuration, as in `serial.trainer.epochs=2`.
    #[serde(default)]
    #[schema(max_items = 1_000)]
    pub(super) overrides: Vec<String>,
    /// Its id, which must not be taken; made from the time unless given.
    #[serde(default)]
    pub(super) id: Option<SearchId>,
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) manner: Manner,
}

/// How a search is called and served.
#[derive(Debug, Default, Deserialize, ToSchema)]
pub(crate) struct Manner {
    /// A name for people; its id unless given.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: Option<String>,
    /// How much of the devices it gets beside others of the same priority; 1 unless given.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000)]
    pub(super) weight: Option<u32>,
    /// Searches of higher priority are given devices first; 0 unless given.
    #[serde(default)]
    pub(super) priority: i32,
}

/// What changes of a search.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Amendment {
    /// A name for people.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    pub(super) name: Option<String>,
    /// How much of the devices it gets beside others of the same priority.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000)]
    pub(super) weight: Option<u32>,
    /// Searches of higher priority are given devices first.
    #[serde(default)]
    pub(super) priority: Option<i32>,
}

/// A search in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchItem {
    /// Its id.
    pub(super) id: SearchId,
    /// Who trains its trials.
    pub(super) kind: Kind,
    /// Its name.
    pub(super) name: String,
    /// Where it stands.
    pub(super) state: State,
    /// Why it failed.
    pub(super) why: Option<String>,
    /// The step that runs, or the last that did.
    pub(super) step: Option<String>,
    /// All its steps.
    pub(super) steps: Vec<String>,
    /// How many trials of the step ended how.
    pub(super) counts: CountsView,
    /// How many are on its front.
    pub(super) front: usize,
    /// Its weight among searches of its priority.
    pub(super) weight: u32,
    /// Its priority.
    pub(super) priority: i32,
    /// When it was made, in milliseconds since 1970.
    pub(super) created_ms: u64,
}

/// A list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchList {
    /// The searches, the oldest first.
    pub(super) searches: Vec<SearchItem>,
    /// What to send as `after` for the rest; nothing where this is all.
    pub(super) next: Option<SearchId>,
}

/// A search.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchView {
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) item: SearchItem,
    /// What is going on, while it runs.
    pub(super) now: Option<NowView>,
    /// The front of its step, once it has one.
    pub(super) best: Option<FrontView>,
    /// The configuration, resolved.
    pub(super) config: Option<String>,
}

/// What is going on.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NowView {
    /// How many trials the step is to have.
    pub(super) trials: u64,
    /// How many epochs a trial has.
    pub(super) epochs: u32,
    /// What each worker is doing.
    pub(super) workers: Vec<WorkerView>,
}

/// What a worker is doing.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkerView {
    /// Its device.
    #[schema(example = "cuda:0")]
    pub(super) device: String,
    /// `train` or `evaluate`.
    pub(super) role: &'static str,
    /// The trial that it has.
    pub(super) trial: u64,
    /// The trial's finished epochs.
    pub(super) epoch: u32,
    /// Steps since the attempt began.
    pub(super) steps: u64,
}

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Page {
    /// Only those after this one.
    pub(super) after: Option<SearchId>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1_000)]
    pub(super) limit: Option<usize>,
}

/// Which step.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct OfStep {
    /// The step; the one that runs, or the last that did, unless given.
    pub(crate) step: Option<String>,
}

/// Which trials.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Trials {
    /// The step; the one that runs, or the last that did, unless given.
    pub(super) step: Option<String>,
    /// Only those after this one.
    pub(super) after: Option<u64>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1_000)]
    pub(super) limit: Option<usize>,
}

/// A list of trials.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TrialList {
    /// The trials, in the order in which they were proposed.
    pub(super) trials: Vec<TrialView>,
    /// What to send as `after` for the rest; nothing where this is all.
    pub(super) next: Option<u64>,
}

impl Manner {
    pub(super) fn check(self, faults: &mut Vec<Fault>) -> (Option<String>, Share) {
        let unfit =
            |name: &String| name.trim().is_empty() || name.chars().count() > NAME || name.chars().any(char::is_control);
        if self.name.as_ref().is_some_and(unfit) {
            faults.push(Fault::at("name", format!("1 to {NAME} characters, none of them a control")));
        }
        let weight = self.weight.map_or(Some(NonZeroU32::MIN), NonZeroU32::new);
        let weight = weight.filter(|weight| weight.get() <= WEIGHT).unwrap_or_else(|| {
            faults.push(Fault::at("weight", format!("1 to {WEIGHT}")));
            NonZeroU32::MIN
        });
        (self.name, Share { weight, priority: self.priority })
    }
}

impl SearchItem {
    pub(super) fn of(summary: Summary) -> Self {
        let Summary { record, state, step, counts, front, .. } = summary;
        let why = match record.end {
            Some(End::Failed { why }) => Some(why),
            _ => None,
        };
        let Share { weight, priority } = record.share;
        let (id, kind, name, steps, created_ms) =
            (record.id, record.kind, record.name, record.steps, record.created_ms);
        let weight = weight.get();
        Self { id, kind, name, state, why, step, steps, counts, front, weight, priority, created_ms }
    }
}

impl NowView {
    pub(super) fn of(hosted: &Hosted) -> Option<Self> {
        let now = hosted.now()?;
        let worker = |worker: WorkerActivity| {
            let activity = worker.activity?;
            let role = match worker.role {
                spnas_actors::event::Role::Train => "train",
                spnas_actors::event::Role::Evaluate => "evaluate",
            };
            let (trial, epoch, steps) = (activity.trial.0, activity.epoch.0, activity.steps);
            Some(WorkerView { device: worker.device.to_string(), role, trial, epoch, steps })
        };
        let workers = now.activities.read().into_iter().filter_map(worker).collect();
        Some(Self { trials: now.trials, epochs: now.epochs, workers })
    }
}

/// All that is to be said of a search. Blocks.
pub(crate) fn view(hosted: &Hosted) -> SearchView {
    let best = hosted.look(None, |step, folded| folded.front(step)).ok();
    let config = std::fs::read_to_string(hosted.folder().config()).ok();
    SearchView { item: SearchItem::of(hosted.summary()), now: NowView::of(hosted), best, config }
}

impl NewSearch {
    pub(super) fn wish(self, service: &Service) -> Result<Wish, Problem> {
        if self.config.len() > CONFIG_BYTES {
            return Err(Problem::too_large(CONFIG_BYTES));
        }
        let mut faults = Vec::new();
        if self.overrides.len() > OVERRIDES {
            faults.push(Fault::at("overrides", format!("at most {OVERRIDES}")));
        }
        let (name, share) = self.manner.check(&mut faults);
        if !faults.is_empty() {
            return Err(Problem::faults("nothing was started", faults));
        }
        // Paths are meant from where the service runs, as `spnas run` has them.
        let options = Options::from_environment(self.overrides);
        let checked = config::parse(Path::new("config"), self.config, &options)?;
        service.allows(&checked)?;
        let refused = |why: &str| Problem::faults("nothing was started", vec![Fault::at("config", why.to_owned())]);
        check_devices(&checked).map_err(|why| refused(&why.to_string()))?;
        Ok(Wish { id: self.id, name, share, what: What::Pipeline(Box::new(checked)) })
    }
}

/// The wish for a study of this manner.
pub(crate) fn study_wish(spec: StudySpec, id: Option<SearchId>, manner: Manner) -> Result<Wish, Problem> {
    let mut faults = spec.check().err().unwrap_or_default();
    let (name, share) = manner.check(&mut faults);
    match faults.is_empty() {
        true => Ok(Wish { id, name, share, what: What::Study(Box::new(spec)) }),
        false => Err(Problem::faults("nothing was started", faults)),
    }
}
