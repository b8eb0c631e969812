//! The graph, run by a small interpreter of ONNX on libtorch, makes the maps that the network makes.

use std::collections::BTreeMap;

use prost::Message as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, Side};
use super::*;
use crate::arch::grammar::Grammar;
use crate::arch::parallel::Parallel;
use crate::arch::serial::{BlockKind, SerialBackbone};
use crate::nn::detector::{Resize, TransformConfig};
use crate::nn::{FasterRcnn, FasterRcnnConfig, NormConfig};

fn architecture(code: &str, block: BlockKind, stem: Stem, parallel: Option<Parallel>) -> Architecture {
    let sequence = Grammar::Paper.parse(code).unwrap();
    Architecture { parallel, ..SerialBackbone { sequence, block, stem, base_width: 8 }.into() }
}

/// A detector, so that the graph is held against what really detects, with no scale and no statistic left as it starts.
fn detector(arch: &Architecture, epsilon: f64) -> (VarStore, FasterRcnn) {
    let config = FasterRcnnConfig {
        num_classes: 2,
        fpn_channels: 4,
        norm: NormConfig { epsilon, ..NormConfig::default() },
        transform: TransformConfig { resize: Resize::Keep, size_divisible: 1, ..TransformConfig::default() },
        ..FasterRcnnConfig::default()
    };
    let store = VarStore::new(Device::Cpu);
    let model = FasterRcnn::new(store.root(), arch, &config, &mut ChaCha8Rng::seed_from_u64(5)).unwrap();
    for (at, (name, mut tensor)) in store.variables().into_iter().collect::<BTreeMap<_, _>>().into_iter().enumerate() {
        if tensor.size().len() == 1 {
            let wave = (Tensor::arange(tensor.size()[0], (Kind::Float, Device::Cpu)) * 0.7 + at as f64).sin();
            let centre = if name.ends_with("running_mean") || name.ends_with("bias") { 0.0 } else { 0.8 };
            tch::no_grad(|| tensor.copy_(&(wave * 0.3 + centre)));
        }
    }
    (store, model)
}

/// Runs a graph by the words of ONNX's operator documents (opset 17) with libtorch's operators.
fn run(graph: &GraphProto, images: &Tensor) -> BTreeMap<String, Tensor> {
    let mut values: BTreeMap<String, Tensor> = BTreeMap::new();
    for constant in &graph.initializer {
        let floats: Vec<f32> =
            constant.raw_data.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
        values.insert(constant.name.clone(), Tensor::from_slice(&floats).view(&constant.dims[..]));
    }
    values.insert(graph.input[0].name.clone(), images.shallow_clone());
    for node in &graph.node {
        let inputs: Vec<&Tensor> = node
            .input
            .iter()
            .filter(|name| !name.is_empty())
            .map(|name| values.get(name).unwrap_or_else(|| panic!("{} is used before it is made", name)))
            .collect();
        let made = call(node, &inputs);
        assert!(values.insert(node.output[0].clone(), made).is_none(), "{} is made twice", node.output[0]);
    }
    values
}

fn call(node: &NodeProto, inputs: &[&Tensor]) -> Tensor {
    let attribute =
        |name: &str| -> &AttributeProto { node.attribute.iter().find(|attribute| attribute.name == name).unwrap() };
    let ints = |name: &str| &attribute(name).ints;
    let text = |name: &str| attribute(name).s.as_deref().unwrap();
    match node.op_type.as_str() {
        "Conv" => {
            let pads = ints("pads");
            assert_eq!(ints("kernel_shape")[..], inputs[1].size()[2..]);
            inputs[0].conv2d(
                inputs[1],
                None::<&Tensor>,
                &ints("strides")[..],
                &pads[..2],
                [1, 1],
                attribute("group").i.unwrap(),
            )
        }
        "BatchNormalization" => {
            let [x, scale, bias, mean, variance] = inputs[..] else { panic!("{} inputs", inputs.len()) };
            let by_channel = |tensor: &Tensor| tensor.view([1, -1, 1, 1]);
            let epsilon = f64::from(attribute("epsilon").f.unwrap());
            (x - by_channel(mean)) / (by_channel(variance) + epsilon).sqrt() * by_channel(scale) + by_channel(bias)
        }
        "Relu" => inputs[0].relu(),
        "Add" => {
            assert_eq!(inputs[0].size(), inputs[1].size());
            inputs[0] + inputs[1]
        }
        "MaxPool" => {
            inputs[0].max_pool2d(&ints("kernel_shape")[..], &ints("strides")[..], &ints("pads")[..2], [1, 1], false)
        }
        "Identity" => inputs[0].shallow_clone(),
        "Shape" => Tensor::from_slice(&inputs[0].size()),
        "Resize" => {
            assert_eq!(node.input[1..3], ["", ""]);
            assert_eq!(text("mode"), b"nearest");
            assert_eq!(
                (text("coordinate_transformation_mode"), text("nearest_mode")),
                (&b"asymmetric"[..], &b"floor"[..])
            );
            let to = Vec::<i64>::try_from(inputs[1]).unwrap();
            assert_eq!(to[..2], inputs[0].size()[..2]);
            let (from, mut map) = (inputs[0].size(), inputs[0].shallow_clone());
            for axis in [2, 3] {
                let index: Vec<i64> = (0..to[axis]).map(|at| at * from[axis] / to[axis]).collect();
                map = map.index_select(axis as i64, &Tensor::from_slice(&index));
            }
            map
        }
        other => panic!("operator {other}"),
    }
}

