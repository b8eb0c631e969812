//! `spnas eval`: scores a file of results. Two JSON files come in, the numbers go out.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use crate::metrics::coco_map::{CocoGroundTruth, IouType, evaluate, read_detections};

/// The arguments.
#[derive(Debug, Args)]
pub struct Eval {
    #[command(subcommand)]
    what: EvalCommand,
}

#[derive(Debug, Subcommand)]
enum EvalCommand {
    /// The twelve numbers of COCO, as pycocotools prints them; -1 where a number is undefined.
    Coco(CocoArgs),
}

#[derive(Debug, Args)]
struct CocoArgs {
    /// Ground truth: a COCO `instances` file.
    #[arg(long, value_name = "A.json")]
    gt: PathBuf,
    /// Detections: a COCO results file.
    #[arg(long, value_name = "B.json")]
    dt: PathBuf,
    /// Compare boxes or masks.
    #[arg(long, value_enum, default_value_t = Iou::Bbox)]
    iou: Iou,
    /// Print one JSON object with all digits instead of the table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Iou {
    Bbox,
    Segm,
}

impl Eval {
    /// Prints the numbers.
    ///
    /// # Errors
    /// The input's fault.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let EvalCommand::Coco(args) = self.what;
        args.run(out)
    }
}

impl CocoArgs {
    fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let iou = match self.iou {
            Iou::Bbox => IouType::Bbox,
            Iou::Segm => IouType::Segm,
        };
        let truth = CocoGroundTruth::read(&self.gt, iou).map_err(Failure::input)?;
        let detections = read_detections(&self.dt).map_err(Failure::input)?;
        let stats = evaluate(&truth, &detections, iou).map_err(|error| Failure::input(error.in_file(&self.dt)))?;
        if self.json {
            let line = serde_json::to_string(&stats).map_err(Failure::internal)?;
            writeln!(out, "{line}")?;
        } else {
            write!(out, "{stats}")?;
        }
        Ok(())
    }
}
