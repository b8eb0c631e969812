//! `spnas profile CODE`: what a backbone, serial or parallel, costs, as a table for people or as JSON with exact integers. No net is built.

use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::Failure;
use crate::arch::Architecture;
use crate::arch::cost::{
    self, BackboneCost, Bytes, ClassifierCost, DetectorParams, DetectorShape, InputSize, MultiplyAdds, Params,
    StageCost,
};
use crate::arch::grammar::{Grammar, OneLine, parse_parallel};
use crate::arch::parallel::Parallel;
use crate::arch::serial::{BlockKind, SerialBackbone, Stem};

/// The arguments.
#[derive(Debug, Args)]
pub struct Profile {
    /// The code, such as 111-2111-211111-211, or a one-line encoding with its block, such as
    /// r_111-2111-211111-211 (r: bottleneck, b: basic, x(32x4d): ResNeXt; always in the paper's grammar)
    #[arg(allow_hyphen_values = true)]
    code: String,
    /// How to read the code; needed where the two grammars read different nets. vega: a digit is a stride, `-`
    /// doubles the width. paper: a `2` doubles the width, `-` has stride 2
    #[arg(long, value_name = "vega|paper")]
    grammar: Option<Grammar>,
    /// basic, bottleneck, resnext32x4d or resnext:GROUPSxWIDTH [default: bottleneck]
    #[arg(long)]
    block: Option<BlockKind>,
    /// What stands before the first block
    #[arg(long, value_name = "7x7|3x3", default_value_t = Stem::SevenBySeven)]
    stem: Stem,
    /// Width of the stem and planes of the first block
    #[arg(long, value_name = "CHANNELS", default_value_t = 64)]
    base_width: u32,
    /// Extra sub-networks beside each stage, such as 0-0-2-0; a one-line encoding may have them at its end instead
    #[arg(long, value_name = "NUMBERS", value_parser = numbers)]
    parallel: Option<Numbers>,
    /// Stages that are repeated together, such as 1-2-1 for three groups of four stages [default: each by itself]
    #[arg(long, value_name = "NUMBERS", value_parser = numbers)]
    groups: Option<Numbers>,
    /// The extra sub-networks are the main path's layers run again, with no parameters of their own
    #[arg(long)]
    share_weights: bool,
    /// Size of the image in pixels
    #[arg(long, value_name = "HEIGHTxWIDTH", default_value = "224x224")]
    input: InputSize,
    /// Classes of the fully connected layer, for the cost as a classifier
    #[arg(long, default_value_t = 1000)]
    classes: u32,
    /// Classes of the detector (Faster R-CNN with FPN), the background included
    #[arg(long, value_name = "CLASSES", default_value_t = 91)]
    detector_classes: u32,
    /// Channels of the detector's feature pyramid
    #[arg(long, value_name = "CHANNELS", default_value_t = 256)]
    fpn_channels: u32,
    /// Width of the detector's fully connected layers
    #[arg(long, value_name = "CHANNELS", default_value_t = 1024)]
    head_width: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Whole numbers with `-` between them.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Numbers(Vec<u32>);

fn numbers(text: &str) -> Result<Numbers, String> {
    parse_parallel(text).map(Numbers).map_err(|error| error.to_string())
}

/// All that is said about a backbone.
#[derive(Debug, Serialize)]
struct Report {
    codes: Codes,
    block: String,
    stem: String,
    base_width: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    parallel: Option<Branches>,
    input: Size,
    /// Number of blocks.
    depth: usize,
    params: Params,
    multiply_adds: MultiplyAdds,
    activation_bytes: Bytes,
    classes: u32,
    params_with_fc: Params,
    multiply_adds_with_fc: MultiplyAdds,
    stages: Vec<StageCost>,
    detector: Detector,
}

#[derive(Debug, Serialize)]
struct Codes {
    vega: String,
    paper: String,
}

#[derive(Debug, Serialize)]
struct Branches {
    /// Stages of each group.
    groups: Vec<u32>,
    /// Extra sub-networks of each group.
    extra: Vec<u32>,
    share_weights: bool,
    /// Multiply-adds of one extra sub-network of each group, its connector's among them.
    multiply_adds_each: Vec<MultiplyAdds>,
}

#[derive(Debug, Serialize)]
struct Size {
    height: u32,
    width: u32,
}

#[derive(Debug, Serialize)]
struct Detector {
    classes: u32,
    params: DetectorParams,
}

impl Profile {
    /// Counts and prints.
    pub(crate) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let backbone = self.read_code()?;
        let cost = cost::architecture(&backbone, self.input).map_err(Failure::input)?;
        let classifier = cost.with_classes(self.classes).map_err(Failure::input)?;
        let shape = DetectorShape {
            fpn_channels: self.fpn_channels,
            classes: self.detector_classes,
            head_width: self.head_width,
            ..DetectorShape::default()
        };
        let detector = cost::detector(&backbone, &shape).map_err(Failure::input)?;
        let report = self.report(&backbone, cost, classifier, detector)?;
        if self.json {
            serde_json::to_writer_pretty(&mut *out, &report).map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            report.write_table(out)?;
        }
        Ok(())
    }

    /// The backbone that the arguments name.
    fn read_code(&self) -> Result<Architecture, Failure> {
        let mut architecture = if self.code.contains('_') { self.read_line()? } else { self.read_sequence()?.into() };
        if let Some(Numbers(extra)) = &self.parallel {
            if architecture.parallel.is_some() {
                return Err(Failure::input("the code ends with a parallel part already: leave out --parallel"));
            }
            let groups = self.groups.as_ref().map_or(&[][..], |Numbers(groups)| groups);
            let parallel = Parallel::new(groups, extra, self.share_weights).map_err(Failure::input)?;
            architecture.parallel = Some(parallel);
        } else if self.groups.is_some() {
            return Err(Failure::input("--groups needs --parallel: one number of sub-networks a group"));
        } else if self.share_weights && architecture.parallel.is_none() {
            return Err(Failure::input("--share-weights needs a parallel part: add --parallel"));
        }
        Ok(architecture)
    }

