//! The network against an independent one in PyTorch under the same weights, images and masks
//! (`tests/reference/make_segmentation_golden.py`), and what holds for it at the edges.

use std::collections::BTreeMap;

use rand_chacha::rand_core::SeedableRng;
use tch::nn::VarStore;

use super::*;
use crate::arch::serial::SerialBackbone;
use crate::arch::serial::{Block, BlockId, BlockKind, SerialSequence, Stem};
use crate::nn::detector::golden::{close, fill as uniforms};
use crate::nn::detector::{Resize, TransformConfig};
use crate::weights::safetensors::{Strictness, from_bytes, load};
use crate::weights::{Tensors, WeightsError};

/// The script's `fill` for parameters and images.
fn fill(name: &str, shape: &[i64]) -> Tensor {
    let uniforms = uniforms(name, shape);
    if shape.len() >= 2 && name.ends_with("weight") {
        let fan_in: i64 = shape.iter().skip(1).product();
        (2.0 * uniforms - 1.0) * (6.0 / fan_in as f64).sqrt()
    } else if name.starts_with("image") {
        uniforms
    } else if name.ends_with("weight") || name.ends_with("running_var") {
        0.75 + 0.5 * uniforms
    } else {
        0.2 * (2.0 * uniforms - 1.0)
    }
}

/// The script's `mask_of`: blocks of 8 by 8 pixels, of which a sixth is ignored.
fn mask_of(name: &str, (height, width): (i64, i64)) -> Tensor {
    let blocks = uniforms(name, &[(height + 7) / 8, (width + 7) / 8]).to_kind(Kind::Double) * 6.0;
    let blocks = blocks.floor().to_kind(Kind::Int64);
    let blocks = blocks.where_scalarother(&blocks.ne(5), 255);
    let pixels = blocks.repeat_interleave_self_int(8, 0, None).repeat_interleave_self_int(8, 1, None);
    pixels.narrow(0, 0, height).narrow(1, 0, width)
}

fn backbone(depths: &[u32], block: BlockKind) -> SerialBackbone {
    let mut blocks = Vec::new();
    for (stage, &depth) in depths.iter().enumerate() {
        for at in 0..depth {
            let opens = at == 0 && stage > 0;
            blocks.push(Block { id: BlockId(blocks.len() as u32), down_samples: opens, doubles: opens });
        }
    }
    SerialBackbone { sequence: SerialSequence::new(blocks).unwrap(), block, stem: Stem::SevenBySeven, base_width: 8 }
}

fn config(resize: Resize, size_divisible: i64) -> SemanticFpnConfig {
    SemanticFpnConfig {
        num_classes: 5,
        transform: TransformConfig { resize, size_divisible, ..TransformConfig::default() },
        fpn_channels: 16,
        head_channels: 24,
        ..SemanticFpnConfig::default()
    }
}

