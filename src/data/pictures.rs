//! Images without annotations that a trained network is run on: a folder, or the list in a COCO file. Out: where each lies and
//! which id its results carry, and how a network's labels become the data set's categories.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::coco::{self, CocoPaths};
use super::{Category, DataError};

/// Endings of files that are taken for images; what is in them, their content says.
const ENDINGS: [&str; 3] = ["jpg", "jpeg", "png"];

/// An image to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// The annotation file's id, or the index in the sorted names.
    pub id: i64,
    /// Its path below the folder of images.
    pub name: PathBuf,
    /// Where it lies.
    pub path: PathBuf,
}

/// The images to run on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pictures {
    /// Their folder.
    pub folder: PathBuf,
    /// In the order of their names, or of the annotation file.
    pub images: Vec<Picture>,
    /// The annotation file's categories in the order of their ids; `None` without such a file.
    pub categories: Option<Vec<Category>>,
}

/// Which category a label stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Numbering {
    /// No data set says: the label itself.
    Labels,
    /// Label `i + 1` is the `i`-th category: networks trained here.
    Order(Vec<i64>),
    /// The label is the category's own id: torchvision's networks trained on COCO.
    Ids(BTreeSet<i64>),
}

impl Numbering {
    /// The category's id; `None` where the data set has none for this label.
    pub fn category(&self, label: i64) -> Option<i64> {
        match self {
            Numbering::Labels => Some(label),
            Numbering::Order(ids) => ids.get(usize::try_from(label).ok()?.checked_sub(1)?).copied(),
            Numbering::Ids(ids) => ids.get(&label).copied(),
        }
    }
}

/// Lists the images in a folder (JPEG and PNG, not in the folders below it) in the order of their names, or those of a COCO
/// file. That file may be `annotations` beside the folder, or `images` itself: its images are then looked for as in COCO's own
/// layout, `…/val2017/` for `…/annotations/instances_val2017.json`, or else beside it.
///
/// # Errors
/// A folder or file that cannot be read, or without an image.
pub fn list(images: &Path, annotations: Option<&Path>) -> Result<Pictures, DataError> {
    let listed = match annotations {
        Some(file) => of_file(file, images.to_owned())?,
        None if images.is_dir() => of_folder(images)?,
        None if images.exists() => of_file(images, folder_of(images))?,
        None => {
            let source = std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder of images or COCO file");
            return Err(DataError::Read { path: images.to_owned(), source });
        }
    };
    if listed.images.is_empty() {
        let source = std::io::Error::new(std::io::ErrorKind::NotFound, "there is no JPEG or PNG image in it");
        return Err(DataError::Read { path: images.to_owned(), source });
    }
    Ok(listed)
}

fn of_folder(folder: &Path) -> Result<Pictures, DataError> {
    let unreadable = |source| DataError::Read { path: folder.to_owned(), source };
    let mut names: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir().map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
        let Some(name) = path.file_name() else { continue };
        // A leading dot: what file managers and archivers leave behind.
        let hidden = name.to_string_lossy().starts_with('.');
        if ENDINGS.contains(&ending.as_str()) && !hidden && path.is_file() {
            names.push(name.into());
        }
    }
    names.sort();
    let picture = |(id, name): (i64, PathBuf)| Picture { id, path: folder.join(&name), name };
    let images = (0..).zip(names).map(picture).collect();
    Ok(Pictures { folder: folder.to_owned(), images, categories: None })
}

fn of_file(annotations: &Path, folder: PathBuf) -> Result<Pictures, DataError> {
    let dataset = coco::read(&CocoPaths { annotations: annotations.to_owned(), images: folder.clone() })?;
    let picture = |image: super::ImageRecord| {
        let name = image.path.strip_prefix(&folder).unwrap_or(&image.path).to_owned();
        Picture { id: image.id, name, path: image.path }
    };
    let images = dataset.images.into_iter().map(picture).collect();
    Ok(Pictures { folder: folder.clone(), images, categories: Some(dataset.categories) })
}

