//! Weights outside a network: as bytes and files, renamed from other libraries', and carried from one architecture to
//! another. In: variable stores, bytes, files, named tensors. Out: the same in another form, with an account of what
//! fitted.

pub mod body;
pub mod file;
pub mod inherit;
pub mod onnx;
pub mod pth;
pub mod safetensors;
pub mod torchvision;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tch::{TchError, Tensor};

use crate::nn::NnError;

pub use body::replace_body;
pub use inherit::{Inherited, inherit, inherit_with_new_stem};
pub use pth::PthError;
pub use safetensors::{LoadReport, WrongShape};
pub use torchvision::{ConvertError, Converted, Shapes, convert};

/// Named tensors, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// What a file says about itself.
pub type Metadata = BTreeMap<String, String>;

/// What can go wrong with weights.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsError {
    /// The bytes are no safetensors file.
    #[error("not a readable safetensors file: {0}")]
    Format(#[from] ::safetensors::SafeTensorError),
    /// The header could not be written or read as JSON.
    #[error("header of a safetensors file: {0}")]
    Header(#[from] serde_json::Error),
    /// A tensor's elements are of a kind that weights are not stored in.
    #[error("tensor {name}: elements are {kind}; expected F16, BF16, F32, F64 or I64")]
    Kind {
        /// The tensor.
        name: String,
        /// The kind in the file.
        kind: String,
    },
    /// A strict load found differences; nothing was loaded.
    #[error("weights do not fit the network: {0}")]
    Mismatch(LoadReport),
    /// A parent's tensor does not have the shape that its architecture says.
    #[error("tensor {name} of the parent: expected {expected:?} by its architecture, got {got:?}")]
    Shape {
        /// The tensor.
        name: String,
        /// By the architecture.
        expected: Vec<i64>,
        /// In the file.
        got: Vec<i64>,
    },
    /// The two architectures cannot inherit from each other.
    #[error("{0}")]
    Unrelated(String),
    /// An architecture that no network can be built from.
    #[error(transparent)]
    Network(#[from] NnError),
    /// A file is neither safetensors nor of torch.save.
    #[error("{}: neither a safetensors file nor one of torch.save", .0.display())]
    UnknownFormat(PathBuf),
    /// A file of weights cannot be read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<WeightsError>,
    },
    /// The system refused to read a file.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// A file of torch.save cannot be read.
    #[error(transparent)]
    Pth(#[from] PthError),
    /// A file's tensors are not those of the network.
    #[error(transparent)]
    Convert(#[from] ConvertError),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}
