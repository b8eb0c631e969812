//! The classifier against torchvision's ResNet under the same weights and images: logits, losses, gradients, running
//! statistics, names. The numbers come from `tests/reference/make_classifier_golden.py`.

#![expect(clippy::unwrap_used, reason = "a test")]

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::nn::{Classes, Classifier, ClassifierConfig};
use spnas::weights::Tensors;
use spnas::weights::safetensors::{Strictness, from_bytes, load};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const CLASSES: i64 = 7;

mod golden;

use golden::uniforms;

/// The script's `fill`.
fn fill(name: &str, shape: &[i64]) -> Tensor {
    let count: i64 = shape.iter().product();
    let bound = (6.0 / (count / shape[0]) as f64).sqrt();
    let value = |u: f64| {
        if shape.len() >= 2 && name.ends_with("weight") {
            (2.0 * u - 1.0) * bound
        } else if name.starts_with("image") {
            u
        } else if name.ends_with("weight") || name.ends_with("running_var") {
            0.75 + 0.5 * u
        } else {
            0.2 * (2.0 * u - 1.0)
        }
    };
    let values: Vec<f32> = uniforms(name, count).into_iter().map(|u| value(u) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

fn build(code: &str, block: BlockKind, base_width: u32, num_classes: i64) -> (VarStore, Classifier) {
    tch::set_num_threads(1);
    let sequence = Grammar::Vega.parse(code).unwrap();
    let arch = SerialBackbone { sequence, block, stem: Stem::SevenBySeven, base_width };
    let store = VarStore::new(Device::Cpu);
    let config = ClassifierConfig { num_classes, ..ClassifierConfig::default() };
    let model =
        Classifier::new(store.root(), &arch.clone().into(), &config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    (store, model)
}

fn variables(store: &VarStore) -> BTreeMap<String, Tensor> {
    store.variables().into_iter().collect()
}

fn close(name: &str, got: &Tensor, expected: &Tensor, tolerance: f64) {
    assert_eq!(got.size(), expected.size(), "{name}");
    let scale = expected.abs().max().double_value(&[]).max(1e-6);
    let worst = (got.to_kind(Kind::Float) - expected).abs().max().double_value(&[]) / scale;
    assert!(worst <= tolerance, "{name}: off by {worst:e} of the largest, {scale}");
}

fn check(name: &str, (store, model): (VarStore, Classifier), size: [i64; 4]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/classifier_golden.safetensors");
    let golden = from_bytes(&std::fs::read(path).unwrap()).unwrap().0;
    let golden = |part: &str| &golden[&format!("{name}.{part}")];
    let weights: Tensors =
        variables(&store).into_iter().map(|(name, of)| (name.clone(), fill(&name, &of.size()))).collect();
    load(&store, &weights, Strictness::Strict).unwrap();
    let images = fill(&format!("image.{name}"), &size) * 4 - 2;
    let labels = (Tensor::arange(size[0], (Kind::Int64, Device::Cpu)) * 3).remainder(CLASSES);
    let shares = fill(&format!("image.shares.{name}"), &[size[0], CLASSES]);
    let shares = &shares / shares.sum_dim_intlist([1i64].as_slice(), true, Kind::Float);

    let logits = model.logits(&images).unwrap();
    close("logits", &logits, golden("logits"), 1e-4);
    assert!(!logits.requires_grad());

    let loss = model.loss(&images, Classes::Hard(&labels), 0.1).unwrap();
    let is_running = |(name, of): (String, Tensor)| name.contains("running").then(|| of.sum(Kind::Double));
    let running: Vec<Tensor> = variables(&store).into_iter().filter_map(is_running).collect();
    close("running statistics after a step", &Tensor::stack(&running, 0), golden("running_sums"), 1e-5);
    loss.backward();
    let norm = |of: &Tensor| of.grad().to_kind(Kind::Double).norm().to_kind(Kind::Float);
    let norms: Vec<Tensor> = variables(&store).values().filter(|of| of.requires_grad()).map(norm).collect();
    let (norms, expected) = (Tensor::stack(&norms, 0), golden("gradient_norms"));
    assert!(norms.allclose(expected, 5e-4, 1e-6, false), "gradients: {norms:?}");

    let losses = [
        loss.detach(),
        model.loss(&images, Classes::Hard(&labels), 0.0).unwrap(),
        model.loss(&images, Classes::Soft(&shares), 0.0).unwrap(),
        model.loss(&images, Classes::Soft(&shares), 0.3).unwrap(),
    ];
    close("losses", &Tensor::stack(&losses, 0), golden("losses"), 1e-4);
    let after = model.logits(&images).unwrap();
    assert!(!after.allclose(&logits, 1e-3, 1e-3, false), "evaluation goes by the running statistics");
}

#[test]
fn a_narrow_resnet18_is_torchvisions() {
    check("basic", build("11-21-21-21", BlockKind::Basic, 8, CLASSES), [3, 3, 64, 48]);
}

#[test]
fn a_narrow_resnet50_is_torchvisions() {
    check("bottleneck", build("111-2111-211111-211", BlockKind::Bottleneck, 4, CLASSES), [2, 3, 96, 96]);
}

#[test]
fn the_standard_classifier_has_torchvisions_names_and_shapes() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/resnet18.json");
    let expected: BTreeMap<String, Vec<i64>> = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let (store, _) = build("11-21-21-21", BlockKind::Basic, 64, 1000);
    let got: BTreeMap<String, Vec<i64>> = variables(&store).into_iter().map(|(name, of)| (name, of.size())).collect();
    assert_eq!(got, expected);
}

#[test]
fn inputs_that_cannot_be_are_refused_by_name() {
    let (_, model) = build("1-2", BlockKind::Basic, 4, 3);
    let images = Tensor::zeros([2, 3, 32, 32], (Kind::Float, Device::Cpu));
    let labels = |values: &[i64]| Tensor::from_slice(values);
    let hard =
        |labels: &Tensor, smoothing| model.loss(&images, Classes::Hard(labels), smoothing).unwrap_err().to_string();
    for (error, expected) in [
        (hard(&labels(&[0, 3]), 0.0), "labels: expected within 0..3"),
        (hard(&labels(&[-1, 0]), 0.0), "labels: expected within 0..3"),
        (hard(&labels(&[0]), 0.0), "labels: expected int64 [2]"),
        (hard(&labels(&[0, 1]), 1.5), "label_smoothing"),
        (
            model.loss(&images, Classes::Soft(&images), 0.0).unwrap_err().to_string(),
            "soft labels: expected float [2, 3]",
        ),
        (model.logits(&images.get(0)).unwrap_err().to_string(), "images: expected float [N, 3, H, W]"),
        (model.logits(&images.to_kind(Kind::Int64)).unwrap_err().to_string(), "images: expected float"),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let sequence = Grammar::Vega.parse("1-2").unwrap();
    let arch = SerialBackbone { sequence, block: BlockKind::Basic, stem: Stem::SevenBySeven, base_width: 4 };
    let config = ClassifierConfig { num_classes: 0, ..ClassifierConfig::default() };
    let store = VarStore::new(Device::Cpu);
    let error =
        Classifier::new(store.root(), &arch.clone().into(), &config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap_err();
    assert!(error.to_string().contains("num_classes"));
}