/// `…/val2017` for `…/annotations/instances_val2017.json`; else the file's own folder.
fn folder_of(annotations: &Path) -> PathBuf {
    let beside = annotations.parent().unwrap_or(Path::new("")).to_owned();
    let stem = annotations.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let above = beside.parent().unwrap_or(Path::new(""));
    let in_layout = stem.split_once('_').map(|(_, split)| above.join(split)).filter(|folder| folder.is_dir());
    let own = if beside.as_os_str().is_empty() { PathBuf::from(".") } else { beside.clone() };
    in_layout.unwrap_or(own)
}

impl Pictures {
    /// Where the images lie, in their order.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.images.iter().map(|picture| picture.path.clone()).collect()
    }

    /// How the labels of a network with so many classes, the background included, become categories.
    ///
    /// # Errors
    /// Where the network's classes are not the data set's.
    pub fn numbering(&self, classes: i64) -> Result<Numbering, DataError> {
        let Some(categories) = &self.categories else { return Ok(Numbering::Labels) };
        let ids: Vec<i64> = categories.iter().map(|category| category.id).collect();
        if i64::try_from(ids.len()) == Ok(classes - 1) {
            return Ok(Numbering::Order(ids));
        }
        if !ids.is_empty() && ids.iter().all(|id| (1..classes).contains(id)) {
            return Ok(Numbering::Ids(ids.into_iter().collect()));
        }
        let problem = format!(
            "the network has {classes}, the background included, but the annotation file has {} categories: give the file \
             that the network was trained for, or a folder of images alone",
            ids.len()
        );
        Err(DataError::Setting { what: "classes", problem })
    }
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use serde_json::json;

    use super::*;

    fn write(folder: &Path, names: &[&str]) {
        std::fs::create_dir_all(folder).unwrap();
        for name in names {
            RgbImage::new(2, 3).save_with_format(folder.join(name), image::ImageFormat::Png).unwrap();
        }
    }

    #[test]
    fn a_folder_is_listed_by_name_and_other_files_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &["b.png", "a.JPG", "10.jpeg", "9.png", ".hidden.png"]);
        std::fs::write(folder.path().join("notes.txt"), "no image").unwrap();
        std::fs::create_dir(folder.path().join("folder.png")).unwrap();
        let listed = list(folder.path(), None).unwrap();
        let named: Vec<(i64, &str)> =
            listed.images.iter().map(|image| (image.id, image.name.to_str().unwrap())).collect();
        assert_eq!(named, [(0, "10.jpeg"), (1, "9.png"), (2, "a.JPG"), (3, "b.png")]);
        assert_eq!(listed.numbering(7).unwrap(), Numbering::Labels);
    }

    #[test]
    fn an_annotation_file_gives_ids_and_categories_and_finds_its_images_in_cocos_layout() {
        let root = tempfile::tempdir().unwrap();
        write(&root.path().join("val2017"), &["x.png", "y.png"]);
        let file = root.path().join("annotations/instances_val2017.json");
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        let json = json!({
            "images": [{"id": 70, "file_name": "y.png", "width": 2, "height": 3}, {"id": 3, "file_name": "x.png"}],
            "categories": [{"id": 90, "name": "late"}, {"id": 4, "name": "early"}],
        });
        std::fs::write(&file, json.to_string()).unwrap();
        let listed = list(&file, None).unwrap();
        assert_eq!(listed, list(&root.path().join("val2017"), Some(&file)).unwrap());
        let named: Vec<(i64, &str)> =
            listed.images.iter().map(|image| (image.id, image.name.to_str().unwrap())).collect();
        assert_eq!(named, [(70, "y.png"), (3, "x.png")]);

        let trained_here = listed.numbering(3).unwrap();
        assert_eq!([1, 2, 3, 0].map(|label| trained_here.category(label)), [Some(4), Some(90), None, None]);
        let torchvisions = listed.numbering(91).unwrap();
        assert_eq!([4, 90, 5].map(|label| torchvisions.category(label)), [Some(4), Some(90), None]);
        assert!(listed.numbering(50).unwrap_err().to_string().contains("has 50"));
    }

    #[test]
    fn nothing_to_run_on_is_said_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        assert!(list(folder.path(), None).unwrap_err().to_string().contains("no JPEG or PNG image"));
        let nowhere = folder.path().join("nowhere");
        assert!(list(&nowhere, None).unwrap_err().to_string().contains("nowhere"));
    }
}
