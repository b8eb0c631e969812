//! `spnas export`: a trained network for other programs. A description comes in; its weights by torchvision's names, the
//! description with all defaults, a Python program that rebuilds the network, and ONNX go out.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;

use super::{Failure, network};
use crate::arch::cost::InputSize;
use crate::pipeline::described::Purpose;
use crate::pipeline::task_folder::{make_folder, write, write_json};
use crate::weights::{Metadata, onnx, safetensors};
use crate::workers::inference;

/// The program, as it lies in the repository.
const REBUILD: &str = include_str!("../../examples/rebuild.py");

/// Write a trained network in forms that other programs run.
#[derive(Debug, Args)]
#[command(after_help = "\
--out gets model.safetensors (torchvision's names), desc.json (the whole description) and rebuild.py, which rebuilds the
network with torch and torchvision alone:

  python rebuild.py desc.json model.safetensors IMAGE ...

The ONNX file is of the backbone: its input `images` is a normalised batch [N, 3, HEIGHT, WIDTH], its outputs `stage1`,
`stage2`, ... are the last maps of the stages. Without --input, height and width are free.

Example:
  spnas export runs/mine/output/fullytrain/desc_3.json --out mine --onnx mine/backbone.onnx --input 224x224")]
pub struct Export {
    /// The description that a step has left; its weights model_N.safetensors lie beside it
    #[arg(value_name = "desc_N.json")]
    description: PathBuf,
    /// The weights, .safetensors or .pth, if not those beside the description
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// The folder for model.safetensors, desc.json and rebuild.py
    #[arg(long, value_name = "FOLDER", required_unless_present = "onnx")]
    out: Option<PathBuf>,
    /// The file for the backbone in ONNX
    #[arg(long, value_name = "FILE.onnx")]
    onnx: Option<PathBuf>,
    /// The size of images that the ONNX file is for, in pixels
    #[arg(long, value_name = "HEIGHTxWIDTH", requires = "onnx")]
    input: Option<InputSize>,
}

impl Export {
    /// Writes the files and names them.
    ///
    /// # Errors
    /// The input's fault, or files that cannot be written.
    pub(super) fn run(self, out: &mut dyn Write) -> Result<(), Failure> {
        let opened = network::open(&self.description, self.weights.as_deref())?;
        let tensors = match opened.purpose().map_err(network::described)? {
            Purpose::Detection(task) => inference::tensors(&task, &opened.architecture, &opened.weights),
            Purpose::Segmentation(task) => inference::tensors(&task, &opened.architecture, &opened.weights),
        };
        let tensors = tensors.map_err(|error| network::work(&opened.weights, error))?;
        if let Some(folder) = &self.out {
            make_folder(folder).map_err(Failure::internal)?;
            // What libraries look for to know whose tensors these are.
            let metadata = Metadata::from([("format".to_owned(), "pt".to_owned())]);
            let bytes = safetensors::tensors_to_bytes(&tensors, &metadata).map_err(Failure::internal)?;
            write(&folder.join("model.safetensors"), &bytes).map_err(Failure::internal)?;
            write_json(&folder.join("desc.json"), &opened.describe()).map_err(Failure::internal)?;
            write(&folder.join("rebuild.py"), REBUILD.as_bytes()).map_err(Failure::internal)?;
            writeln!(out, "{}: model.safetensors, desc.json, rebuild.py", folder.display())?;
        }
        if let Some(file) = &self.onnx {
            let bytes = onnx::backbone(&opened.architecture, &tensors, opened.epsilon(), self.input);
            write(file, &bytes.map_err(network::onnx)?).map_err(Failure::internal)?;
            writeln!(out, "{}: the backbone, ONNX opset {}", file.display(), onnx::OPSET)?;
        }
        Ok(())
    }
}
