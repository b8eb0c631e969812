//! Segmentation data as two folders: images, and a mask for each under the same file name but for the ending. In: where
//! they are. Out: a [`SegmentationDataset`], every pair checked to exist and to have one size.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::super::image_file::displayed_size;
use super::super::{DataError, ImageRecord, ImageSize};
use super::label_map::png_size;
use super::{LabelSource, SegmentationDataset, SegmentationImage};

/// The file in a data set's root that names its classes: one a line, class 0 first.
pub const CLASSES_FILE: &str = "classes.txt";

/// Where images and masks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskFolders {
    /// Folder of the images, JPEG or PNG.
    pub images: PathBuf,
    /// Folder of the masks, PNG.
    pub masks: PathBuf,
    /// A text file with the stems to use, one a line; without it all files are used.
    pub list: Option<PathBuf>,
}

impl MaskFolders {
    /// The plain layout: `<root>/<split>/images/NAME.{jpg,jpeg,png}` and `<root>/<split>/masks/NAME.png`.
    pub fn in_layout(root: &Path, split: &str) -> Self {
        let split = root.join(split);
        Self { images: split.join("images"), masks: split.join("masks"), list: None }
    }

    /// Pascal VOC's layout: `<root>/JPEGImages/NAME.jpg`, `<root>/SegmentationClass/NAME.png` and the names in
    /// `<root>/ImageSets/Segmentation/<split>.txt`.
    pub fn in_voc_layout(root: &Path, split: &str) -> Self {
        Self {
            images: root.join("JPEGImages"),
            masks: root.join("SegmentationClass"),
            list: Some(root.join("ImageSets").join("Segmentation").join(format!("{split}.txt"))),
        }
    }

    /// Whichever of the two layouts `root` has.
    ///
    /// # Errors
    /// [`DataError::Read`] where it has neither.
    pub fn find(root: &Path, split: &str) -> Result<Self, DataError> {
        let (plain, voc) = (Self::in_layout(root, split), Self::in_voc_layout(root, split));
        if plain.images.is_dir() {
            return Ok(plain);
        }
        if voc.masks.is_dir() {
            return Ok(voc);
        }
        let problem =
            format!("neither {split}/images and {split}/masks nor JPEGImages and SegmentationClass are in it");
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, problem);
        Err(DataError::Read { path: root.to_owned(), source })
    }
}

/// What the classes are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClassNames {
    /// These, class 0 first.
    Given(Vec<String>),
    /// So many, without names: `class 0` and so on.
    Counted(usize),
    /// One a line in this file, class 0 first.
    InFile(PathBuf),
}

impl ClassNames {
    /// The names.
    ///
    /// # Errors
    /// An unreadable file, an empty line, fewer than two classes, or more than labels can tell apart.
    pub fn read(&self) -> Result<Vec<String>, DataError> {
        let names = match self {
            Self::Given(names) => names.clone(),
            Self::Counted(count) => (0..*count).map(|class| format!("class {class}")).collect(),
            Self::InFile(path) => read_lines(path)?,
        };
        if names.len() < 2 || names.len() > usize::from(u16::MAX) {
            let problem = format!("{} classes; segmentation takes 2 to {}", names.len(), u16::MAX);
            return Err(DataError::Setting { what: "classes", problem });
        }
        Ok(names)
    }
}

/// Reads the data set, in the order of the file names. An image's id is its place.
///
/// # Errors
/// A folder that cannot be read, an image without mask or a mask without image, two images of one stem, a mask of
/// another size than its image, a stem in the list that is not there.
pub fn read(folders: &MaskFolders, classes: &ClassNames, ignore: u16) -> Result<SegmentationDataset, DataError> {
    let images = by_stem(&folders.images, &["jpg", "jpeg", "png"])?;
    let masks = by_stem(&folders.masks, &["png"])?;
    let stems: BTreeSet<String> = match &folders.list {
        Some(list) => listed(list, &images)?,
        None => {
            if let Some(path) = masks.iter().find_map(|(stem, path)| (!images.contains_key(stem)).then_some(path)) {
                let problem = format!("there is no image of that name in {}", folders.images.display());
                return Err(unpaired(path, problem));
            }
            images.keys().cloned().collect()
        }
    };
    if stems.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no image (.jpg, .jpeg, .png) in it");
        return Err(DataError::Read { path: folders.images.clone(), source });
    }
    let mut pairs = Vec::with_capacity(stems.len());
    for (id, stem) in (0..).zip(&stems) {
        let Some(image) = images.get(stem) else { continue };
        let Some(mask) = masks.get(stem) else {
            let problem = format!("there is no mask {stem}.png in {}", folders.masks.display());
            return Err(unpaired(image, problem));
        };
        pairs.push(pair(id, image, mask)?);
    }
    let source = folders.masks.clone();
    Ok(SegmentationDataset { source, images: pairs, classes: classes.read()?, ignore })
}

fn pair(id: i64, image: &Path, mask: &Path) -> Result<SegmentationImage, DataError> {
    let size = displayed_size(image)?;
    let record = ImageRecord { id, path: image.to_owned(), size, objects: Vec::new() };
    let found = png_size(mask)?;
    if found != size {
        return Err(other_size(mask, found, &record));
    }
    Ok(SegmentationImage { image: record, labels: LabelSource::File(mask.to_owned()) })
}

/// A mask that has another size than its image.
pub(super) fn other_size(mask: &Path, found: ImageSize, image: &ImageRecord) -> DataError {
    let problem = format!(
        "is {found}, but its image {} is {} as displayed (after its EXIF orientation); make the mask as large",
        image.path.display(),
        image.size
    );
    DataError::Image { path: mask.to_owned(), problem }
}

fn unpaired(path: &Path, problem: String) -> DataError {
    DataError::Image { path: path.to_owned(), problem: format!("{problem}; add it or remove this file") }
}

/// The files of a folder with one of these endings, by their name without it.
fn by_stem(folder: &Path, endings: &[&str]) -> Result<BTreeMap<String, PathBuf>, DataError> {
    let wrong = |source| DataError::Read { path: folder.to_owned(), source };
    let mut found: BTreeMap<String, PathBuf> = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        // A leading dot: what file managers and archivers leave behind.
        if !endings.contains(&ending.as_str()) || stem.starts_with('.') || !path.is_file() {
            continue;
        }
        if let Some(other) = found.insert(stem, path.clone()) {
            let problem = format!("{} has the same name but for the ending; remove one", other.display());
            return Err(DataError::Image { path, problem });
        }
    }
    Ok(found)
}

/// The stems in a list, each of which must be an image.
fn listed(list: &Path, images: &BTreeMap<String, PathBuf>) -> Result<BTreeSet<String>, DataError> {
    let mut stems = BTreeSet::new();
    for (line, stem) in (1..).zip(read_lines(list)?) {
        if !images.contains_key(&stem) {
            let problem = format!("there is no image {stem}; add it or remove the line");
            return Err(DataError::Text { path: list.to_owned(), line, problem });
        }
        stems.insert(stem);
    }
    Ok(stems)
}

/// The lines of a text file, trimmed; empty ones only at its end.
fn read_lines(path: &Path) -> Result<Vec<String>, DataError> {
    let text = std::fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let mut lines = Vec::new();
    for (line, content) in (1..).zip(text.trim_end().lines()) {
        if content.trim().is_empty() {
            let problem = "an empty line; remove it".to_owned();
            return Err(DataError::Text { path: path.to_owned(), line, problem });
        }
        lines.push(content.trim().to_owned());
    }
    Ok(lines)
}
