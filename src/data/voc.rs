//! Reads a data set in Pascal VOC format: `Annotations/*.xml`, `JPEGImages/`, `ImageSets/Main/<split>.txt`.
//!
//! VOC counts pixels from 1 and includes the last one: the box (1, 1, W, H) covers the whole image. It becomes
//! `[0, 0, W, H]`, as in Detectron2's `pascal_voc.py`: one is taken from the minima only.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use roxmltree::{Document, Node};

use super::image_file::displayed_size;
use super::{Category, DataError, DetectionDataset, ImageRecord, ImageSize, Object, Role};

/// What to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VocPaths {
    /// The folder that holds `Annotations`, `JPEGImages` and `ImageSets`.
    pub root: PathBuf,
    /// Name of the list in `ImageSets/Main`, without `.txt`.
    pub split: String,
}

/// Where the class list comes from. A label is the place in the list, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classes {
    /// All names found in `Annotations/` (of every split, so that splits agree), sorted.
    FromData,
    /// This list; any other name is an error.
    Given(Vec<String>),
}

/// Reads the data set. Images are numbered from 1 in the order of the split's list. Objects marked `difficult` are kept
/// as regions to ignore ([`Role::Crowd`]), as VOC's own protocol does.
///
/// # Errors
/// A missing file, malformed XML, a missing or unreadable field, an unknown class, each with file and line.
pub fn read(paths: &VocPaths, classes: &Classes) -> Result<DetectionDataset, DataError> {
    let names = names_in_split(paths)?;
    let annotations = paths.root.join("Annotations");
    let classes = match classes {
        Classes::Given(list) => list.clone(),
        Classes::FromData => classes_in(&annotations)?,
    };
    let labels: BTreeMap<&str, i64> = classes.iter().map(String::as_str).zip(1..).collect();

    let mut images = Vec::with_capacity(names.len());
    let mut next_object = 1;
    for (id, (name, line)) in (1..).zip(&names) {
        let path = annotations.join(format!("{name}.xml"));
        if !path.is_file() {
            return Err(DataError::Text {
                path: split_list(paths),
                line: *line,
                problem: format!("`{name}` has no {}; add the file or remove the line", path.display()),
            });
        }
        let text = read_text(&path)?;
        let file = XmlFile::parse(&path, &text)?;
        let image = file.image_path(&paths.root.join("JPEGImages"), name);
        let objects = file.objects(&labels, &mut next_object)?;
        let size = match file.size()? {
            Some(size) => size,
            None => displayed_size(&image)?,
        };
        images.push(ImageRecord { id, path: image, size, objects });
    }
    Ok(DetectionDataset {
        source: paths.root.clone(),
        images,
        categories: (1..).zip(classes).map(|(id, name)| Category { id, name }).collect(),
        degenerate: 0,
    }
    .finished())
}

fn split_list(paths: &VocPaths) -> PathBuf {
    paths.root.join("ImageSets").join("Main").join(format!("{}.txt", paths.split))
}

/// The image names of the split, each with its line in the list.
fn names_in_split(paths: &VocPaths) -> Result<Vec<(String, u32)>, DataError> {
    let list = split_list(paths);
    let text = read_text(&list)?;
    let mut seen = BTreeSet::new();
    let mut names = Vec::new();
    for (line, row) in (1..).zip(text.lines()) {
        // Per-class lists have a second column (1, 0, -1).
        let Some(name) = row.split_whitespace().next() else { continue };
        if !seen.insert(name) {
            let problem = format!("`{name}` is listed twice; remove one of the lines");
            return Err(DataError::Text { path: list, line, problem });
        }
        names.push((name.to_owned(), line));
    }
    if names.is_empty() {
        return Err(DataError::Text { path: list, line: 1, problem: "the split names no image".to_owned() });
    }
    Ok(names)
}

/// All class names in the folder, sorted.
fn classes_in(folder: &Path) -> Result<Vec<String>, DataError> {
    let read_error = |source| DataError::Read { path: folder.to_owned(), source };
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).map_err(read_error)? {
        let path = entry.map_err(read_error)?.path();
        if path.extension().is_none_or(|extension| extension != "xml") {
            continue;
        }
        let text = read_text(&path)?;
        let file = XmlFile::parse(&path, &text)?;
        for object in file.object_nodes() {
            names.insert(file.text_of(object, "name")?.to_owned());
        }
    }
    Ok(names.into_iter().collect())
}

fn read_text(path: &Path) -> Result<String, DataError> {
    std::fs::read_to_string(path).map_err(|source| DataError::Read { path: path.to_owned(), source })
}

/// An annotation file and its place, for messages.
struct XmlFile<'a> {
    path: &'a Path,
    document: Document<'a>,
}

