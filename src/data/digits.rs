//! Writes the demo's data set: scenes of real handwritten digits, in COCO format, with boxes, masks and semantic masks;
//! and the single digits as a folder of images a class, for a classifier. In: the digits of scikit-learn's wheel and a
//! seed. Out: the same bytes each time. Digits of the validation and test scenes occur in no training scene.

mod scene;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::scene::{Canvas, Scene};
use self::source::Digit;
pub use self::source::DigitSource;
use super::DataError;

/// What to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DigitScenes {
    /// Training scenes.
    pub train: u32,
    /// Validation scenes.
    pub val: u32,
    /// Test scenes.
    pub test: u32,
    /// Side of a scene in pixels.
    pub size: u32,
    /// Another seed, other scenes.
    pub seed: u64,
}

impl Default for DigitScenes {
    fn default() -> Self {
        Self { train: 400, val: 100, test: 100, size: 128, seed: 0 }
    }
}

/// What [`write()`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The data set was written.
    New,
    /// It was there already, with the same parameters.
    Already,
}

/// The last file to be written: what the folder holds, and that it is complete.
const STAMP: &str = "digits.json";
/// Counts changes of the drawing, so that an older folder is not taken for the present data set.
const DRAWING: u32 = 2;
/// Side of the classifier's pictures: a backbone halves them five times.
const SINGLE: usize = 64;

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    drawing: u32,
    scenes: DigitScenes,
}

/// Writes the data set into `folder`:
///
/// ```text
/// annotations/instances_{train,val,test}.json   boxes, and masks as run lengths
/// train/ val/ test/                             grey PNG scenes
/// semantic/{train,val,test}/                    class of each pixel: 0 background, 1 + digit
/// classify/{train,val}/<digit>/                 the single digits
/// digits.json                                   parameters; written last
/// ```
///
/// # Errors
/// An unreadable source, a folder that holds a data set with other parameters, anything that cannot be written.
pub fn write(source: &DigitSource, folder: &Path, scenes: DigitScenes) -> Result<Written, DataError> {
    if !(32..=4096).contains(&scenes.size) {
        let problem = format!("{} is not within 32 to 4096", scenes.size);
        return Err(DataError::Setting { what: "size of the scenes", problem });
    }
    let stamp = Stamp { drawing: DRAWING, scenes };
    if already_there(folder, &stamp)? {
        return Ok(Written::Already);
    }
    let digits = source::read(source)?;
    let shares = Shares::of(&digits, scenes.seed);
    for (number, (split, count, digits)) in (1..).zip([
        ("train", scenes.train, &shares.train),
        ("val", scenes.val, &shares.val),
        ("test", scenes.test, &shares.test),
    ]) {
        write_scenes(folder, split, count, scenes, number, digits)?;
    }
    write_singles(folder, "train", scenes.seed, 4, &shares.train)?;
    write_singles(folder, "val", scenes.seed, 5, &shares.val)?;
    write_json(&folder.join(STAMP), &stamp)?;
    Ok(Written::New)
}

fn already_there(folder: &Path, stamp: &Stamp) -> Result<bool, DataError> {
    let path = folder.join(STAMP);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(DataError::Read { path, source }),
    };
    if serde_json::from_slice::<Stamp>(&text).ok().as_ref() == Some(stamp) {
        return Ok(true);
    }
    Err(DataError::Record {
        path,
        record: "the data set here".to_owned(),
        problem: "was made with other parameters".to_owned(),
        remedy: "remove the folder or write to another",
    })
}

/// Which digits may occur in which scenes: 70, 15 and 15 per cent, at random.
struct Shares<'a> {
    train: Vec<&'a Digit>,
    val: Vec<&'a Digit>,
    test: Vec<&'a Digit>,
}

impl<'a> Shares<'a> {
    fn of(digits: &'a [Digit], seed: u64) -> Self {
        let mut order: Vec<&Digit> = digits.iter().collect();
        order.shuffle(&mut stream(seed, 0, 0));
        let test = order.split_off(order.len() * 85 / 100);
        let val = order.split_off(digits.len() * 70 / 100);
        Self { train: order, val, test }
    }
}

/// The random stream of one picture. Part 0 is the split of the digits.
fn stream(seed: u64, part: u64, picture: u32) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((part << 32) | u64::from(picture));
    rng
}