fn cases() -> Vec<(&'static str, Architecture)> {
    let parallel = |groups: &[u32], extra: &[u32], share| Some(Parallel::new(groups, extra, share).unwrap());
    let grouped = BlockKind::ResNeXt { groups: 4, width: 16 };
    vec![
        ("basic", architecture("11-21-2", BlockKind::Basic, Stem::SevenBySeven, None)),
        ("bottleneck", architecture("12-1-11-2-1", BlockKind::Bottleneck, Stem::TwoThreeByThree, None)),
        ("grouped", architecture("1-21-2-2", grouped, Stem::SevenBySeven, parallel(&[2, 1, 1], &[2, 1, 3], false))),
        (
            "own",
            architecture("1-2-21-2", BlockKind::Bottleneck, Stem::SevenBySeven, parallel(&[], &[1, 2, 3, 1], false)),
        ),
        ("shared", architecture("11-21-2", BlockKind::Basic, Stem::SevenBySeven, parallel(&[], &[2, 3, 1], true))),
        (
            "gap",
            architecture(
                "12-1-11-2-1",
                BlockKind::Basic,
                Stem::TwoThreeByThree,
                parallel(&[], &[2, 0, 1, 2, 2], false),
            ),
        ),
        ("serial after all", architecture("11-2", BlockKind::Basic, Stem::SevenBySeven, parallel(&[], &[0, 0], true))),
    ]
}

#[test]
fn the_graph_makes_the_maps_of_the_network() {
    for (name, arch) in cases() {
        let (store, model) = detector(&arch, 1e-3);
        let tensors: Tensors = store.variables().into_iter().collect();
        let model_file = ModelProto::decode(&backbone(&arch, &tensors, 1e-3, None).unwrap()[..]).unwrap();
        assert_eq!((model_file.ir_version, model_file.opset_import[0].version), (8, 17));
        let graph = model_file.graph.unwrap();
        let used = tensors.keys().filter(|tensor| tensor.starts_with("backbone.body.")).count();
        assert_eq!(graph.initializer.len(), used, "{name}: every tensor of the body once");
        // Sides that no stride divides: maps are rounded up, and the nearest pixel is not simply a doubling.
        let image = (Tensor::arange(3 * 45 * 70, (Kind::Float, Device::Cpu)) * 0.37).sin().abs().view([3, 45, 70]);
        let trace = model.trace(&[image]).unwrap();
        let values = run(&graph, &trace.batch);
        assert_eq!(graph.output.len(), trace.body.len(), "{name}");
        for (at, (output, expected)) in graph.output.iter().zip(&trace.body).enumerate() {
            assert_eq!(output.name, format!("stage{}", at + 1));
            let made = &values[&output.name];
            assert_eq!(made.size(), expected.size(), "{name}, {}", output.name);
            let scale = expected.abs().max().double_value(&[]).max(1.0);
            let apart = (made - expected).abs().max().double_value(&[]);
            assert!(apart <= 1e-5 * scale, "{name}, {}: {apart} apart at {scale}", output.name);
            assert!(expected.abs().max().double_value(&[]) > 1e-3, "{name}: a map of nothing");
        }
    }
}

#[test]
fn declared_shapes_are_those_of_the_maps() {
    let (_, arch) = cases().swap_remove(4);
    let (store, model) = detector(&arch, 1e-5);
    let tensors: Tensors = store.variables().into_iter().collect();
    let input = Some(InputSize::new(45, 70).unwrap());
    let bytes = backbone(&arch, &tensors, 1e-5, input).unwrap();
    let graph = ModelProto::decode(&bytes[..]).unwrap().graph.unwrap();
    let maps = model.trace(&[Tensor::zeros([3, 45, 70], (Kind::Float, Device::Cpu))]).unwrap().body;
    let shape = |value: &super::proto::ValueInfoProto| -> Vec<Side> {
        let tensor = value.r#type.clone().unwrap().tensor_type.unwrap();
        tensor.shape.unwrap().dim.into_iter().map(|dim| dim.value.unwrap()).collect()
    };
    let fixed = |size: &[i64]| -> Vec<Side> {
        let rest = size[1..].iter().map(|side| Side::Fixed(*side));
        std::iter::once(Side::Named("batch".to_owned())).chain(rest).collect()
    };
    assert_eq!(shape(&graph.input[0]), fixed(&[1, 3, 45, 70]));
    for (output, map) in graph.output.iter().zip(&maps) {
        assert_eq!(shape(output), fixed(&map.size()));
    }
    assert_eq!(bytes, backbone(&arch, &tensors, 1e-5, input).unwrap(), "the same network gives the same bytes");
}

#[test]
fn weights_of_another_network_are_refused_by_name() {
    let (_, arch) = cases().swap_remove(0);
    let (store, _) = detector(&arch, 1e-5);
    let mut tensors: Tensors = store.variables().into_iter().collect();
    let name = "backbone.body.layer2.0.bn1.running_var";
    tensors.insert(name.to_owned(), Tensor::zeros([3], (Kind::Float, Device::Cpu)));
    let text = backbone(&arch, &tensors, 1e-5, None).unwrap_err().to_string();
    assert_eq!(text, format!("tensor {name} of the weights: expected [16] by the architecture, got [3]"));
    tensors.remove(name);
    let text = backbone(&arch, &tensors, 1e-5, None).unwrap_err().to_string();
    assert!(text.contains(&format!("no tensor {name}")), "{text}");
}
