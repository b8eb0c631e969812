//! `spnas detect`: a trained detector on images. A description or a file of torchvision's weights and images come in, a COCO
//! results file and pictures go out.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use image::ImageFormat;
use spnas_actors::device::Place;

use super::{Failure, network};
use crate::arch::Architecture;
use crate::data::coco_format::DetectionEntry;
use crate::data::image_file::decode;
use crate::data::pictures::{self, Numbering, Picture};
use crate::pipeline::described::{Purpose, TorchvisionModel};
use crate::pipeline::task_folder::{make_folder, write, write_json};
use crate::report::drawing::{Mark, drawn};
use crate::workers::Detection;
use crate::workers::detection::Found;
use crate::workers::inference::{AtImage, BATCH, Detector};

/// Find objects in images with a trained detector.
#[derive(Debug, Args)]
#[command(after_help = "\
The results are in COCO's form: image_id is the annotation file's, or else the index in the sorted file names, from 0;
category_id is the annotation file's id of the class, or else the network's label, from 1; bbox is x, y, width, height.

With --model the network is torchvision's, with its defaults, and the file has to hold every one of its tensors.
torchvision evaluates its published file fasterrcnn_resnet50_fpn_coco-258fb6c6.pth (COCO_V1) with a batch-norm epsilon
of 0 and all others with 1e-5; so does this command, going by the file's name. --bn-eps says otherwise.

Examples:
  spnas detect runs/mine/output/fullytrain/desc_3.json --images photos --json found.json --draw drawn
  spnas detect runs/mine/output/fullytrain/desc_3.json --images annotations/instances_val2017.json --json found.json
  spnas detect --model fasterrcnn_resnet50_fpn --weights fasterrcnn_resnet50_fpn_coco-258fb6c6.pth \\
      --images photos --json found.json")]
pub struct Detect {
    /// The description that a step has left; its weights model_N.safetensors lie beside it
    #[arg(value_name = "desc_N.json", required_unless_present = "model", conflicts_with = "model")]
    description: Option<PathBuf>,
    /// A detector of torchvision's instead, such as fasterrcnn_resnet50_fpn
    #[arg(long, value_name = "NAME", requires = "weights")]
    model: Option<TorchvisionModel>,
    /// The weights, .safetensors or .pth, if not those beside the description
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Classes of the --model, the background included
    #[arg(long, default_value_t = 91, value_parser = clap::value_parser!(u32).range(2..=65536), conflicts_with = "description")]
    num_classes: u32,
    /// A folder of JPEG and PNG images, or a COCO annotation file with its images beside it as in COCO's layout
    #[arg(long, value_name = "FOLDER|FILE.json")]
    images: PathBuf,
    /// A COCO annotation file that lists images of the folder --images
    #[arg(long, value_name = "FILE.json")]
    annotations: Option<PathBuf>,
    /// Where the results go
    #[arg(long, value_name = "FILE.json")]
    json: PathBuf,
    /// Write the pictures with what was found on them into this folder
    #[arg(long, value_name = "FOLDER")]
    draw: Option<PathBuf>,
    /// The least score of a detection [default: the description's box_score_thresh; 0.05 with --model]
    #[arg(long, value_name = "0..1", value_parser = share)]
    score: Option<f64>,
    /// What batch normalisation adds to the variance, if not what the description says
    #[arg(long, value_name = "NUMBER", value_parser = epsilon)]
    bn_eps: Option<f64>,
    /// Images that go through the network at once, where they come to one size
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = network::batch)]
    batch: usize,
    /// cuda:N or cpu [default: cuda:0 where there is one]
    #[arg(long, value_parser = network::device)]
    device: Option<Place>,
}

fn share(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| "write a number from 0 to 1".to_owned())
}

fn epsilon(text: &str) -> Result<f64, String> {
    let value = text.parse().ok().filter(|value: &f64| *value >= 0.0 && value.is_finite());
    value.ok_or_else(|| "write a number that is not negative, such as 1e-5".to_owned())
}

