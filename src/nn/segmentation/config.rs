//! What can be set about the segmentation network; the defaults are those of Kirillov et al. 2019. In: a part of a
//! configuration file. Out: checked values.

use serde::{Deserialize, Serialize};

use crate::nn::block::NormConfig;
use crate::nn::detector::TransformConfig;
use crate::nn::{NnError, Result};

/// The whole network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SemanticFpnConfig {
    /// Classes, the background among them where it is one.
    pub num_classes: i64,
    /// Label of pixels that are not trained on.
    pub ignore_index: i64,
    /// Images to batches, as in the detectors.
    pub transform: TransformConfig,
    /// The backbone's batch normalisation.
    pub norm: NormConfig,
    /// Width of the pyramid.
    pub fpn_channels: i64,
    /// Width of the head (128 in the paper, sec. 3.1).
    pub head_channels: i64,
}

impl Default for SemanticFpnConfig {
    fn default() -> Self {
        Self {
            num_classes: 21,
            ignore_index: 255,
            transform: TransformConfig::default(),
            norm: NormConfig::default(),
            fpn_channels: 256,
            head_channels: 128,
        }
    }
}

impl SemanticFpnConfig {
    /// Refuses values that no network can be built from or that libtorch would fail on later.
    pub(crate) fn check(&self) -> Result<()> {
        for (key, value, least) in [
            ("num_classes", self.num_classes, 2),
            ("fpn_channels", self.fpn_channels, 1),
            ("head_channels", self.head_channels, 1),
        ] {
            if value < least {
                return Err(NnError::Config { key, reason: format!("{value} is too small: at least {least}") });
            }
        }
        self.norm.check()?;
        self.transform.check()
    }
}