    /// A one-line encoding.
    fn read_line(&self) -> Result<Architecture, Failure> {
        let line: OneLine = self.code.parse().map_err(Failure::input)?;
        if self.grammar == Some(Grammar::Vega) {
            return Err(Failure::input("a one-line encoding is always in the paper's grammar: leave out --grammar"));
        }
        if let Some(block) = self.block.filter(|block| *block != line.block) {
            let said = line.block;
            return Err(Failure::input(format!("the code says {said} and --block says {block}: leave one out")));
        }
        Architecture::of_line(line, self.stem, self.base_width, self.share_weights).map_err(Failure::input)
    }

    /// A code of the serial part alone.
    fn read_sequence(&self) -> Result<SerialBackbone, Failure> {
        let block = self.block.unwrap_or(BlockKind::Bottleneck);
        let grammar = self.grammar.unwrap_or(Grammar::Vega);
        let sequence = grammar.parse(&self.code).map_err(Failure::input)?;
        if self.grammar.is_none() && Grammar::Paper.parse(&self.code).as_ref() != Ok(&sequence) {
            let code = &self.code;
            return Err(Failure::input(format!(
                "the two grammars read different nets from `{code}`: add --grammar vega or --grammar paper"
            )));
        }
        Ok(SerialBackbone { sequence, block, stem: self.stem, base_width: self.base_width })
    }

    fn report(
        &self,
        architecture: &Architecture,
        cost: BackboneCost,
        classifier: ClassifierCost,
        detector: DetectorParams,
    ) -> Result<Report, Failure> {
        let backbone = &architecture.serial;
        let sequence = &backbone.sequence;
        let branches = |parallel: &Parallel| {
            let groups = parallel.group_sizes();
            let each = cost::sub_networks(backbone, &groups, self.input).map_err(Failure::input)?;
            let multiply_adds_each = each.iter().map(|cost| cost.multiply_adds).collect();
            let (extra, share_weights) = (parallel.extra(), parallel.share_weights());
            Ok::<_, Failure>(Branches { groups, extra, share_weights, multiply_adds_each })
        };
        Ok(Report {
            codes: Codes { vega: Grammar::Vega.print(sequence), paper: Grammar::Paper.print(sequence) },
            block: backbone.block.to_string(),
            stem: backbone.stem.to_string(),
            base_width: backbone.base_width,
            parallel: architecture.parallel.as_ref().map(branches).transpose()?,
            input: Size { height: self.input.height(), width: self.input.width() },
            depth: sequence.depth(),
            params: cost.params,
            multiply_adds: cost.multiply_adds,
            activation_bytes: cost.activation_bytes,
            classes: self.classes,
            params_with_fc: classifier.params,
            multiply_adds_with_fc: classifier.multiply_adds,
            stages: cost.stages,
            detector: Detector { classes: self.detector_classes, params: detector },
        })
    }
}

impl Report {
    fn write_table(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let Size { height, width } = self.input;
        writeln!(out, "vega    {}", self.codes.vega)?;
        writeln!(out, "paper   {}", self.codes.paper)?;
        let (depth, stages) = (self.depth, self.stages.len());
        writeln!(
            out,
            "        {depth} {} blocks in {stages} stages, {} stem of width {}, input {height}x{width}\n",
            self.block, self.stem, self.base_width
        )?;
        if let Some(parallel) = &self.parallel {
            parallel.write_table(out)?;
        }
        writeln!(out, "stage  blocks  channels       size  stride     parameters    multiply-adds")?;
        for (number, stage) in (1..).zip(&self.stages) {
            let size = format!("{}x{}", stage.height, stage.width);
            let (params, adds) = (grouped(stage.params.0), grouped(stage.multiply_adds.0));
            let StageCost { blocks, channels, stride, .. } = stage;
            writeln!(out, "{number:>5}  {blocks:>6}  {channels:>8}  {size:>9}  {stride:>6}  {params:>13}  {adds:>15}")?;
        }
        let classifier = format!("with {} classes (fc)", self.classes);
        let detector = format!("Faster R-CNN, {} classes", self.detector.classes);
        let rows = [
            ("backbone", self.params, Some(self.multiply_adds)),
            (&classifier, self.params_with_fc, Some(self.multiply_adds_with_fc)),
            (&detector, self.detector.params.total, None),
        ];
        writeln!(out)?;
        for (name, params, adds) in rows {
            write!(out, "{name:<39}  {:>13}", grouped(params.0))?;
            match adds {
                Some(adds) => writeln!(out, "  {:>15}", grouped(adds.0))?,
                None => writeln!(out)?,
            }
        }
        writeln!(
            out,
            "\nactivations (outputs of all convolutions, f32): {} bytes an image",
            grouped(self.activation_bytes.0)
        )?;
        Ok(())
    }
}

impl Branches {
    fn write_table(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let weights = if self.share_weights { "sharing the main path's weights" } else { "with weights of their own" };
        writeln!(out, "group  stages  sub-networks  multiply-adds of each ({weights})")?;
        for (at, (stages, extra)) in self.groups.iter().zip(&self.extra).enumerate() {
            let adds = self.multiply_adds_each.get(at).map_or(0, |adds| adds.0);
            writeln!(out, "{:>5}  {stages:>6}  {extra:>12}  {:>13}", at + 1, grouped(adds))?;
        }
        writeln!(out, "\nstage by stage, sub-networks included:")?;
        Ok(())
    }
}

/// `number` with a space between thousands.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}