fn network(arch: &SerialBackbone, config: &SemanticFpnConfig) -> (VarStore, SemanticFpn) {
    tch::set_num_threads(1);
    let store = VarStore::new(Device::Cpu);
    let network =
        SemanticFpn::new(store.root(), &arch.clone().into(), config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    (store, network)
}

fn filled(store: &VarStore) -> std::result::Result<(), WeightsError> {
    let variables = store.variables();
    let filled = |(name, variable): (&String, &Tensor)| (name.clone(), fill(name, &variable.size()));
    load(store, &variables.iter().map(filled).collect::<Tensors>(), Strictness::Strict).map(drop)
}

fn agrees(case: &str, arch: &SerialBackbone, config: &SemanticFpnConfig, sizes: &[(i64, i64)]) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/segmentation_golden.safetensors");
    let (golden, _) = from_bytes(&std::fs::read(path).unwrap()).unwrap();
    let golden = |name: &str| &golden[&format!("{case}.{name}")];
    let (store, network) = network(arch, config);
    filled(&store).unwrap();
    let of = |what: &str, at: usize| format!("{what}.{case}.{at}");
    let images: Vec<Tensor> =
        sizes.iter().enumerate().map(|(at, size)| fill(&of("image", at), &[3, size.0, size.1])).collect();
    let masks: Vec<Tensor> = sizes.iter().enumerate().map(|(at, &size)| mask_of(&of("mask", at), size)).collect();

    let logits = network.logits(&images).unwrap();
    close("logits", &logits.slice(2, None, None, 7).slice(3, None, None, 5), golden("logits"), 1e-4);
    let sums = logits.sum_dim_intlist([2i64, 3].as_slice(), false, Kind::Double).to_kind(Kind::Float);
    close("sums of the logits", &sums, golden("logit_sums"), 1e-4);
    for (at, (map, size)) in network.segment(&images).unwrap().iter().zip(sizes).enumerate() {
        assert_eq!((map.size(), map.kind()), (vec![size.0, size.1], Kind::Int64));
        let map = map.slice(0, None, None, 3).slice(1, None, None, 2);
        let wrong = map.ne_tensor(golden(&format!("classes.{at}"))).to_kind(Kind::Float).mean(Kind::Float);
        // Where two classes score alike, rounding decides.
        assert!(wrong.double_value(&[]) < 2e-3, "map {at}: {wrong}");
    }

    let loss = network.losses(&images, &masks, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    close("loss", &loss.view([1]), golden("loss"), 1e-4);
    loss.backward();
    let trained: BTreeMap<String, Tensor> =
        store.variables().into_iter().filter(|(_, variable)| variable.requires_grad()).collect();
    let norms: Vec<Tensor> =
        trained.values().map(|variable| variable.grad().to_kind(Kind::Double).norm().to_kind(Kind::Float)).collect();
    assert_eq!(norms.len() as i64, golden("gradient_norms").size()[0]);
    for (at, (name, norm)) in trained.keys().zip(&norms).enumerate() {
        close(&format!("norm of the gradient of {name}"), norm, &golden("gradient_norms").get(at as i64), 2e-4);
    }
    for name in ["seg_head.predictor.weight", "seg_head.scale_heads.2.1.conv.weight", "backbone.body.conv1.weight"] {
        close(name, &trained[name].grad(), golden(&format!("gradient.{name}")), 1e-4);
    }
}

#[test]
fn four_stages_agree_with_pytorch_on_images_of_two_sizes() {
    let resize = Resize::Within { shorter: vec![72], longer: 120 };
    agrees("four", &backbone(&[2, 1, 1, 1], BlockKind::Basic), &config(resize, 32), &[(60, 80), (90, 64)]);
}

#[test]
fn five_stages_agree_with_pytorch_at_a_size_that_the_strides_do_not_divide() {
    let arch = backbone(&[1, 2, 1, 1, 1], BlockKind::ResNeXt { groups: 4, width: 16 });
    agrees("five", &arch, &config(Resize::Keep, 1), &[(72, 104); 2]);
}

#[test]
fn any_number_of_stages_gives_a_class_for_every_pixel() {
    for (depths, size) in [(&[1][..], (33, 47)), (&[1; 2], (64, 64)), (&[1; 7], (97, 130))] {
        let (store, network) = network(&backbone(depths, BlockKind::Basic), &config(Resize::Keep, 1));
        let map = network.segment(&[fill("image", &[3, size.0, size.1])]).unwrap().remove(0);
        assert_eq!(map.size(), [size.0, size.1]);
        let last = format!("seg_head.scale_heads.{}.{}.conv.weight", depths.len() - 1, depths.len().max(2) - 2);
        assert!(store.variables().contains_key(&last), "{last}");
    }
}

#[test]
fn ignored_pixels_and_padding_do_not_count() {
    let resize = Resize::Keep;
    let (store, mut network) = network(&backbone(&[1; 3], BlockKind::Basic), &config(resize, 32));
    filled(&store).unwrap();
    network.set_training(false);
    let loss = |mask: &Tensor| {
        let image = fill("image", &[3, 40, 64]);
        let loss = network.losses(&[image], &[mask.shallow_clone()], &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
        loss.double_value(&[])
    };
    let full = mask_of("mask", (40, 64));
    let half = full.copy();
    let _ = half.narrow(1, 32, 32).fill_(255);
    let other_half = full.copy();
    let _ = other_half.narrow(1, 0, 32).fill_(255);
    let pixels = |mask: &Tensor| mask.ne(255).sum(Kind::Double).double_value(&[]);
    let parts = loss(&half) * pixels(&half) + loss(&other_half) * pixels(&other_half);
    assert!((parts / pixels(&full) / loss(&full) - 1.0).abs() < 1e-5, "the mean is over the pixels that count");
    assert_eq!(loss(&full.full_like(255)), 0.0, "nothing to learn from");
}

#[test]
fn a_few_steps_learn_where_a_square_is() {
    let arch = backbone(&[1; 3], BlockKind::Basic);
    let (store, network) = network(&arch, &SemanticFpnConfig { num_classes: 2, ..config(Resize::Keep, 1) });
    let mask = Tensor::zeros([48, 48], (Kind::Int64, Device::Cpu));
    let _ = mask.narrow(0, 8, 24).narrow(1, 16, 24).fill_(1);
    let image = mask.to_kind(Kind::Float).unsqueeze(0).repeat([3, 1, 1]) * 0.8;
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut steps = Vec::new();
    for _ in 0..30 {
        let loss = network.losses(&[image.copy(), image.copy()], &[mask.copy(), mask.copy()], &mut rng).unwrap();
        loss.backward();
        steps.push(loss.double_value(&[]));
        tch::no_grad(|| {
            for mut variable in store.trainable_variables() {
                let _ = variable.f_sub_(&(variable.grad() * 0.1)).unwrap();
                variable.zero_grad();
            }
        });
    }
    assert!((steps[0] - 2f64.ln()).abs() < 0.05, "both classes are about as likely at the start: {}", steps[0]);
    assert!(steps[29] < 0.2 * steps[0], "{steps:?}");
    let right = network.segment(&[image]).unwrap()[0].eq_tensor(&mask).to_kind(Kind::Float).mean(Kind::Float);
    assert!(right.double_value(&[]) > 0.9, "{right}");
}

#[test]
fn impossible_inputs_and_settings_are_refused_by_name() {
    let arch = backbone(&[1; 2], BlockKind::Basic);
    let (_, network) = network(&arch, &config(Resize::Keep, 1));
    let image = || vec![Tensor::zeros([3, 32, 32], (Kind::Float, Device::Cpu))];
    let mask = |size: [i64; 2], kind| Tensor::zeros(size, (kind, Device::Cpu));
    let refused =
        |masks: &[Tensor]| network.losses(&image(), masks, &mut ChaCha8Rng::seed_from_u64(0)).unwrap_err().to_string();
    assert!(refused(&[]).contains("images"));
    assert!(refused(&[mask([32, 31], Kind::Int64)]).contains("mask 0: expected [32, 32] int64"));
    assert!(refused(&[mask([32, 32], Kind::Float)]).contains("mask 0"));
    assert!(refused(&[mask([32, 32], Kind::Int64) + 5]).contains("0 to 4 or the ignored 255"));
    assert!(network.segment(&[]).unwrap().is_empty());

    let error = |config: SemanticFpnConfig| {
        let store = VarStore::new(Device::Cpu);
        let built = SemanticFpn::new(store.root(), &arch.clone().into(), &config, &mut ChaCha8Rng::seed_from_u64(0));
        built.unwrap_err().to_string()
    };
    let base = config(Resize::Keep, 1);
    assert!(error(SemanticFpnConfig { num_classes: 1, ..base.clone() }).contains("num_classes"));
    assert!(error(SemanticFpnConfig { head_channels: 0, ..base.clone() }).contains("head_channels"));
    let transform = TransformConfig { size_divisible: 0, ..base.transform.clone() };
    assert!(error(SemanticFpnConfig { transform, ..base }).contains("transform.size_divisible"));
}
