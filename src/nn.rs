//! Networks in libtorch: the backbone, serial or parallel, its feature pyramid and the Faster R-CNN on top, for any number of
//! stages and any device. In: an architecture as a plain value (`arch`), a configuration, a seeded generator. Out:
//! maps, losses, detections as tensors. Parameters carry torchvision's names (see [`detector::FasterRcnn`]).
//!
//! No call draws from libtorch's own generator: it is one for the whole process, so that trials on several threads
//! would not be reproducible.

pub mod block;
pub mod classifier;
pub mod detector;
pub mod fpn;
pub mod init;
pub mod parallel_backbone;
pub mod segmentation;
pub mod serial_backbone;

use spnas_actors::work::tells_out_of_memory;
use tch::TchError;

pub use block::{BatchNormMode, NormConfig, PlacedBlock};
pub use classifier::{Classes, Classifier, ClassifierConfig};
pub use detector::{Detections, FasterRcnn, FasterRcnnConfig, Losses, Target, Trace};
pub use fpn::FeaturePyramid;
pub use init::Initialiser;
pub use parallel_backbone::Backbone;
pub use segmentation::{SemanticFpn, SemanticFpnConfig};
pub use serial_backbone::{SerialFeatures, place_blocks};

/// What can go wrong when a network is built or run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NnError {
    /// libtorch refused an operation; out of memory on a device is told this way too.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
    /// An input tensor has a shape, kind or device that the network cannot take.
    #[error("{what}: expected {expected}, got {got}")]
    Input {
        /// Which input.
        what: String,
        /// What it has to be.
        expected: String,
        /// What it is.
        got: String,
    },
    /// A network cannot be built from this architecture.
    #[error("architecture: {0}")]
    Architecture(String),
    /// A configuration value is impossible.
    #[error("{key}: {reason}")]
    Config {
        /// The field of the configuration, dotted.
        key: &'static str,
        /// Why, and what would do.
        reason: String,
    },
}

impl NnError {
    /// Whether this is the device's memory running out, so that a smaller batch may do.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::Torch(TchError::Torch(text)) if tells_out_of_memory(text))
    }

    pub(crate) fn input(what: impl Into<String>, expected: impl Into<String>, got: impl std::fmt::Debug) -> Self {
        Self::Input { what: what.into(), expected: expected.into(), got: format!("{got:?}") }
    }
}

pub(crate) type Result<T> = std::result::Result<T, NnError>;
