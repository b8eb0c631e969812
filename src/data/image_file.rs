//! Image files in, pixels out: JPEG and PNG of every colour type become 8-bit RGB, turned as their EXIF orientation
//! says, optionally made smaller; and the cache that lets all loaders decode each image once.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use fast_image_resize as fir;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};

use super::{DataError, ImageRecord, ImageSize};

/// Decoded pixels, `[height, width, 3]`, RGB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RgbPixels {
    /// Row by row, three bytes a pixel; `3 * width * height` of them.
    pub bytes: Vec<u8>,
    /// Size of this raster.
    pub size: ImageSize,
}

/// What is done to an image as it is loaded, before it is cached.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Resize {
    /// Nothing.
    #[default]
    Original,
    /// To this size, whatever the image's shape; boxes are stretched with it.
    Size(ImageSize),
    /// By this factor.
    Scale(f64),
}

impl Resize {
    /// The size that an image of size `from` gets; at least one pixel each way.
    pub fn of(self, from: ImageSize) -> ImageSize {
        match self {
            Self::Original => from,
            Self::Size(size) => size,
            Self::Scale(factor) => scaled(from, factor),
        }
    }

    fn check(self) -> Result<(), DataError> {
        let problem = match self {
            Self::Size(size) if size.width == 0 || size.height == 0 => format!("{size} has no pixels"),
            Self::Scale(factor) if !(factor > 0.0 && factor <= 64.0) => format!("{factor} is not within 0 to 64"),
            _ => return Ok(()),
        };
        Err(DataError::Setting { what: "resize at load", problem })
    }
}

/// `size` times `factor`, rounded, at least one pixel each way.
pub(crate) fn scaled(size: ImageSize, factor: f64) -> ImageSize {
    let side = |pixels: u32| ((f64::from(pixels) * factor).round()).max(1.0) as u32;
    ImageSize { width: side(size.width), height: side(size.height) }
}

/// Decodes a file: grey is spread to three channels, a palette looked up, 16 bits rounded to 8, alpha dropped (as
/// Pillow's `convert("RGB")` does), the EXIF orientation applied.
///
/// # Errors
/// [`DataError::Image`] with the file's name.
pub fn decode(path: &Path) -> Result<RgbPixels, DataError> {
    let wrong = |error: image::ImageError| unreadable(path, &error);
    let mut decoder = decoder_of(path)?;
    let orientation = decoder.orientation().map_err(wrong)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(wrong)?;
    image.apply_orientation(orientation);
    let rgb = image.into_rgb8();
    let size = ImageSize { width: rgb.width(), height: rgb.height() };
    Ok(RgbPixels { bytes: rgb.into_raw(), size })
}

/// The size an image has as displayed, read from its header only.
///
/// # Errors
/// [`DataError::Image`] with the file's name.
pub fn displayed_size(path: &Path) -> Result<ImageSize, DataError> {
    let mut decoder = decoder_of(path)?;
    let (width, height) = decoder.dimensions();
    let orientation = decoder.orientation().map_err(|error| unreadable(path, &error))?;
    let turned = matches!(
        orientation,
        Orientation::Rotate90 | Orientation::Rotate270 | Orientation::Rotate90FlipH | Orientation::Rotate270FlipH
    );
    Ok(if turned { ImageSize { width: height, height: width } } else { ImageSize { width, height } })
}

fn decoder_of(path: &Path) -> Result<impl ImageDecoder, DataError> {
    let file = File::open(path)
        .map_err(|error| DataError::Image { path: path.to_owned(), problem: format!("cannot be opened: {error}") })?;
    // By content, not by name: files named .jpg that are PNG are common.
    let reader = ImageReader::new(BufReader::new(file)).with_guessed_format();
    let reader = reader.map_err(|error| unreadable(path, &error.into()))?;
    reader.into_decoder().map_err(|error| unreadable(path, &error))
}

fn unreadable(path: &Path, error: &image::ImageError) -> DataError {
    let problem = format!("cannot be decoded: {error}; replace the file or remove it from the data set");
    DataError::Image { path: path.to_owned(), problem }
}

