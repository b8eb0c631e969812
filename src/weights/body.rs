//! A trained body put under a detector: what reignition's classifier has learnt goes back by name. In: the tensors of both
//! networks. Out: the detector's, with the classifier's body.

use super::safetensors::{LoadReport, WrongShape};
use super::{Tensors, WeightsError};

/// What all names of the body begin with, in detectors and classifiers.
const BODY: &str = "backbone.body.";

/// The tensors of a detector with its whole body, running statistics included, replaced by that of a classifier. Beside
/// the body everything stays the detector's; the classifier's head is left out. Both must have the same blocks, but the
/// stem may be another one (the paper's swap): it becomes the classifier's.
///
/// # Errors
/// [`WeightsError::Mismatch`] where the bodies differ in more than the stem.
pub fn replace_body(detector: &Tensors, classifier: &Tensors) -> Result<Tensors, WeightsError> {
    let mut report = LoadReport::default();
    for (name, old) in detector.iter().filter(|(name, _)| is_block(name)) {
        match classifier.get(name) {
            None => report.missing.push(name.clone()),
            Some(new) if new.size() != old.size() => {
                report.wrong_shape.push(WrongShape { name: name.clone(), expected: old.size(), got: new.size() });
            }
            Some(_) => {}
        }
    }
    let unknown = |name: &&String| is_block(name) && !detector.contains_key(*name);
    report.unexpected = classifier.keys().filter(unknown).cloned().collect();
    if !report.is_complete() {
        return Err(WeightsError::Mismatch(report));
    }
    let kept = detector.iter().filter(|(name, _)| !name.starts_with(BODY));
    let replaced = classifier.iter().filter(|(name, _)| name.starts_with(BODY));
    Ok(kept.chain(replaced).map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect())
}

/// Whether a tensor is of the body, but not of its stem.
fn is_block(name: &str) -> bool {
    let stem = |rest: &str| ["conv1.", "bn1.", "conv2.", "bn2."].iter().any(|part| rest.starts_with(part));
    name.strip_prefix(BODY).is_some_and(|rest| !stem(rest))
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind, Tensor};

    use super::*;

    fn tensors(of: &[(&str, i64)], value: f64) -> Tensors {
        let full = |size: i64| Tensor::full([size], value, (Kind::Float, Device::Cpu));
        of.iter().map(|(name, size)| ((*name).to_owned(), full(*size))).collect()
    }

    const DETECTOR: [(&str, i64); 5] = [
        ("backbone.body.conv1.weight", 2),
        ("backbone.body.layer1.0.conv1.weight", 3),
        ("backbone.body.layer1.0.bn1.running_mean", 3),
        ("backbone.fpn.inner_blocks.0.0.weight", 4),
        ("rpn.head.conv.0.0.weight", 5),
    ];

    #[test]
    fn the_body_is_the_classifiers_and_all_else_the_detectors() {
        let swapped = [("backbone.body.conv1.weight", 7), ("backbone.body.conv2.weight", 8)];
        let classifier: Vec<_> =
            swapped.into_iter().chain(DETECTOR[1..3].iter().copied()).chain([("fc.bias", 9)]).collect();
        let made = replace_body(&tensors(&DETECTOR, 1.0), &tensors(&classifier, 2.0)).unwrap();
        let expected: Vec<(&str, i64, f64)> = vec![
            ("backbone.body.conv1.weight", 7, 2.0),
            ("backbone.body.conv2.weight", 8, 2.0),
            ("backbone.body.layer1.0.bn1.running_mean", 3, 2.0),
            ("backbone.body.layer1.0.conv1.weight", 3, 2.0),
            ("backbone.fpn.inner_blocks.0.0.weight", 4, 1.0),
            ("rpn.head.conv.0.0.weight", 5, 1.0),
        ];
        let got: Vec<_> =
            made.iter().map(|(name, tensor)| (name.as_str(), tensor.size()[0], tensor.double_value(&[0]))).collect();
        assert_eq!(got, expected);
    }

    #[test]
    fn bodies_of_other_blocks_are_refused_and_named() {
        let mut other = DETECTOR;
        other[1].1 = 4;
        let error = replace_body(&tensors(&DETECTOR, 1.0), &tensors(&other, 2.0)).unwrap_err().to_string();
        assert!(error.contains("layer1.0.conv1.weight (expected [3], got [4])"), "{error}");
        let error = replace_body(&tensors(&DETECTOR, 1.0), &tensors(&DETECTOR[..2], 2.0)).unwrap_err().to_string();
        assert!(error.contains("1 missing: backbone.body.layer1.0.bn1.running_mean"), "{error}");
        let error = replace_body(&tensors(&DETECTOR[..2], 1.0), &tensors(&DETECTOR, 2.0)).unwrap_err().to_string();
        assert!(error.contains("1 unexpected: backbone.body.layer1.0.bn1.running_mean"), "{error}");
    }
}