fn write_scenes(
    folder: &Path,
    split: &str,
    count: u32,
    scenes: DigitScenes,
    part: u64,
    digits: &[&Digit],
) -> Result<(), DataError> {
    let pictures = new_folder(&folder.join(split))?;
    let semantic = new_folder(&folder.join("semantic").join(split))?;
    let side = scenes.size as usize;
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    for picture in 1..=count {
        let scene = scene::draw(digits, side, &mut stream(scenes.seed, part, picture));
        let name = format!("{split}_{picture:05}.png");
        write_png(&pictures.join(&name), &grey_bytes(&scene.canvas), side)?;
        write_png(&semantic.join(&name), &semantic_bytes(&scene), side)?;
        images.push(json!({ "id": picture, "file_name": name, "width": side, "height": side }));
        annotate(&scene, picture, &mut annotations)?;
    }
    let categories: Vec<_> = (0..10).map(|digit| json!({ "id": digit + 1, "name": digit.to_string() })).collect();
    let path = new_folder(&folder.join("annotations"))?.join(format!("instances_{split}.json"));
    write_json(&path, &json!({ "images": images, "annotations": annotations, "categories": categories }))
}

fn annotate(scene: &Scene, picture: u32, annotations: &mut Vec<serde_json::Value>) -> Result<(), DataError> {
    for object in &scene.objects {
        let area = object.mask.iter().filter(|inside| **inside).count();
        annotations.push(json!({
            "id": annotations.len() + 1,
            "image_id": picture,
            "category_id": object.value + 1,
            "bbox": object.bbox,
            "area": area,
            "iscrowd": 0,
            "segmentation": run_lengths(&object.mask, scene.canvas.side)?,
        }));
    }
    Ok(())
}

/// A mask in COCO's compressed run lengths, which go down the columns.
fn run_lengths(mask: &[bool], side: usize) -> Result<serde_json::Value, DataError> {
    let down: Vec<u8> =
        (0..side * side).map(|at| mask.get(at % side * side + at / side).is_some_and(|&m| m).into()).collect();
    let sides = u32::try_from(side).unwrap_or(u32::MAX);
    let runs = hotcoco::mask::encode(&down, sides, sides)
        .map_err(|error| DataError::Setting { what: "mask", problem: error.to_string() })?;
    Ok(json!({ "size": [side, side], "counts": hotcoco::mask::rle_to_string(&runs) }))
}

fn write_singles(folder: &Path, split: &str, seed: u64, part: u64, digits: &[&Digit]) -> Result<(), DataError> {
    let folder = folder.join("classify").join(split);
    for (number, digit) in (1..).zip(digits) {
        let canvas = scene::draw_single(digit, SINGLE, &mut stream(seed, part, number));
        let of_class = new_folder(&folder.join(digit.value.to_string()))?;
        write_png(&of_class.join(format!("{number:05}.png")), &grey_bytes(&canvas), SINGLE)?;
    }
    Ok(())
}

fn grey_bytes(canvas: &Canvas) -> Vec<u8> {
    canvas.grey.iter().map(|grey| (grey.clamp(0.0, 1.0) * 255.0).round() as u8).collect()
}

fn semantic_bytes(scene: &Scene) -> Vec<u8> {
    let mut classes = vec![0; scene.canvas.grey.len()];
    for object in &scene.objects {
        for (class, _) in classes.iter_mut().zip(&object.mask).filter(|(_, inside)| **inside) {
            *class = object.value + 1;
        }
    }
    classes
}

fn new_folder(path: &Path) -> Result<PathBuf, DataError> {
    fs::create_dir_all(path).map_err(|source| DataError::Write { path: path.to_owned(), source })?;
    Ok(path.to_owned())
}

fn write_png(path: &Path, grey: &[u8], side: usize) -> Result<(), DataError> {
    let sides = u32::try_from(side).unwrap_or(u32::MAX);
    let mut bytes = Vec::new();
    PngEncoder::new(&mut bytes)
        .write_image(grey, sides, sides, ExtendedColorType::L8)
        .map_err(|error| DataError::Image { path: path.to_owned(), problem: error.to_string() })?;
    fs::write(path, bytes).map_err(|source| DataError::Write { path: path.to_owned(), source })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), DataError> {
    let wrong = |source| DataError::Write { path: path.to_owned(), source };
    let text = serde_json::to_vec(value).map_err(|error| wrong(error.into()))?;
    fs::write(path, text).map_err(wrong)
}