impl Detect {
    /// Detects, and says how much was found.
    ///
    /// # Errors
    /// The input's fault, libtorch's, or files that cannot be written.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let (mut detection, architecture, weights) = self.network()?;
        if let Some(score) = self.score {
            detection.0.roi.score_threshold = score;
        }
        if let Some(epsilon) = self.bn_eps {
            detection.0.norm.epsilon = epsilon;
        }
        let listed = pictures::list(&self.images, self.annotations.as_deref()).map_err(Failure::input)?;
        let numbering = listed.numbering(detection.0.num_classes).map_err(Failure::input)?;
        if let Some(folder) = &self.draw {
            make_folder(folder).map_err(Failure::internal)?;
            refuse_same(folder, &listed.folder)?;
        }
        let device = network::device_of(self.device.clone())?;
        let detector = Detector::new(&detection, &architecture, &weights, &device)
            .map_err(|error| network::work(&weights, error))?;
        let failed = |at: AtImage| network::work(&at.path, *at.why);
        let mut entries: Vec<Vec<DetectionEntry>> = Vec::new();
        entries.resize_with(listed.images.len(), Vec::new);
        for found in detector.found(&listed.paths(), self.batch).map_err(failed)? {
            let (place, found) = found.map_err(failed)?;
            let (picture, marks) = (&listed.images[place], marks(&found, &numbering));
            entries[place] = marks.iter().map(|mark| entry(picture.id, mark)).collect();
            if let Some(folder) = &self.draw {
                draw(picture, &marks, folder)?;
            }
        }
        let entries: Vec<DetectionEntry> = entries.into_iter().flatten().collect();
        write_json(&self.json, &entries).map_err(Failure::internal)?;
        writeln!(out, "{} detections in {} images: {}", entries.len(), listed.images.len(), self.json.display())?;
        if let Some(folder) = &self.draw {
            writeln!(out, "pictures: {}", folder.display())?;
        }
        Ok(())
    }

    /// What to build, and its weights.
    fn network(&self) -> Result<(Detection, Architecture, PathBuf), Failure> {
        if let (Some(model), Some(weights)) = (&self.model, &self.weights) {
            let detection = model.detection(self.num_classes, model.epsilon(weights));
            return Ok((detection, model.architecture().map_err(network::described)?, weights.clone()));
        }
        let file = self.description.as_deref().unwrap_or(Path::new("desc_N.json"));
        let opened = network::open(file, self.weights.as_deref())?;
        match opened.purpose().map_err(network::described)? {
            Purpose::Detection(detection) => Ok((detection, opened.architecture, opened.weights)),
            Purpose::Segmentation(_) => {
                Err(Failure::input(format!("{} is a SemanticFPN, no detector: use `spnas segment`", file.display())))
            }
        }
    }
}

/// Pictures must not be written over the images they are of.
pub(super) fn refuse_same(out: &Path, images: &Path) -> Result<(), Failure> {
    match (out.canonicalize(), images.canonicalize()) {
        (Ok(one), Ok(other)) if one == other => {
            Err(Failure::input(format!("{} is the folder of the images themselves: name another", out.display())))
        }
        _ => Ok(()),
    }
}

/// The detections with their categories' ids, those of no category left out.
fn marks(found: &Found, numbering: &Numbering) -> Vec<Mark> {
    let all = found.boxes.iter().zip(&found.labels).zip(&found.scores);
    let mark = |((corners, label), score): ((&[f32; 4], &i64), &f32)| {
        Some(Mark { corners: *corners, label: numbering.category(*label)?, score: *score })
    };
    all.filter_map(mark).collect()
}

fn entry(image_id: i64, mark: &Mark) -> DetectionEntry {
    let [x1, y1, x2, y2] = mark.corners.map(f64::from);
    DetectionEntry {
        image_id,
        category_id: mark.label,
        bbox: Some([x1, y1, x2 - x1, y2 - y1]),
        segmentation: None,
        score: f64::from(mark.score),
    }
}

fn draw(picture: &Picture, marks: &[Mark], folder: &Path) -> Result<(), Failure> {
    let pixels = decode(&picture.path).map_err(Failure::input)?;
    let too_small = || Failure::internal(format!("{}: fewer pixels than its size", picture.path.display()));
    let image = drawn(pixels, marks).ok_or_else(too_small)?;
    let to = folder.join(&picture.name);
    let mut encoded = Cursor::new(Vec::new());
    let written = ImageFormat::from_path(&to).and_then(|format| image.write_to(&mut encoded, format));
    written.map_err(|error| Failure::internal(format!("cannot write {}: {error}", to.display())))?;
    write(&to, encoded.get_ref()).map_err(Failure::internal)
}
