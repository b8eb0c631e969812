//! Weights as safetensors bytes in memory. In: a variable store and metadata. Out: bytes that are the same for the same
//! weights (so that they can be named by their hash), and back, strictly or as far as it fits.

use std::borrow::Cow;
use std::fmt;

use ::safetensors::tensor::{Dtype, SafeTensors, View};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::{Metadata, Tensors, WeightsError};

/// torchvision's batch normalisation counts its batches under this name; nothing reads it, so it is passed over.
const COUNTER: &str = "num_batches_tracked";

/// How much has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// Every name and shape, or nothing is loaded.
    Strict,
    /// What fits is loaded, the rest reported.
    Partial,
}

/// A tensor whose shape in the file is not the network's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongShape {
    /// Its name.
    pub name: String,
    /// The network's.
    pub expected: Vec<i64>,
    /// The file's.
    pub got: Vec<i64>,
}

/// What a load did, names in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Loaded.
    pub loaded: Vec<String>,
    /// In the network, not among the weights.
    pub missing: Vec<String>,
    /// Among the weights, not in the network.
    pub unexpected: Vec<String>,
    /// In both with different shapes.
    pub wrong_shape: Vec<WrongShape>,
}

impl LoadReport {
    /// Whether every name and shape agrees.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.wrong_shape.is_empty()
    }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wrong: Vec<String> = self
            .wrong_shape
            .iter()
            .map(|wrong| format!("{} (expected {:?}, got {:?})", wrong.name, wrong.expected, wrong.got))
            .collect();
        let parts = [("missing", &self.missing), ("unexpected", &self.unexpected), ("of another shape", &wrong)];
        let mut separator = "";
        for (what, names) in parts {
            if names.is_empty() {
                continue;
            }
            let first = names.iter().take(3).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if names.len() > 3 { ", …" } else { "" };
            write!(f, "{separator}{} {what}: {first}{more}", names.len())?;
            separator = "; ";
        }
        if separator.is_empty() { write!(f, "{} loaded", self.loaded.len()) } else { Ok(()) }
    }
}

/// A tensor on its way into the file.
struct Stored {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl View for Stored {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The store's variables as bytes, in single precision.
///
/// # Errors
/// libtorch's, where a device fails.
pub fn to_bytes(store: &VarStore, metadata: &Metadata) -> Result<Vec<u8>, WeightsError> {
    tensors_to_bytes(&store.variables().into_iter().collect(), metadata)
}

/// Tensors as bytes, in single precision. The same tensors and metadata always give the same bytes.
///
/// # Errors
/// libtorch's, where a device fails.
pub fn tensors_to_bytes(tensors: &Tensors, metadata: &Metadata) -> Result<Vec<u8>, WeightsError> {
    let mut stored = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Float)?.f_contiguous()?;
        let count = tensor.numel();
        let mut bytes = vec![0; count * size_of::<f32>()];
        tensor.f_copy_data_u8(&mut bytes, count)?;
        let shape = tensor.size().into_iter().map(|side| side as usize).collect();
        stored.push((name.as_str(), Stored { shape, bytes }));
    }
    let plain = ::safetensors::serialize(stored, None)?;
    with_metadata(plain, metadata)
}

