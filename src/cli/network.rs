//! What the subcommands that use a trained network have in common: the device as an argument, and whose fault a failure is.

use std::path::Path;

use spnas_actors::device::{Device, Place};

use super::Failure;
use crate::nn::NnError;
use crate::pipeline::PipelineError;
use crate::pipeline::described::Described;
use crate::weights::WeightsError;
use crate::weights::onnx::OnnxError;
use crate::workers::{WorkError, inference};

/// `cuda:N` or `cpu`.
pub(super) fn device(text: &str) -> Result<Place, String> {
    let ordinal = match text.strip_prefix("cuda") {
        Some("") => Some(0),
        Some(rest) => rest.strip_prefix(':').and_then(|ordinal| ordinal.parse().ok()),
        None if text == "cpu" => return Ok(Place::Cpu { index: 0 }),
        None => None,
    };
    let place = ordinal.map(|ordinal| Place::Cuda { ordinal });
    place.ok_or_else(|| "write cuda:0, another CUDA device, or cpu".to_owned())
}

/// How many images go through a network at once.
pub(super) fn batch(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=1024).contains(count));
    count.ok_or_else(|| "write a whole number from 1 to 1024".to_owned())
}

/// The device that was named, or else the first CUDA device, or else the processor.
pub(super) fn device_of(named: Option<Place>) -> Result<Device, Failure> {
    let place = named.unwrap_or_else(|| match crate::workers::cuda_devices() {
        0 => Place::Cpu { index: 0 },
        _ => Place::Cuda { ordinal: 0 },
    });
    inference::whole_device(place.clone()).map_err(|found| {
        Failure::input(format!("--device {place} is not there: {found} CUDA devices are visible; write --device cpu"))
    })
}

/// Reads a description.
pub(super) fn open(file: &Path, weights: Option<&Path>) -> Result<Described, Failure> {
    Described::open(file, weights).map_err(described)
}

/// A description or its weights are at fault.
pub(super) fn described(error: PipelineError) -> Failure {
    Failure::input(error)
}

/// A network that could not be built, filled or run; `file` is named where the error does not say which file is at fault.
pub(super) fn work(file: &Path, error: WorkError) -> Failure {
    match error {
        WorkError::Convert(error) => Failure::input(format!("{}: {error}", file.display())),
        WorkError::Nn(NnError::Torch(_)) | WorkError::Weights(WeightsError::Torch(_)) => Failure::internal(error),
        error => Failure::input(error),
    }
}

/// A backbone that could not be written as ONNX.
pub(super) fn onnx(error: OnnxError) -> Failure {
    match error {
        OnnxError::Torch(_) => Failure::internal(error),
        error => Failure::input(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_named_as_in_the_configuration() {
        assert_eq!(device("cpu"), Ok(Place::Cpu { index: 0 }));
        assert_eq!(device("cuda:3"), Ok(Place::Cuda { ordinal: 3 }));
        assert_eq!(device("cuda"), Ok(Place::Cuda { ordinal: 0 }));
        for wrong in ["", "gpu", "cuda:", "cuda:x", "cuda3", "cpu:1"] {
            assert!(device(wrong).is_err(), "{wrong}");
        }
    }
}
