//! The stopping rule of a search step.

use spnas_actors::Epoch;
use spnas_actors::objective::Objective;
use spnas_actors::stopping::asha::{Asha, AshaMode, AshaSpec};
use spnas_actors::stopping::hyperband::{Hyperband, HyperbandSpec};
use spnas_actors::stopping::median::{Median, MedianSpec};
use spnas_actors::stopping::moasha::{MoAsha, MoAshaSpec, Spread};
use spnas_actors::stopping::pasha::{self, Pasha, PashaSpec};
use spnas_actors::stopping::plateau::{Plateau, PlateauSpec};
use spnas_actors::stopping::{NeverStop, StoppingRule};

use super::SetupError;
use crate::config::{EarlyStopping, Epsilon, Halving, Metric, OnWorse, Spread as Written};

/// The stopping rule for trials of at most `epochs` epochs, and what it judges by; by nothing in particular where it stops
/// nobody.
///
/// # Errors
/// Where its numbers do not fit.
pub(crate) fn stopping(
    early_stopping: &EarlyStopping,
    epochs: Epoch,
) -> Result<(Box<dyn StoppingRule>, Vec<Objective>), SetupError> {
    // The configuration has warned: no trial comes to the first comparison before its end.
    if early_stopping.min_epochs().is_none_or(|least| least.get() > epochs.0) {
        return Ok((Box::new(NeverStop), Vec::new()));
    }
    let spec = |halving: &Halving, mode: &OnWorse| AshaSpec {
        min_epochs: Epoch(halving.min_epochs.get()),
        max_epochs: epochs,
        eta: halving.eta.get(),
        mode: match mode {
            OnWorse::Stop => AshaMode::Stop,
            OnWorse::Promote => AshaMode::Promote,
        },
    };
    let one = |metric: &Metric| vec![metric.0.clone()];
    let all = |metrics: &[Metric]| metrics.iter().map(|metric| metric.0.clone()).collect();
    Ok(match early_stopping {
        EarlyStopping::None => (Box::new(NeverStop), Vec::new()),
        EarlyStopping::Asha { metric, halving, mode, latest } => {
            (Box::new(Asha::among_latest(spec(halving, mode), *latest)?), one(metric))
        }
        EarlyStopping::Hyperband { metric, halving, mode, brackets } => {
            let spec = HyperbandSpec { halving: spec(halving, mode), brackets: *brackets };
            (Box::new(Hyperband::new(spec)?), one(metric))
        }
        EarlyStopping::Pasha { metric, halving, epsilon, percentile } => {
            let AshaSpec { min_epochs, max_epochs, eta, .. } = spec(halving, &OnWorse::Promote);
            let epsilon = match epsilon {
                Epsilon::Noise => pasha::Epsilon::Noise { percentile: percentile.get() },
                Epsilon::Fixed(width) => pasha::Epsilon::Fixed(width.get()),
            };
            (Box::new(Pasha::new(PashaSpec { min_epochs, max_epochs, eta, epsilon })?), one(metric))
        }
        EarlyStopping::MoAsha { metrics, halving, mode, spread } => {
            let spread = match spread {
                Written::EpsilonNet => Spread::EpsilonNet,
                Written::Crowding => Spread::Crowding,
            };
            (Box::new(MoAsha::new(MoAshaSpec { halving: spec(halving, mode), spread })?), all(metrics))
        }
        EarlyStopping::Median { metric, min_epochs, min_trials } => {
            let spec = MedianSpec { grace: Epoch(min_epochs.get()), min_trials: min_trials.get() as usize };
            (Box::new(Median::new(spec)), one(metric))
        }
        EarlyStopping::Plateau { metrics, min_epochs, patience, min_delta } => {
            let (min_epochs, patience) = (Epoch(min_epochs.get()), Epoch(patience.get()));
            (Box::new(Plateau::new(PlateauSpec { patience, min_delta: min_delta.get(), min_epochs })?), all(metrics))
        }
    })
}