/// Puts metadata into the header, in the order of its keys: the library takes it in a hash map, whose order would
/// differ from run to run and with it the bytes.
fn with_metadata(plain: Vec<u8>, metadata: &Metadata) -> Result<Vec<u8>, WeightsError> {
    if metadata.is_empty() {
        return Ok(plain);
    }
    let (length, _) = SafeTensors::read_metadata(&plain)?;
    let (header, data) = plain[8..].split_at(length);
    let entries = header.trim_ascii_end().strip_prefix(b"{").unwrap_or(header);
    let separator = if entries.starts_with(b"}") { "" } else { "," };
    let mut new = format!("{{\"__metadata__\":{}{separator}", serde_json::to_string(metadata)?).into_bytes();
    new.extend_from_slice(entries);
    new.resize(new.len().next_multiple_of(8), b' ');
    let mut bytes = Vec::with_capacity(8 + new.len() + data.len());
    bytes.extend_from_slice(&(new.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&new);
    bytes.extend_from_slice(data);
    Ok(bytes)
}

/// Tensors of a file, on the host in single precision, and its metadata. Counters of batches are left out.
///
/// # Errors
/// Bytes that are no such file, or elements of a kind that is no weight.
pub fn from_bytes(bytes: &[u8]) -> Result<(Tensors, Metadata), WeightsError> {
    let (_, header) = SafeTensors::read_metadata(bytes)?;
    let file = SafeTensors::deserialize(bytes)?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter().filter(|(name, _)| !is_counter(name)) {
        let kind = match view.dtype() {
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::I64 => Kind::Int64,
            other => return Err(WeightsError::Kind { name: name.to_owned(), kind: format!("{other:?}") }),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&side| side as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind)?.f_to_kind(Kind::Float)?;
        tensors.insert(name.to_owned(), tensor);
    }
    let metadata = header.metadata().clone().unwrap_or_default().into_iter().collect();
    Ok((tensors, metadata))
}

fn is_counter(name: &str) -> bool {
    name.rsplit('.').next() == Some(COUNTER)
}

/// Copies tensors into the store's variables of the same names, on the store's device.
///
/// # Errors
/// [`WeightsError::Mismatch`] where a strict load finds a difference, before anything is changed; libtorch's.
pub fn load(store: &VarStore, tensors: &Tensors, strictness: Strictness) -> Result<LoadReport, WeightsError> {
    let variables: Tensors = store.variables().into_iter().collect();
    let mut report = LoadReport::default();
    for (name, variable) in &variables {
        match tensors.get(name) {
            None => report.missing.push(name.clone()),
            Some(tensor) if tensor.size() != variable.size() => report.wrong_shape.push(WrongShape {
                name: name.clone(),
                expected: variable.size(),
                got: tensor.size(),
            }),
            Some(_) => report.loaded.push(name.clone()),
        }
    }
    report.unexpected =
        tensors.keys().filter(|name| !variables.contains_key(*name) && !is_counter(name)).cloned().collect();
    if strictness == Strictness::Strict && !report.is_complete() {
        report.loaded.clear();
        return Err(WeightsError::Mismatch(report));
    }
    for name in &report.loaded {
        if let (Some(variable), Some(tensor)) = (variables.get(name), tensors.get(name)) {
            tch::no_grad(|| variable.shallow_clone().f_copy_(tensor))?;
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(shapes: &[(&str, &[i64])]) -> VarStore {
        let store = VarStore::new(Device::Cpu);
        for (at, (name, shape)) in shapes.iter().enumerate() {
            let values = Tensor::full(*shape, at as i64 + 1, (Kind::Float, Device::Cpu));
            let _ = (store.root() / "layer").add(name, values, true);
        }
        store
    }

    fn metadata() -> Metadata {
        ["epoch", "code", "grammar", "seed", "parent"]
            .iter()
            .map(|key| (key.to_string(), format!("\"{key}\" ü")))
            .collect()
    }

    #[test]
    fn bytes_come_back_as_the_same_tensors_and_metadata() {
        let bytes = to_bytes(&store(&[("a", &[2, 3]), ("b", &[]), ("c", &[0, 2])]), &metadata()).unwrap();
        let (tensors, read) = from_bytes(&bytes).unwrap();
        assert_eq!(read, metadata());
        assert_eq!(tensors.keys().collect::<Vec<_>>(), ["layer.a", "layer.b", "layer.c"]);
        assert_eq!(tensors["layer.a"], Tensor::full([2, 3], 1, (Kind::Float, Device::Cpu)));
        assert_eq!(tensors["layer.b"].double_value(&[]), 2.0);
        assert_eq!(tensors["layer.c"].size(), [0, 2]);
    }

    #[test]
    fn the_same_weights_always_give_the_same_bytes() {
        let write = || to_bytes(&store(&[("a", &[2, 3]), ("b", &[4])]), &metadata()).unwrap();
        let first = write();
        assert!((0..20).all(|_| write() == first));
        assert_eq!(first.len() % 8, 0);
    }

    #[test]
    fn a_file_without_tensors_keeps_its_metadata() {
        let bytes = tensors_to_bytes(&Tensors::new(), &metadata()).unwrap();
        assert_eq!(from_bytes(&bytes).unwrap().1, metadata());
    }

    #[test]
    fn a_strict_load_names_every_difference_and_changes_nothing() {
        let target = store(&[("a", &[2]), ("b", &[2]), ("c", &[2])]);
        let (tensors, _) =
            from_bytes(&to_bytes(&store(&[("x", &[2]), ("b", &[3]), ("c", &[2])]), &Metadata::new()).unwrap()).unwrap();
        let error = load(&target, &tensors, Strictness::Strict).unwrap_err().to_string();
        assert_eq!(
            error,
            "weights do not fit the network: 1 missing: layer.a; 1 unexpected: layer.x; 1 of another shape: layer.b \
             (expected [2], got [3])"
        );
        assert_eq!(target.variables()["layer.c"].sum(Kind::Float).double_value(&[]), 6.0);
    }

    #[test]
    fn a_partial_load_takes_what_fits() {
        let target = store(&[("b", &[2]), ("c", &[2])]);
        let mut tensors = Tensors::new();
        tensors.insert("layer.c".to_owned(), Tensor::zeros([2], (Kind::Float, Device::Cpu)));
        tensors.insert("layer.bn.num_batches_tracked".to_owned(), Tensor::from(3i64));
        let report = load(&target, &tensors, Strictness::Partial).unwrap();
        assert_eq!((report.loaded, report.missing), (vec!["layer.c".to_owned()], vec!["layer.b".to_owned()]));
        assert!(report.unexpected.is_empty());
        assert_eq!(target.variables()["layer.c"].sum(Kind::Float).double_value(&[]), 0.0);
        assert!(target.variables()["layer.c"].requires_grad());
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let bytes = to_bytes(&store(&[("a", &[2, 3])]), &metadata()).unwrap();
        for cut in [0, 4, 8, 40, bytes.len() - 1] {
            assert!(matches!(from_bytes(&bytes[..cut]), Err(WeightsError::Format(_))), "{cut}");
        }
    }
}
