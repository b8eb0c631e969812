//! Tests of the conversion on small networks' names and shapes; whole files are in `tests/torchvision_files.rs`.

use tch::{Device, Tensor};

use super::*;

fn shapes(names: &[(&str, &[i64])]) -> Shapes {
    names.iter().map(|&(name, shape)| (name.to_owned(), shape.to_vec())).collect()
}

fn tensors(names: &[(&str, &[i64])]) -> Tensors {
    let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, Device::Cpu));
    names.iter().map(|&(name, shape)| (name.to_owned(), zeros(shape))).collect()
}

/// A network with one tensor of each part.
fn network() -> Shapes {
    shapes(&[
        ("backbone.body.conv1.weight", &[4, 3, 7, 7]),
        ("backbone.body.layer1.0.bn1.bias", &[4]),
        ("backbone.fpn.inner_blocks.0.0.weight", &[8, 4, 1, 1]),
        ("rpn.head.conv.0.0.weight", &[8, 8, 3, 3]),
    ])
}

fn old_detector() -> Vec<(&'static str, &'static [i64])> {
    vec![
        ("backbone.body.conv1.weight", &[4, 3, 7, 7]),
        ("backbone.body.layer1.0.bn1.bias", &[4]),
        ("backbone.body.layer1.0.bn1.num_batches_tracked", &[]),
        ("backbone.fpn.inner_blocks.0.weight", &[8, 4, 1, 1]),
        ("rpn.head.conv.weight", &[8, 8, 3, 3]),
    ]
}

#[test]
fn a_detector_in_the_old_spelling_fills_the_network() {
    let converted = convert(&tensors(&old_detector()), &network()).unwrap();
    assert_eq!(converted.content, Content::Detector);
    assert!(converted.tensors.keys().eq(network().keys()));
    assert_eq!(converted.sources["rpn.head.conv.0.0.weight"], "rpn.head.conv.weight");
    assert_eq!(converted.passed_over, ["backbone.body.layer1.0.bn1.num_batches_tracked"]);
    assert!(converted.absent.is_empty());
}

#[test]
fn a_classifier_fills_the_backbone() {
    let file =
        [("module.conv1.weight", &[4, 3, 7, 7][..]), ("module.layer1.0.bn1.bias", &[4]), ("module.fc.bias", &[10])];
    let converted = convert(&tensors(&file), &network()).unwrap();
    assert_eq!(converted.content, Content::Classifier);
    assert_eq!(converted.tensors.len(), 2);
    assert_eq!(converted.passed_over, ["module.fc.bias"]);
    assert_eq!(converted.absent, ["backbone.fpn.inner_blocks.0.0.weight", "rpn.head.conv.0.0.weight"]);

    let classifier = shapes(&[
        ("backbone.body.conv1.weight", &[4, 3, 7, 7]),
        ("backbone.body.layer1.0.bn1.bias", &[4]),
        ("fc.bias", &[10]),
    ]);
    assert_eq!(convert(&tensors(&file), &classifier).unwrap().tensors.len(), 3);
}

#[test]
fn everything_that_does_not_fit_is_named() {
    let file = [
        ("backbone.body.conv1.weight", &[4, 3, 3, 3][..]),
        ("backbone.body.layers.0.0.block.0.batch1.bias", &[4]),
        ("backbone.body.layer1.0.bn1.bias", &[4]),
        ("backbone.fpn.inner_blocks.0.weight", &[8, 4, 1, 1]),
        ("roi_heads.mask_head.bias", &[1]),
        ("fc.bias", &[1]),
    ];
    let mut raw = tensors(&file);
    let integers = raw["backbone.fpn.inner_blocks.0.weight"].to_kind(Kind::Int64);
    raw.insert("backbone.fpn.inner_blocks.0.weight".to_owned(), integers);
    let error = convert(&raw, &network()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the file's tensors are not the network's: 1 of another shape: backbone.body.conv1.weight [4, 3, 3, 3] in the \
         file, backbone.body.conv1.weight [4, 3, 7, 7] in the network; 1 of no floating-point kind: \
         backbone.fpn.inner_blocks.0.weight (Int64); 1 given twice: backbone.body.layer1.0.bn1.bias and \
         backbone.body.layers.0.0.block.0.batch1.bias for backbone.body.layer1.0.bn1.bias; 2 left over in the file: \
         fc.bias, roi_heads.mask_head.bias; 1 missing from the file: rpn.head.conv.0.0.weight"
    );
}

#[test]
fn a_wrong_shape_names_the_key_in_the_file_too() {
    let mut file = old_detector();
    file[4].1 = &[8, 8, 1, 1];
    let error = convert(&tensors(&file), &network()).unwrap_err();
    let [wrong] = &error.wrong_shape[..] else { panic!("{error}") };
    assert_eq!((wrong.source.as_str(), wrong.target.as_str()), ("rpn.head.conv.weight", "rpn.head.conv.0.0.weight"));
    assert_eq!((&wrong.got[..], &wrong.expected[..]), (&[8, 8, 1, 1][..], &[8, 8, 3, 3][..]));
    assert!(error.missing.is_empty());
}

#[test]
fn no_tensors_or_no_body_is_an_error() {
    assert_eq!(convert(&Tensors::new(), &network()).unwrap_err().missing.len(), 2);
    let lacking = convert(&tensors(&[("conv1.weight", &[4, 3, 7, 7])]), &network()).unwrap_err();
    assert_eq!(lacking.missing, ["backbone.body.layer1.0.bn1.bias"]);
}
