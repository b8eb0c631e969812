//! Running trained networks on images. In: a task, an architecture, a file of weights, image files. Out: boxes or label maps
//! as plain values, image by image, in the pixels of the files.

use std::path::Path;

use spnas_actors::device::{Device, Place};
use tch::nn::VarStore;
use tch::{Kind, Tensor};

use super::detection::{Detection, Found};
use super::segmentation::{self, Segmentation};
use super::task::{Task, unfilled};
use super::{WorkError, classification, torch_device, use_threads};
use crate::arch::Architecture;
use crate::data::image_file::decode;
use crate::data::masks::LabelMap;
use crate::data::transform::{Augmentation, sample};
use crate::data::{DataError, ImageRecord, ImageSize};
use crate::nn::NnError;
use crate::nn::detector::FasterRcnn;
use crate::nn::segmentation::SemanticFpn;
use crate::weights::safetensors::Strictness;
use crate::weights::torchvision::{self, ConvertError};
use crate::weights::{Tensors, file, safetensors};

/// The tensors of the network of an architecture, out of a file of whatever format and spelling, every one of them.
///
/// # Errors
/// A file that cannot be read, or that is another network's.
pub fn tensors<T: Task>(task: &T, arch: &Architecture, weights: &Path) -> Result<Tensors, WorkError> {
    let (store, _network) = unfilled(task, arch, tch::Device::Cpu)?;
    read_for(&store, weights)
}

fn read_for(store: &VarStore, weights: &Path) -> Result<Tensors, WorkError> {
    let mut raw = file::read(weights)?;
    raw.retain(|name, _| !classification::HEAD.contains(&name.as_str()));
    let converted = torchvision::convert(&raw, &torchvision::shapes_of(store))?;
    if converted.absent.is_empty() {
        Ok(converted.tensors)
    } else {
        // A classifier's file has no heads.
        Err(ConvertError { missing: converted.absent, ..ConvertError::default() }.into())
    }
}

/// A network ready to run, on a device.
pub struct Loaded<T: Task> {
    network: T::Network,
    /// The parameters' owner.
    _store: VarStore,
}

/// A [`Detection`] network ready to run.
pub type Detector = Loaded<Detection>;
/// A [`Segmentation`] network ready to run.
pub type Segmenter = Loaded<Segmentation>;

impl<T: Task> Loaded<T> {
    /// Builds the network on a device, with the weights of a file.
    ///
    /// # Errors
    /// A file that cannot be read or is another network's, an architecture that cannot be built, or libtorch's.
    pub fn new(task: &T, arch: &Architecture, weights: &Path, device: &Device) -> Result<Self, WorkError> {
        use_threads(device);
        let (store, network) = unfilled(task, arch, torch_device(&device.place))?;
        let tensors = read_for(&store, weights)?;
        safetensors::load(&store, &tensors, Strictness::Strict)?;
        Ok(Self { network, _store: store })
    }
}

impl Detector {
    /// What is found in an image file, best first.
    ///
    /// # Errors
    /// An image that cannot be read, or libtorch's.
    pub fn detect(&self, image: &Path) -> Result<Found, WorkError> {
        let (tensor, _) = load_image(image, FasterRcnn::device(&self.network))?;
        match self.network.detect(&[tensor])?.first() {
            Some(detections) => Ok(Found::of(detections)?),
            None => Ok(Found::default()),
        }
    }
}

impl Segmenter {
    /// The class of each pixel of an image file.
    ///
    /// # Errors
    /// An image that cannot be read, or libtorch's.
    pub fn segment(&self, image: &Path) -> Result<LabelMap, WorkError> {
        let (tensor, size) = load_image(image, SemanticFpn::device(&self.network))?;
        let maps = self.network.segment(&[tensor])?;
        let classes = match maps.first() {
            Some(map) => segmentation::host(map)?,
            None => Vec::new(),
        };
        Ok(LabelMap {
            labels: classes.into_iter().map(|class| u16::try_from(class).unwrap_or(u16::MAX)).collect(),
            size,
        })
    }
}

/// The image `[3, H, W]`, float in 0..1, on the device, and its size.
fn load_image(path: &Path, device: tch::Device) -> Result<(Tensor, ImageSize), WorkError> {
    let pixels = decode(path)?;
    let size = pixels.size;
    let record = ImageRecord { id: 0, path: path.to_owned(), size, objects: Vec::new() };
    let sample = sample(&record, &pixels, Augmentation { flip: false, scale: 1.0 })?;
    let shape = [3, i64::from(size.height), i64::from(size.width)];
    if shape.contains(&0) {
        return Err(DataError::Image { path: path.to_owned(), problem: "has no pixels".to_owned() }.into());
    }
    let tensor = Tensor::f_from_slice(&sample.pixels).and_then(|flat| flat.f_view(shape)).map_err(NnError::from)?;
    let there = tensor.f_to_kind(Kind::Float).and_then(|tensor| tensor.f_to_device(device)).map_err(NnError::from)?;
    Ok((there, size))
}

/// The device of a place, with all of the processor.
///
/// # Errors
/// The number of CUDA devices that are there, where the place is another one.
pub fn whole_device(place: Place) -> Result<Device, u32> {
    let found = super::cuda_devices();
    match place {
        Place::Cuda { ordinal } if ordinal >= found => Err(found),
        place => Ok(Device::new(place, std::thread::available_parallelism().map_or(1, usize::from))),
    }
}
