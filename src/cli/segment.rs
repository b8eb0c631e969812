//! `spnas segment`: a trained segmentation network on images. A description and images come in, label maps go out.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use spnas_actors::device::Place;

use super::detect::refuse_same;
use super::{Failure, network};
use crate::data::masks::{MaskColours, png_of_mask};
use crate::data::pictures;
use crate::pipeline::described::Purpose;
use crate::pipeline::task_folder::{make_folder, write};
use crate::workers::inference::{AtImage, BATCH, Segmenter};

/// Give every pixel of images a class with a trained network.
#[derive(Debug, Args)]
#[command(after_help = "\
A map is a PNG as large as its image, named as it is but for the ending; a pixel's value is its class, from 0. It has
a palette, so that viewers show the classes in colours; with --grey it is plain grey. Both read as masks to train on.

Example:
  spnas segment runs/mine/output/fullytrain/desc_3.json --images photos --out maps")]
pub struct Segment {
    /// The description of a SemanticFPN that a step has left; its weights model_N.safetensors lie beside it
    #[arg(value_name = "desc_N.json")]
    description: PathBuf,
    /// The weights, .safetensors or .pth, if not those beside the description
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// A folder of JPEG and PNG images, or a COCO annotation file with its images beside it as in COCO's layout
    #[arg(long, value_name = "FOLDER|FILE.json")]
    images: PathBuf,
    /// A COCO annotation file that lists images of the folder --images
    #[arg(long, value_name = "FILE.json")]
    annotations: Option<PathBuf>,
    /// The folder for the label maps
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Grey values instead of a palette
    #[arg(long)]
    grey: bool,
    /// Images that go through the network at once, where they come to one size
    #[arg(long, value_name = "N", default_value_t = BATCH, value_parser = network::batch)]
    batch: usize,
    /// cuda:N or cpu [default: cuda:0 where there is one]
    #[arg(long, value_parser = network::device)]
    device: Option<Place>,
}

/// Classes that a byte can tell apart.
const MOST_CLASSES: i64 = 256;

impl Segment {
    /// Segments, and says how much.
    ///
    /// # Errors
    /// The input's fault, libtorch's, or files that cannot be written.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let opened = network::open(&self.description, self.weights.as_deref())?;
        let said = self.description.display();
        let Purpose::Segmentation(task) = opened.purpose().map_err(network::described)? else {
            return Err(Failure::input(format!("{said} is a detector, no SemanticFPN: use `spnas detect`")));
        };
        if task.0.num_classes > MOST_CLASSES {
            let classes = task.0.num_classes;
            return Err(Failure::input(format!("{said} has {classes} classes, and a map holds {MOST_CLASSES}")));
        }
        let listed = pictures::list(&self.images, self.annotations.as_deref()).map_err(Failure::input)?;
        make_folder(&self.out).map_err(Failure::internal)?;
        refuse_same(&self.out, &listed.folder)?;
        let device = network::device_of(self.device)?;
        let segmenter = Segmenter::new(&task, &opened.architecture, &opened.weights, &device)
            .map_err(|error| network::work(&opened.weights, error))?;
        let colours = if self.grey { MaskColours::Grey } else { MaskColours::Palette };
        let failed = |at: AtImage| network::work(&at.path, *at.why);
        for found in segmenter.found(&listed.paths(), self.batch).map_err(failed)? {
            let (place, map) = found.map_err(failed)?;
            let to = self.out.join(listed.images[place].name.with_extension("png"));
            let png = png_of_mask(&map, colours);
            let png = png.map_err(|error| Failure::internal(format!("cannot write {}: {error}", to.display())))?;
            write(&to, &png).map_err(Failure::internal)?;
        }
        writeln!(out, "{} label maps: {}", listed.images.len(), self.out.display())?;
        Ok(())
    }
}
