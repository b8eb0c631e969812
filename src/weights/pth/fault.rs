//! What can be wrong with a `.pth` file and where. In: an offset and the finding. Out: the sentence a user reads.

use tch::TchError;

/// What is wrong at one place of a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Neither a zip archive nor a pickle with torch's magic number.
    #[error("not a file of torch.save: it starts neither with a zip archive nor with torch's magic number")]
    NotTorch,
    /// A TorchScript archive holds code; its weights are not read.
    #[error("a TorchScript archive; save the module's state_dict() with torch.save instead")]
    TorchScript,
    /// Written by a machine of the other byte order.
    #[error("a big-endian file; load and save it again on a little-endian machine")]
    BigEndian,
    /// The bytes end before what they announce.
    #[error("cut short: {what} needs {needed} bytes, {left} are left")]
    Cut {
        /// What was being read.
        what: &'static str,
        /// Bytes that it takes.
        needed: u64,
        /// Bytes that there are.
        left: u64,
    },
    /// Bytes after the last storage.
    #[error("{0} bytes follow the end of the last storage")]
    Trailing(u64),
    /// The zip archive's tables are wrong.
    #[error("zip archive: {0}")]
    Archive(String),
    /// An opcode that state dicts do not need: unknown, of protocol 0 or 1, or of an extension.
    #[error("pickle opcode {0:#04x} is not among those that a state dict needs")]
    Opcode(u8),
    /// A name that is not in the table of allowed ones. Nothing of the kind is ever looked up or run.
    #[error(
        "{module}.{name} is not among the names that a file of weights may use (saved as a whole module? save its \
         state_dict() instead)"
    )]
    Global {
        /// Python's module.
        module: String,
        /// The name in it.
        name: String,
    },
    /// Operations and operands that do not fit together.
    #[error("pickle: {0}")]
    Pickle(&'static str),
    /// More operations than any checkpoint has.
    #[error("pickle with more than {0} operations")]
    TooLong(usize),
    /// The arguments of a tensor are impossible.
    #[error("tensor of shape {size:?}, strides {stride:?}, offset {offset}: {reason}")]
    View {
        /// Its shape.
        size: Vec<i64>,
        /// Its strides, elements.
        stride: Vec<i64>,
        /// Its first element in the storage.
        offset: i64,
        /// What is impossible about it.
        reason: String,
    },
    /// A storage is not what the tensors say.
    #[error("storage {key:?}: {reason}")]
    Storage {
        /// Its key in the file.
        key: String,
        /// What does not fit.
        reason: String,
    },
    /// The file holds no dictionary of tensors where one is looked for.
    #[error("no state dict: {0}")]
    NoStateDict(String),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] TchError),
}

/// A fault and the byte of the file at which it shows.
#[derive(Debug, thiserror::Error)]
#[error("byte {at}: {fault}")]
pub struct Flaw {
    /// Where, from 0.
    pub at: u64,
    /// What is wrong there.
    pub fault: Fault,
}

impl Flaw {
    pub(super) fn new(at: u64, fault: Fault) -> Self {
        Self { at, fault }
    }
}

pub(super) type Result<T> = std::result::Result<T, Flaw>;
