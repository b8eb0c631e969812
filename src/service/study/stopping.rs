//! Who ends the trials of a study early. JSON comes in, a rule of the engine goes out, or what is wrong with it. The keys are
//! those of `early_stopping` in a configuration, with their defaults, which is read with its lines and therefore elsewhere (`src/config`).

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use spnas_actors::stopping::asha::{Asha, AshaError, AshaMode, AshaSpec};
use spnas_actors::stopping::hyperband::{Hyperband, HyperbandSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::moasha::{MoAsha, MoAshaSpec, Spread};
use spnas_actors::stopping::plateau::{Plateau, PlateauSpec};
use spnas_actors::stopping::{NeverStop, StoppingRule};
use spnas_actors::{Epoch, Objective};
use utoipa::ToSchema;

/// Who ends trials early: by the first objective, `moasha` by all of them. Clients keep no trial waiting, so there is no rule
/// here that pauses.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
pub(crate) enum StoppingSpec {
    /// Asynchronous successive halving (Li et al., MLSys 2020): one in `eta` goes on at each rung.
    Asha {
        /// The reduction factor.
        #[serde(default = "three")]
        #[schema(minimum = 2, default = three)]
        eta: u32,
        /// Where the first rung stands, in epochs.
        #[serde(default = "one")]
        #[schema(minimum = 1, default = one)]
        min_epochs: u32,
        /// How many of a rung, the latest, are compared; all unless given.
        #[serde(default)]
        #[schema(value_type = Option<u32>, minimum = 1)]
        latest: Option<NonZeroU32>,
    },
    /// Asynchronous Hyperband (Li et al., MLSys 2020): brackets of successive halving, each beginning a rung later.
    Hyperband {
        /// The reduction factor.
        #[serde(default = "three")]
        #[schema(minimum = 2, default = three)]
        eta: u32,
        /// Where the first rung of the first bracket stands, in epochs.
        #[serde(default = "one")]
        #[schema(minimum = 1, default = one)]
        min_epochs: u32,
        /// Most brackets; as many as there can be unless given.
        #[serde(default)]
        #[schema(value_type = Option<u32>, minimum = 1)]
        brackets: Option<NonZeroU32>,
    },
    /// Successive halving by all objectives at once, by non-dominated rank (Schmucker et al. 2021).
    Moasha {
        /// The reduction factor.
        #[serde(default = "three")]
        #[schema(minimum = 2, default = three)]
        eta: u32,
        /// Where the first rung stands, in epochs.
        #[serde(default = "one")]
        #[schema(minimum = 1, default = one)]
        min_epochs: u32,
        /// The order of those that none dominates.
        #[serde(default, skip_serializing_if = "SpreadSpec::is_preset")]
        spread: SpreadSpec,
    },
    /// Median stopping (Golovin et al., KDD 2017).
    Median {
        /// The first epoch at which a trial may be stopped. It was once called `grace`, and is so in `study.json`.
        #[serde(rename(serialize = "grace"), alias = "grace", default = "one")]
        #[schema(default = one)]
        min_epochs: u32,
        /// How many others must have reported there.
        #[serde(default = "three")]
        #[schema(default = three)]
        min_trials: u32,
    },
    /// Ends a trial that no longer improves.
    Plateau {
        /// So many epochs without an improvement.
        #[serde(default = "three")]
        #[schema(minimum = 1, default = three)]
        patience: u32,
        /// The least that is one.
        #[serde(default)]
        #[schema(minimum = 0.0)]
        min_delta: f64,
        /// The first epoch at which a trial may be stopped.
        #[serde(default = "one")]
        #[schema(default = one)]
        min_epochs: u32,
    },
}

/// The order of trials that do not dominate one another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SpreadSpec {
    /// Always the one furthest from those before it.
    #[default]
    EpsilonNet,
    /// The one with most room around it first.
    Crowding,
}

impl SpreadSpec {
    fn is_preset(&self) -> bool {
        *self == Self::default()
    }
}

fn one() -> u32 {
    1
}

fn three() -> u32 {
    3
}

/// The rule for trials of `epochs` epochs.
pub(super) fn rule(spec: Option<StoppingSpec>, epochs: u32) -> Result<Box<dyn StoppingRule>, String> {
    let Some(spec) = spec else { return Ok(Box::new(NeverStop)) };
    let halving = |eta, min_epochs| {
        let (min_epochs, max_epochs) = (Epoch(min_epochs), Epoch(epochs));
        AshaSpec { min_epochs, max_epochs, eta, mode: AshaMode::Stop }
    };
    let wrong = |error: AshaError| error.to_string();
    Ok(match spec {
        StoppingSpec::Asha { eta, min_epochs, latest } => {
            Box::new(Asha::among_latest(halving(eta, min_epochs), latest).map_err(wrong)?)
        }
        StoppingSpec::Hyperband { eta, min_epochs, brackets } => {
            let spec = HyperbandSpec { halving: halving(eta, min_epochs), brackets };
            Box::new(Hyperband::new(spec).map_err(wrong)?)
        }
        StoppingSpec::Moasha { eta, min_epochs, spread } => {
            let spread = match spread {
                SpreadSpec::EpsilonNet => Spread::EpsilonNet,
                SpreadSpec::Crowding => Spread::Crowding,
            };
            Box::new(MoAsha::new(MoAshaSpec { halving: halving(eta, min_epochs), spread }).map_err(wrong)?)
        }
        StoppingSpec::Median { min_epochs, min_trials } => {
            Box::new(Median::new(MedianSpec { grace: Epoch(min_epochs), min_trials: min_trials as usize }))
        }
        StoppingSpec::Plateau { patience, min_delta, min_epochs } => {
            let spec = PlateauSpec { patience: Epoch(patience), min_delta, min_epochs: Epoch(min_epochs) };
            Box::new(Plateau::new(spec).map_err(|error| error.to_string())?)
        }
    })
}

/// The objectives that it looks at.
pub(super) fn judged_by(spec: Option<StoppingSpec>, objectives: &[Objective]) -> &[Objective] {
    match spec {
        Some(StoppingSpec::Moasha { .. }) => objectives,
        _ => &objectives[..1],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn keys_of_earlier_versions_are_read_and_their_studies_keep_their_fingerprint() {
        let written =
            |spec: &Value| serde_json::to_value(serde_json::from_value::<StoppingSpec>(spec.clone()).unwrap());
        let old = json!({"type": "median", "grace": 2, "min_trials": 3});
        assert_eq!(written(&old).unwrap(), old);
        assert_eq!(written(&json!({"type": "median", "min_epochs": 2, "min_trials": 3})).unwrap(), old);
        let old = json!({"type": "moasha", "eta": 3, "min_epochs": 1});
        assert_eq!(written(&old).unwrap(), old);
        let crowding = json!({"type": "moasha", "eta": 3, "min_epochs": 1, "spread": "crowding"});
        assert_eq!(written(&crowding).unwrap(), crowding);
        let schema = serde_json::to_string(&<StoppingSpec as utoipa::PartialSchema>::schema()).unwrap();
        assert!(schema.contains("\"min_epochs\"") && !schema.contains("\"grace\""), "the old name is shown to nobody");
        let unknown = json!({"type": "median", "min_epochs": 2, "min_trials": 3, "grave": 1});
        assert!(serde_json::from_value::<StoppingSpec>(unknown).unwrap_err().to_string().contains("grave"));
    }
}
