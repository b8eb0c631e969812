//! Running trained networks on images. In: a task, an architecture, a file of weights, image files. Out: boxes or label maps
//! as plain values, in the pixels of the files.
//!
//! Images that are padded to one size go through the network together, up to a batch, while a thread decodes those that come
//! next; none is padded for another's sake, so that each result is what the image would have by itself.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand_chacha::ChaCha8Rng;
use spnas_actors::device::{Device, Place};
use tch::Tensor;
use tch::nn::VarStore;

use super::detection::{Detection, Found};
use super::segmentation::{self, Segmentation};
use super::task::{Task, unfilled};
use super::{WorkError, classification, torch_device, use_threads};
use crate::arch::Architecture;
use crate::data::image_file::{decode, displayed_size};
use crate::data::loader::{Epoch, Loader, LoaderConfig, Source};
use crate::data::masks::LabelMap;
use crate::data::transform::{Augmentation, Sample, sample};
use crate::data::{DataError, ImageRecord, ImageSize};
use crate::nn::NnError;
use crate::train::fit::Learner as _;
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

/// Most threads that decode images for one network.
const MOST_DECODERS: usize = 8;

/// Images that go through a network at once where nobody says how many.
pub const BATCH: usize = 4;

/// A network ready to run, on a device.
pub struct Loaded<T: Task> {
    network: T::Network,
    /// Threads that decode images.
    decoders: usize,
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
        // Where the processor itself runs the network, one thread keeps ahead of it.
        let decoders = if store.device().is_cuda() { (device.threads / 2).clamp(1, MOST_DECODERS) } else { 1 };
        Ok(Self { network, decoders, _store: store })
    }
}

/// A task whose networks find something in images.
pub trait Infer: Task {
    /// What is found in one image, on the host.
    type Found;

    /// Height and width to which an image of this height and width is padded by itself.
    fn padded(network: &Self::Network, size: (i64, i64)) -> (i64, i64);

    /// What is found in each of the images `[3, H, W]`, float in 0..1, on the network's device.
    ///
    /// # Errors
    /// libtorch's.
    fn infer(network: &Self::Network, images: &[Tensor]) -> Result<Vec<Self::Found>, NnError>;
}

/// Objects, best first.
impl Infer for Detection {
    type Found = Found;

    fn padded(network: &Self::Network, size: (i64, i64)) -> (i64, i64) {
        network.padded(size)
    }

    fn infer(network: &Self::Network, images: &[Tensor]) -> Result<Vec<Found>, NnError> {
        network.detect(images)?.iter().map(Found::of).collect()
    }
}

/// The class of each pixel.
impl Infer for Segmentation {
    type Found = LabelMap;

    fn padded(network: &Self::Network, size: (i64, i64)) -> (i64, i64) {
        network.padded(size)
    }

    fn infer(network: &Self::Network, images: &[Tensor]) -> Result<Vec<LabelMap>, NnError> {
        let map = |map: &Tensor| {
            let (height, width) = map.size2()?;
            let side = |length: i64| u32::try_from(length).unwrap_or(u32::MAX);
            let size = ImageSize { width: side(width), height: side(height) };
            Ok(segmentation::label_map(&segmentation::host(map)?, size))
        };
        network.segment(images)?.iter().map(map).collect()
    }
}

/// A failure at an image.
#[derive(Debug, thiserror::Error)]
#[error("{}: {why}", path.display())]
pub struct AtImage {
    /// The image's file, or that of the first image of its batch.
    pub path: PathBuf,
    /// What failed.
    pub why: Box<WorkError>,
}

