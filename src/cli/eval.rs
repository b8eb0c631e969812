//! `spnas eval`: scores a file of results. Two JSON files come in, the numbers go out.

use std::io::Write as _;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::metrics::coco_map::{CocoGroundTruth, CocoMapError, IouType, evaluate, read_detections};

/// Score predictions.
#[derive(Debug, Args)]
pub struct EvalArgs {
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

/// Runs the subcommand.
///
/// # Errors
/// Those of reading the two files, and of [`evaluate`].
pub fn run(args: &EvalArgs) -> Result<(), CocoMapError> {
    let EvalCommand::Coco(args) = &args.what;
    let iou = match args.iou {
        Iou::Bbox => IouType::Bbox,
        Iou::Segm => IouType::Segm,
    };
    let truth = CocoGroundTruth::read(&args.gt, iou)?;
    let detections = read_detections(&args.dt)?;
    let stats = evaluate(&truth, &detections, iou).map_err(|error| error.in_file(&args.dt))?;
    let mut out = std::io::stdout().lock();
    let printed = if args.json {
        serde_json::to_string(&stats).map_or(Ok(()), |line| writeln!(out, "{line}"))
    } else {
        write!(out, "{stats}")
    };
    // A reader that closes the pipe early (`| head`) has seen what it wanted.
    let _ignored = printed;
    Ok(())
}
