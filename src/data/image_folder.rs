//! A classification data set in ImageNet's layout, read from folders: `<data_path>/train/<class>/*.jpg` and
//! `<data_path>/val/<class>/*.jpg`. In: the folder. Out: the names of images and classes, without a look at any pixel.
//!
//! A class's label is the place of its folder's name in the order of bytes, from 0, as in torchvision's `ImageFolder`;
//! training and validation must therefore have the same classes.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::DataError;

/// What image files are called; capitals do not matter.
const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Training and validation images of the same classes.
#[derive(Debug, Clone)]
pub struct ImageFolders {
    /// `train/`.
    pub train: Arc<ImageFolder>,
    /// `val/`.
    pub val: Arc<ImageFolder>,
}

/// The images of one split. An image takes the bytes of its file's name and four more, so that the 1.28 million of
/// ImageNet fit in some 35 MB.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageFolder {
    root: PathBuf,
    /// Names of the classes in order; the place is the label.
    classes: Vec<String>,
    /// The first image of each class, and after the last class the number of images: ascending.
    starts: Vec<u32>,
    /// The names of all files, one after another.
    names: String,
    /// Where each image's name ends in `names`: ascending, on bounds of characters.
    ends: Vec<u32>,
}

/// Reads both splits below `data_path`.
///
/// # Errors
/// A folder that is missing or cannot be read, one without classes, a class without images, names that are no UTF-8,
/// and splits that do not have the same classes.
pub fn read(data_path: &Path) -> Result<ImageFolders, DataError> {
    let train = ImageFolder::read(&data_path.join("train"))?;
    let val = ImageFolder::read(&data_path.join("val"))?;
    agree(&train, &val)?;
    Ok(ImageFolders { train: Arc::new(train), val: Arc::new(val) })
}

/// Whether a label means the same in both.
fn agree(train: &ImageFolder, val: &ImageFolder) -> Result<(), DataError> {
    let lacking = |of: &ImageFolder, other: &ImageFolder| {
        other.classes.iter().find(|class| of.classes.binary_search(class).is_err()).cloned()
    };
    for (here, there) in [(train, val), (val, train)] {
        if let Some(class) = lacking(here, there) {
            return Err(DataError::Record {
                path: here.root.clone(),
                record: format!("class {class}"),
                problem: format!("is missing here, but is in {}", there.root.display()),
                remedy: "give both splits the same class folders",
            });
        }
    }
    Ok(())
}

impl ImageFolder {
    /// Reads one split: a folder of class folders. Files beside the class folders, hidden entries, and files that are
    /// not named as images are left out; folders within a class folder are not looked into.
    ///
    /// # Errors
    /// As [`read()`].
    pub fn read(root: &Path) -> Result<Self, DataError> {
        let mut this = Self {
            root: root.to_owned(),
            classes: Vec::new(),
            starts: vec![0],
            names: String::new(),
            ends: Vec::new(),
        };
        for class in entries(root, Wanted::Folders)? {
            let folder = root.join(&class);
            let files = entries(&folder, Wanted::Images)?;
            if files.is_empty() {
                let problem = format!("has no image directly inside (files named .{})", EXTENSIONS.join(", ."));
                return Err(this.wrong(&class, problem, "put its images there or remove the folder"));
            }
            for file in files {
                this.push(&class, &file)?;
            }
            this.starts.push(this.ends.len() as u32);
            this.classes.push(class);
        }
        if this.classes.is_empty() {
            return Err(this.wrong("the folder", "has no class folder inside".to_owned(), "make one folder a class"));
        }
        Ok(this)
    }

    fn push(&mut self, class: &str, file: &str) -> Result<(), DataError> {
        self.names.push_str(file);
        let end = u32::try_from(self.names.len());
        let end = end.map_err(|_| self.wrong(class, "more than 4 GiB of file names".to_owned(), "use fewer images"))?;
        self.ends.push(end);
        Ok(())
    }

    fn wrong(&self, record: &str, problem: String, remedy: &'static str) -> DataError {
        DataError::Record { path: self.root.clone(), record: record.to_owned(), problem, remedy }
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Never: a data set has a class, and a class has an image.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Where it lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Names of the classes; the place is the label.
    pub fn classes(&self) -> &[String] {
        &self.classes
    }

    /// The label of image `index`, from 0; that of the last class for images that are not there.
    pub fn label(&self, index: usize) -> usize {
        let opened = self.starts.partition_point(|start| *start as usize <= index);
        opened.saturating_sub(1).min(self.classes.len().saturating_sub(1))
    }

    /// The file of image `index`; the split's folder for images that are not there.
    pub fn path(&self, index: usize) -> PathBuf {
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).map_or(0, |end| *end as usize);
        let name = self.ends.get(index).and_then(|end| self.names.get(start..*end as usize));
        match (name, self.classes.get(self.label(index))) {
            (Some(name), Some(class)) => self.root.join(class).join(name),
            _ => self.root.clone(),
        }
    }
}