impl<T: Infer> Loaded<T> {
    /// What is found in image files, each with its place in `images`, up to `batch` images at a time. Those of one padded
    /// size come one after another, otherwise they come in their order.
    ///
    /// # Errors
    /// An image whose size cannot be read. Each result is an error where the image cannot be decoded, and libtorch's.
    pub fn found(&self, images: &[PathBuf], batch: usize) -> Result<Findings<'_, T>, AtImage> {
        let mut alike: BTreeMap<(i64, i64), Vec<usize>> = BTreeMap::new();
        let mut order = Vec::new();
        for (at, path) in images.iter().enumerate() {
            let size = displayed_size(path).map_err(|why| AtImage { path: path.clone(), why: Box::new(why.into()) })?;
            let padded = T::padded(&self.network, (size.height.into(), size.width.into()));
            let places = alike.entry(padded).or_default();
            if places.is_empty() {
                order.push(padded);
            }
            places.push(at);
        }
        let batches =
            order.iter().filter_map(|padded| alike.get(padded)).flat_map(|places| places.chunks(batch.max(1)));
        let batches: VecDeque<Vec<usize>> = batches.map(<[usize]>::to_vec).collect();
        let files = Files(batches.iter().flatten().filter_map(|at| images.get(*at)).cloned().collect());
        // One image a batch of the loader, which knows batches of one length only; two of ours are decoded ahead.
        let config = LoaderConfig { prefetch: 2 * batch.max(1), ..LoaderConfig::evaluation(1) };
        let config = LoaderConfig { threads: self.decoders, ..config };
        let loader = Loader::new(Arc::new(files), config)
            .map_err(|why| AtImage { path: images.first().cloned().unwrap_or_default(), why: Box::new(why.into()) })?;
        Ok(Findings {
            network: &self.network,
            batches,
            files: loader.source().clone(),
            decoded: loader.epoch(0),
            next: 0,
            ready: VecDeque::new(),
        })
    }
}

/// What is found in images, as it is found. It ends at the first failure. See [`Loaded::found`].
pub struct Findings<'a, T: Infer> {
    network: &'a T::Network,
    /// Places of the images of each batch to come.
    batches: VecDeque<Vec<usize>>,
    /// The images in the order in which they are decoded.
    files: Arc<Files>,
    decoded: Epoch<Files>,
    /// How many have been taken of `decoded`.
    next: usize,
    ready: VecDeque<(usize, T::Found)>,
}

impl<T: Infer> Iterator for Findings<'_, T> {
    type Item = Result<(usize, T::Found), AtImage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let places = self.batches.pop_front()?;
            let first = self.next;
            self.next += places.len();
            let device = self.network.device();
            let images = self.decoded.by_ref().take(places.len());
            let images = images.map(|image| Ok(image?.f_to_device(device)?)).collect::<Result<Vec<_>, WorkError>>();
            match images.and_then(|images| Ok(T::infer(self.network, &images)?)) {
                Ok(found) => self.ready.extend(places.into_iter().zip(found)),
                Err(why) => {
                    // What is decoded and what is due are out of step now.
                    self.batches.clear();
                    return Some(Err(AtImage { path: self.files.path(first), why: Box::new(why) }));
                }
            }
        }
        self.ready.pop_front().map(Ok)
    }
}

/// Image files to be decoded, in their order.
#[derive(Debug)]
struct Files(Vec<PathBuf>);

impl Source for Files {
    type Sample = Sample;
    /// `[3, H, W]`, float in 0..1, on the CPU.
    type Batch = Tensor;

    fn len(&self) -> usize {
        self.0.len()
    }

    fn path(&self, index: usize) -> PathBuf {
        self.0.get(index).cloned().unwrap_or_default()
    }

    fn load(&self, index: usize, _: &mut ChaCha8Rng) -> Result<Sample, DataError> {
        let path = self.path(index);
        let pixels = decode(&path)?;
        let (size, objects) = (pixels.size, Vec::new());
        if size.width == 0 || size.height == 0 {
            return Err(DataError::Image { path, problem: "has no pixels".to_owned() });
        }
        sample(&ImageRecord { id: 0, path, size, objects }, &pixels, Augmentation { flip: false, scale: 1.0 })
    }

    fn batch(&self, _: &[usize], samples: Vec<Sample>) -> Result<Tensor, DataError> {
        let wrong = |error: tch::TchError| DataError::Thread(format!("no tensor: {error}"));
        let Some(Sample { pixels, size, .. }) = samples.first() else {
            return Err(DataError::Thread("an empty batch".to_owned()));
        };
        let shape = [3, i64::from(size.height), i64::from(size.width)];
        Tensor::f_from_slice(pixels).and_then(|flat| flat.f_view(shape)).map_err(wrong)
    }
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

#[cfg(test)]
mod tests;