impl<'a> XmlFile<'a> {
    fn parse(path: &'a Path, text: &'a str) -> Result<Self, DataError> {
        let document = Document::parse(text).map_err(|error| DataError::Text {
            path: path.to_owned(),
            line: error.pos().row,
            problem: error.to_string(),
        })?;
        Ok(Self { path, document })
    }

    fn wrong(&self, node: Node<'_, '_>, problem: String) -> DataError {
        let line = self.document.text_pos_at(node.range().start).row;
        DataError::Text { path: self.path.to_owned(), line, problem }
    }

    fn object_nodes(&self) -> impl Iterator<Item = Node<'_, 'a>> {
        self.document.root_element().children().filter(|node| node.has_tag_name("object"))
    }

    /// The image beside the annotation: by the annotation's own name first, since the `filename` field is often stale.
    fn image_path(&self, folder: &Path, name: &str) -> PathBuf {
        for extension in ["jpg", "jpeg", "png", "JPG", "JPEG", "PNG"] {
            let path = folder.join(format!("{name}.{extension}"));
            if path.is_file() {
                return path;
            }
        }
        let root = self.document.root_element();
        let named = root.children().find(|node| node.has_tag_name("filename")).and_then(|node| node.text());
        match named.map(str::trim) {
            Some(file) if !file.is_empty() => folder.join(file),
            _ => folder.join(format!("{name}.jpg")),
        }
    }

    /// The image's size; `None` where the file leaves it out or says 0, as some tools do.
    fn size(&self) -> Result<Option<ImageSize>, DataError> {
        let root = self.document.root_element();
        let Some(size) = root.children().find(|node| node.has_tag_name("size")) else { return Ok(None) };
        let pixels = |name| -> Result<u32, DataError> {
            let value = self.number(size, name)?;
            if value >= 0.0 && value <= f64::from(u32::MAX) && value.fract() == 0.0 {
                return Ok(value as u32);
            }
            Err(self.wrong(size, format!("<{name}> {value} is not a number of pixels")))
        };
        let size = ImageSize { width: pixels("width")?, height: pixels("height")? };
        Ok((size.width > 0 && size.height > 0).then_some(size))
    }

    fn objects(&self, labels: &BTreeMap<&str, i64>, next_id: &mut i64) -> Result<Vec<Object>, DataError> {
        let mut objects = Vec::new();
        for node in self.object_nodes() {
            let name = self.text_of(node, "name")?;
            let label = *labels.get(name).ok_or_else(|| {
                let known = labels.keys().copied().collect::<Vec<_>>().join(", ");
                self.wrong(node, format!("unknown class `{name}`; known are {known}"))
            })?;
            let difficult = self.child(node, "difficult").ok().and_then(|node| node.text());
            objects.push(self.object(node, *next_id, label, difficult.map(str::trim) == Some("1"))?);
            *next_id += 1;
        }
        Ok(objects)
    }

    fn object(&self, node: Node<'_, '_>, id: i64, label: i64, difficult: bool) -> Result<Object, DataError> {
        let corners = self.child(node, "bndbox")?;
        let [x1, y1, x2, y2] = [
            self.number(corners, "xmin")?,
            self.number(corners, "ymin")?,
            self.number(corners, "xmax")?,
            self.number(corners, "ymax")?,
        ];
        // A box of one pixel's width cannot be told from a slip (xmin = xmax); the slip is what occurs.
        if x2 <= x1 || y2 <= y1 {
            let xywh = [(x1 - 1.0).max(0.0), (y1 - 1.0).max(0.0), 0.0, 0.0];
            return Ok(Object { id, xywh, label, area: 0.0, role: Role::Degenerate });
        }
        let (x, y) = ((x1 - 1.0).max(0.0), (y1 - 1.0).max(0.0));
        let xywh = [x, y, x2 - x, y2 - y];
        let role = if difficult { Role::Crowd } else { Role::Object };
        Ok(Object { id, xywh, label, area: xywh[2] * xywh[3], role })
    }

    fn child<'n>(&self, node: Node<'n, 'a>, name: &str) -> Result<Node<'n, 'a>, DataError>
    where
        'a: 'n,
    {
        node.children()
            .find(|child| child.has_tag_name(name))
            .ok_or_else(|| self.wrong(node, format!("<{}> has no <{name}>", node.tag_name().name())))
    }

    fn text_of<'n>(&self, node: Node<'n, 'a>, name: &str) -> Result<&'n str, DataError>
    where
        'a: 'n,
    {
        let child = self.child(node, name)?;
        match child.text().map(str::trim) {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(self.wrong(child, format!("<{name}> is empty"))),
        }
    }

    fn number(&self, node: Node<'_, 'a>, name: &str) -> Result<f64, DataError> {
        let text = self.text_of(node, name)?;
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(value),
            _ => Err(self.wrong(node, format!("<{name}> is `{text}`, not a number"))),
        }
    }
}