/// Which entries of a folder are looked for.
#[derive(Clone, Copy, PartialEq)]
enum Wanted {
    Folders,
    Images,
}

/// The names of a folder's entries of one sort, in the order of bytes.
fn entries(folder: &Path, wanted: Wanted) -> Result<Vec<String>, DataError> {
    let unreadable = |path: &Path, source: io::Error| DataError::Read { path: path.to_owned(), source };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(|error| unreadable(folder, error))? {
        let entry = entry.map_err(|error| unreadable(folder, error))?;
        let mut kind = entry.file_type().map_err(|error| unreadable(&entry.path(), error))?;
        if kind.is_symlink() {
            kind = fs::metadata(entry.path()).map_err(|error| unreadable(&entry.path(), error))?.file_type();
        }
        if kind.is_dir() == (wanted == Wanted::Folders) {
            names.push(readable(folder, entry.file_name())?);
        }
    }
    names.retain(|name| !name.starts_with('.') && (wanted == Wanted::Folders || is_image(name)));
    names.sort_unstable();
    Ok(names)
}

fn readable(folder: &Path, name: OsString) -> Result<String, DataError> {
    name.into_string().map_err(|name| DataError::Record {
        path: folder.to_owned(),
        record: format!("{}", name.display()),
        problem: "is a name that is not UTF-8".to_owned(),
        remedy: "rename it",
    })
}

fn is_image(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    EXTENSIONS.iter().any(|known| known.eq_ignore_ascii_case(extension))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files, which need no pixels to be listed; names that end with a slash are empty folders.
    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            if file.ends_with('/') {
                fs::create_dir_all(path).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, b"").unwrap();
        }
        folder
    }

    #[test]
    fn labels_follow_the_order_of_the_class_names() {
        let files =
            ["train/b/2.PNG", "train/a/z.jpg", "train/b/1.JPEG", "train/b/10.png", "val/a/x.jpg", "val/b/y.jpg"];
        let folder = folder(&files);
        let ImageFolders { train, val } = read(folder.path()).unwrap();
        assert_eq!(train.classes(), ["a", "b"]);
        let listed: Vec<_> = (0..train.len()).map(|index| (train.label(index), train.path(index))).collect();
        let at = |name: &str| folder.path().join("train").join(name);
        assert_eq!(
            listed,
            [(0, at("a/z.jpg")), (1, at("b/1.JPEG")), (1, at("b/10.png")), (1, at("b/2.PNG"))],
            "in the order of bytes"
        );
        assert_eq!((val.len(), val.label(0), val.label(1)), (2, 0, 1));
        assert_eq!(train.path(4), folder.path().join("train"), "an image that is not there");
    }

    #[test]
    fn what_is_no_image_is_left_out() {
        let folder = folder(&["a/1.jpg", "a/.hidden.jpg", "a/notes.txt", "a/deeper/2.jpg", "list.txt", ".git/x.jpg"]);
        let images = ImageFolder::read(folder.path()).unwrap();
        assert_eq!((images.classes(), images.len()), (["a".to_owned()].as_slice(), 1));
    }

    #[test]
    fn each_wrong_layout_names_what_is_wrong() {
        for (files, expected) in [
            (&["train/a/1.jpg"][..], "val"),
            (&["train/a/1.jpg", "train/b/", "val/a/1.jpg"], "train: b: has no image"),
            (&["train/a/1.jpg", "train/b/b.gif", "val/a/1.jpg"], "train: b: has no image"),
            (&["train/1.jpg", "val/a/1.jpg"], "train: the folder: has no class folder"),
            (&["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg"], "val: class b: is missing here"),
            (&["train/a/1.jpg", "val/a/1.jpg", "val/c/1.jpg"], "train: class c: is missing here"),
        ] {
            let error = read(folder(files).path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{files:?}: {error}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn linked_folders_and_files_count_and_a_broken_link_is_named() {
        use std::os::unix::fs::symlink;
        let folder = folder(&["elsewhere/1.jpg", "split/"]);
        symlink(folder.path().join("elsewhere"), folder.path().join("split/a")).unwrap();
        symlink(folder.path().join("elsewhere/1.jpg"), folder.path().join("elsewhere/2.jpg")).unwrap();
        assert_eq!(ImageFolder::read(&folder.path().join("split")).unwrap().len(), 2);
        symlink(folder.path().join("nowhere"), folder.path().join("elsewhere/3.jpg")).unwrap();
        let error = ImageFolder::read(&folder.path().join("split")).unwrap_err().to_string();
        assert!(error.contains("3.jpg"), "{error}");
    }
}