/// Scales pixels with an antialiasing triangle filter, which is Pillow's `BILINEAR`.
///
/// # Errors
/// [`DataError::Setting`] where a side is zero.
pub fn resize(pixels: &RgbPixels, to: ImageSize) -> Result<RgbPixels, DataError> {
    if pixels.size == to {
        return Ok(pixels.clone());
    }
    let wrong = |problem: String| DataError::Setting { what: "resize", problem };
    let from = pixels.size;
    // Typed, for the untyped call compiles the code of all thirteen pixel formats into this crate: minutes.
    let source = fir::images::TypedImageRef::<fir::pixels::U8x3>::from_buffer(from.width, from.height, &pixels.bytes)
        .map_err(|error| wrong(error.to_string()))?;
    let mut bytes = vec![0; 3 * to.width as usize * to.height as usize];
    let mut target = fir::images::TypedImage::<fir::pixels::U8x3>::from_buffer(to.width, to.height, &mut bytes)
        .map_err(|error| wrong(error.to_string()))?;
    let options = fir::ResizeOptions::new().resize_alg(fir::ResizeAlg::Convolution(fir::FilterType::Bilinear));
    let mut resizer = fir::Resizer::new();
    resizer.resize_typed(&source, &mut target, &options).map_err(|error| wrong(error.to_string()))?;
    Ok(RgbPixels { bytes, size: to })
}

/// Decoded images within a bound of bytes, shared by all loaders of all trainers.
///
/// A full cache keeps what it has: epochs visit every image once in a new order, so evicting the oldest would throw out
/// just what comes next, and hits would fall to nothing as soon as the data is larger than the bound.
#[derive(Debug)]
pub struct ImageCache {
    resize: Resize,
    max_bytes: usize,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    images: HashMap<PathBuf, Arc<RgbPixels>>,
    bytes: usize,
    hits: u64,
    misses: u64,
}

/// What a cache holds and how it served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLoad {
    /// Number of images held.
    pub images: usize,
    /// Bytes of their pixels.
    pub bytes: usize,
    /// Images given out without decoding.
    pub hits: u64,
    /// Images decoded.
    pub misses: u64,
}

impl ImageCache {
    /// An empty cache that holds at most `max_bytes` of pixels; 0 keeps nothing.
    ///
    /// # Errors
    /// [`DataError::Setting`] where `resize` has no pixels.
    pub fn new(resize: Resize, max_bytes: usize) -> Result<Self, DataError> {
        resize.check()?;
        Ok(Self { resize, max_bytes, kept: Mutex::default() })
    }

    /// What is done to each image as it is loaded.
    pub fn resize(&self) -> Resize {
        self.resize
    }

    /// How full the cache is.
    pub fn load(&self) -> CacheLoad {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        CacheLoad { images: kept.images.len(), bytes: kept.bytes, hits: kept.hits, misses: kept.misses }
    }

    /// The pixels of an image, from memory or from its file.
    ///
    /// # Errors
    /// [`DataError::Image`] where the file cannot be decoded, or has not the size that was annotated: its boxes would
    /// be in the wrong place.
    pub fn get(&self, record: &ImageRecord) -> Result<Arc<RgbPixels>, DataError> {
        self.get_checked(&record.path, |found| {
            if found == record.size {
                return Ok(());
            }
            let problem = format!(
                "is {found} as displayed (after its EXIF orientation), but annotated as {}; annotate the image as displayed",
                record.size
            );
            Err(DataError::Image { path: record.path.clone(), problem })
        })
    }

    /// The pixels of an image file without annotated size, from memory or from the file.
    ///
    /// # Errors
    /// [`DataError::Image`] where the file cannot be decoded.
    pub fn get_file(&self, path: &Path) -> Result<Arc<RgbPixels>, DataError> {
        self.get_checked(path, |_| Ok(()))
    }

    fn get_checked(
        &self,
        path: &Path,
        check: impl Fn(ImageSize) -> Result<(), DataError>,
    ) -> Result<Arc<RgbPixels>, DataError> {
        if let Some(pixels) = self.kept_already(path) {
            return Ok(pixels);
        }
        // Decoded outside the lock. Two threads that miss the same image at once both decode it, once.
        let decoded = decode(path)?;
        check(decoded.size)?;
        let target = self.resize.of(decoded.size);
        let pixels = if target == decoded.size { decoded } else { resize(&decoded, target)? };
        Ok(self.keep(path, Arc::new(pixels)))
    }

    fn kept_already(&self, path: &Path) -> Option<Arc<RgbPixels>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.images.get(path).cloned();
        match found {
            Some(_) => kept.hits += 1,
            None => kept.misses += 1,
        }
        found
    }

    fn keep(&self, path: &Path, pixels: Arc<RgbPixels>) -> Arc<RgbPixels> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(earlier) = kept.images.get(path) {
            return Arc::clone(earlier);
        }
        let size = pixels.bytes.len();
        if kept.bytes.saturating_add(size) <= self.max_bytes {
            kept.bytes += size;
            kept.images.insert(path.to_owned(), Arc::clone(&pixels));
        }
        pixels
    }
}
