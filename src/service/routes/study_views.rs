//! What clients of studies send and are sent: trials go out with their leases, reports and ends come in.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use spnas_actors::{Metrics, WeightsId};
use utoipa::{IntoParams, ToSchema};

use super::views::Manner;
use crate::service::record::SearchId;
use crate::service::study::desk::{From, Lease, Offer};
use crate::service::study::spec::StudySpec;

/// A study to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewStudy {
    /// Its id, which must not be taken; made from the time unless given.
    #[serde(default)]
    pub(super) id: Option<SearchId>,
    #[serde(flatten)]
    #[schema(inline)]
    pub(super) manner: Manner,
    /// What it is.
    pub(super) study: StudySpec,
}

/// A trial for a client.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Asked {
    /// Its number.
    pub(super) trial: u64,
    /// Which attempt at it this is.
    pub(super) attempt: u32,
    /// To be shown with all that is said of the trial.
    pub(super) lease: String,
    /// After so many seconds without a word the trial is given to another.
    pub(super) lease_seconds: f64,
    /// What to train.
    #[schema(value_type = serde_json::Value)]
    pub(super) candidate: Value,
    /// From where.
    pub(super) start: StartView,
    /// The epochs that the trial has in all.
    pub(super) epochs: u32,
    /// The trial's own seed, the same at every attempt.
    #[schema(value_type = String)]
    pub(super) seed: String,
}

/// Where a training begins.
#[derive(Debug, Serialize, ToSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum StartView {
    /// From scratch.
    Fresh,
    /// From another trial's weights.
    Parent {
        /// That trial.
        trial: u64,
        /// The content id of its weights.
        weights: String,
        /// Where they are.
        href: String,
    },
    /// From this trial's own checkpoint.
    Checkpoint {
        /// The epochs behind it.
        epoch: u32,
        /// Its content id.
        weights: String,
        /// Where it is.
        href: String,
    },
}

/// How long to wait.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Patience {
    /// Seconds to wait for a trial where there is none at once; 10 unless given.
    #[param(minimum = 0.0, maximum = 60.0)]
    pub(super) wait: Option<f64>,
}

/// An epoch of a trial.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EpochReport {
    /// The lease that came with the trial.
    pub(super) lease: String,
    /// The epochs finished.
    #[schema(minimum = 1)]
    pub(super) epoch: u32,
    /// What was measured.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub(super) metrics: Metrics,
    /// The id of weights sent before, from which another attempt can go on.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(super) checkpoint: Option<WeightsId>,
}

/// What is to become of a trial.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct VerdictView {
    /// `continue`, or `stop`: the trial is over, or the study is being stopped.
    #[schema(example = "continue")]
    pub(super) verdict: &'static str,
}

/// The end of a trial.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialEnd {
    /// The lease that came with the trial.
    pub(super) lease: String,
    /// What was measured: with what was reported before, every objective.
    #[schema(value_type = std::collections::BTreeMap<String, f64>)]
    pub(super) metrics: Metrics,
    /// The id of weights sent before, for children and for whoever fetches them.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub(super) weights: Option<WeightsId>,
}

/// The failure of a trial.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TrialFailure {
    /// The lease that came with the trial.
    pub(super) lease: String,
    /// Why it failed.
    #[schema(max_length = 10_000)]
    pub(super) why: String,
    /// Whether the candidate breaks a constraint, so that nobody could train it: it is given out no more, is counted as
    /// infeasible, and the sampler learns it. A metric `violation` reported before says by how much.
    #[serde(default)]
    pub(super) infeasible: bool,
}

/// A lease.
#[derive(Debug, Deserialize, ToSchema, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Held {
    /// The lease that came with the trial.
    pub(super) lease: String,
}

/// Weights that are stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StoredWeights {
    /// Their content id, to be named in a report.
    pub(super) weights: String,
}

/// A trial on its way to a client.
pub(super) fn asked(id: &SearchId, offer: Offer, lease: &Lease, time: Duration) -> Asked {
    let href = |weights: &WeightsId| format!("/v1/studies/{id}/weights/{weights}");
    let start = match offer.from {
        From::Fresh => StartView::Fresh,
        From::Parent { trial, weights } => {
            StartView::Parent { trial: trial.0, href: href(&weights), weights: weights.to_string() }
        }
        From::Checkpoint { epoch, weights } => {
            StartView::Checkpoint { epoch: epoch.0, href: href(&weights), weights: weights.to_string() }
        }
    };
    Asked {
        trial: offer.trial.0,
        attempt: offer.attempt.0,
        lease: lease.as_str().to_owned(),
        lease_seconds: time.as_secs_f64(),
        candidate: Value::clone(&offer.candidate),
        start,
        epochs: offer.epochs.0,
        // As text: JavaScript's numbers end at 2^53.
        seed: offer.seed.to_string(),
    }
}
