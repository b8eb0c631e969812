//! What a pickle may hold: values, and the table of the names it may use. In: a Python module and name. Out: what it
//! stands for here, or nothing. No name is ever looked up anywhere else.

use tch::Kind;

/// Index of a value among those of one pickle. Values name each other by index, so that a pickle of any depth, with
/// any sharing and even with circles takes no recursion and no copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) u32);

/// One value. Text borrows from the file.
#[derive(Debug)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits: little-endian two's complement.
    Long(&'a [u8]),
    Text(&'a str),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    /// In the order of insertion; of equal keys the last counts.
    Dict(Vec<(Id, Id)>),
    Global(Global),
    Storage(Box<Storage<'a>>),
    Tensor(Box<View<'a>>),
    /// A float, bytes, a set, a dtype, …: nothing that a state dict is read for.
    Opaque,
}

/// A storage as a tensor names it: `length` elements from `start` of the storage `key`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    pub(super) key: &'a str,
    pub(super) kind: Kind,
    /// Elements in the whole storage.
    pub(super) whole: i64,
    /// First element of this part of it.
    pub(super) start: i64,
    /// Elements of this part of it.
    pub(super) length: i64,
    /// Where the file says so.
    pub(super) at: u64,
}

/// A tensor: a strided view of a storage. All its numbers have been checked against the storage's length.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub(super) storage: Storage<'a>,
    /// First element, counted from the start of the whole storage.
    pub(super) offset: i64,
    pub(super) size: Vec<i64>,
    /// Elements.
    pub(super) stride: Vec<i64>,
    /// Where the file says so.
    pub(super) at: u64,
}

/// What an allowed name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    /// `_rebuild_tensor`, `_rebuild_tensor_v2`: storage, offset, shape, strides, …
    RebuildTensor,
    /// `_rebuild_parameter`, `_rebuild_parameter_with_state`: a tensor, …
    RebuildParameter,
    /// `torch.Size`: its one argument.
    Size,
    /// A class of storages.
    Storage(Kind),
    /// Known from optimisers, schedules and arguments that checkpoints carry; its value is not read.
    PassedOver,
}

/// The table of allowed names.
pub(super) fn global(module: &str, name: &str) -> Option<Global> {
    let found = match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Global::RebuildParameter,
        ("torch", "Size") => Global::Size,
        ("torch" | "torch.cuda", _) if name.ends_with("Storage") => Global::Storage(storage_kind(name)?),
        ("torch", "device" | "strided" | "contiguous_format" | "preserve_format" | "channels_last") => {
            Global::PassedOver
        }
        ("torch", "float16" | "bfloat16" | "float32" | "float64" | "bool") => Global::PassedOver,
        ("torch", "uint8" | "int8" | "int16" | "int32" | "int64") => Global::PassedOver,
        ("argparse", "Namespace") | ("collections", "Counter" | "defaultdict") => Global::PassedOver,
        ("builtins" | "__builtin__", "set" | "frozenset" | "dict" | "list" | "int" | "float" | "complex") => {
            Global::PassedOver
        }
        ("_codecs", "encode") | ("numpy", "dtype") => Global::PassedOver,
        ("numpy.core.multiarray" | "numpy._core.multiarray", "scalar") => Global::PassedOver,
        _ => return None,
    };
    Some(found)
}

fn storage_kind(name: &str) -> Option<Kind> {
    Some(match name {
        "HalfStorage" => Kind::Half,
        "BFloat16Storage" => Kind::BFloat16,
        "FloatStorage" => Kind::Float,
        "DoubleStorage" => Kind::Double,
        "ByteStorage" => Kind::Uint8,
        "CharStorage" => Kind::Int8,
        "ShortStorage" => Kind::Int16,
        "IntStorage" => Kind::Int,
        "LongStorage" => Kind::Int64,
        "BoolStorage" => Kind::Bool,
        _ => return None,
    })
}
