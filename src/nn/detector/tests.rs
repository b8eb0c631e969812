//! The whole detector on small synthetic images.

use rand::RngExt;
use rand_chacha::rand_core::SeedableRng;
use tch::nn::{Adam, OptimizerConfig, VarStore};
use tch::{Kind, TchError};

use super::*;
use crate::arch::serial::{Block, BlockId, BlockKind, SerialBackbone, SerialSequence, Stem};
use crate::nn::{BatchNormMode, NormConfig};

/// One block a stage, each stage twice as wide.
fn backbone(stages: u32, block: BlockKind, stem: Stem) -> SerialBackbone {
    let block_of = |at: u32| Block { id: BlockId(at), down_samples: at > 0, doubles: at > 0 };
    let sequence = SerialSequence::new((0..stages).map(block_of).collect()).unwrap();
    SerialBackbone { sequence, block, stem, base_width: 8 }
}

fn config() -> FasterRcnnConfig {
    FasterRcnnConfig {
        num_classes: 3,
        transform: TransformConfig { resize: Resize::Keep, ..TransformConfig::default() },
        fpn_channels: 16,
        anchors: AnchorConfig { base_size: 12.0, ..AnchorConfig::default() },
        rpn: RpnConfig {
            training: TopN { pre_nms: 200, post_nms: 100 },
            testing: TopN { pre_nms: 100, post_nms: 50 },
            ..RpnConfig::default()
        },
        roi: RoiConfig { representation_size: 32, batch_size_per_image: 64, ..RoiConfig::default() },
        ..FasterRcnnConfig::default()
    }
}

/// A grey image with one bright square, red or green by class.
fn scene(rng: &mut ChaCha8Rng, size: i64) -> (Tensor, Target) {
    let (x, y, side) = (rng.random_range(0..size / 2), rng.random_range(0..size / 2), rng.random_range(12..size / 2));
    let label: i64 = rng.random_range(1..3);
    let image = Tensor::full([3, size, size], 0.4, (Kind::Float, Device::Cpu));
    let _ = image.get(label - 1).narrow(0, y, side).narrow(1, x, side).fill_(1.0);
    let boxes = Tensor::from_slice(&[x as f32, y as f32, (x + side) as f32, (y + side) as f32]).view((1, 4));
    (image, Target { boxes, labels: Tensor::from_slice(&[label]) })
}

fn build(stages: u32, block: BlockKind, stem: Stem, config: &FasterRcnnConfig) -> (VarStore, FasterRcnn) {
    // One thread: the maps are tiny, and tests run beside each other.
    tch::set_num_threads(1);
    let store = VarStore::new(Device::Cpu);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let model = FasterRcnn::new(store.root(), &backbone(stages, block, stem).into(), config, &mut rng).unwrap();
    (store, model)
}

#[test]
fn it_learns_to_find_squares() {
    let (store, model) = build(4, BlockKind::Basic, Stem::SevenBySeven, &config());
    let mut optimiser = Adam::default().build(&store, 2e-3).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut seen = Vec::new();
    for _ in 0..100 {
        let (images, targets): (Vec<_>, Vec<_>) = (0..4).map(|_| scene(&mut rng, 64)).unzip();
        let loss = model.losses(&images, &targets, &mut rng).unwrap().total().unwrap();
        optimiser.backward_step(&loss);
        seen.push(loss.double_value(&[]));
    }
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    assert!(mean(&seen[90..]) < 0.6 * mean(&seen[..5]), "{seen:?}");
    let (images, targets): (Vec<_>, Vec<_>) = (0..8).map(|_| scene(&mut rng, 64)).unzip();
    let found = model.detect(&images).unwrap();
    let best = found.iter().zip(&targets).map(|(found, target)| {
        assert!(found.scores.numel() > 0);
        boxes::iou(&found.boxes.narrow(0, 0, 1), &target.boxes).unwrap().double_value(&[])
    });
    let best: Vec<f64> = best.collect();
    assert!(mean(&best) > 0.4, "overlaps of the best detections: {best:?}");
}

#[test]
fn every_kind_of_backbone_gives_finite_losses_and_gradients() {
    let resnext = BlockKind::ResNeXt { groups: 4, width: 16 };
    for (stages, block, stem) in [
        (4, BlockKind::Bottleneck, Stem::TwoThreeByThree),
        (5, resnext, Stem::SevenBySeven),
        (6, BlockKind::Basic, Stem::TwoThreeByThree),
        (1, BlockKind::Basic, Stem::SevenBySeven),
    ] {
        let (store, model) = build(stages, block, stem, &config());
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let (images, targets): (Vec<_>, Vec<_>) = [64, 96].into_iter().map(|size| scene(&mut rng, size)).unzip();
        let loss = model.losses(&images, &targets, &mut rng).unwrap().total().unwrap();
        assert!(loss.double_value(&[]).is_finite());
        loss.backward();
        for (name, variable) in store.variables() {
            if variable.requires_grad() {
                assert!(variable.grad().defined(), "{name} has no gradient");
                assert!(bool::try_from(variable.grad().isfinite().all()).unwrap(), "{name}");
            }
        }
    }
}

#[test]
fn images_without_objects_train_and_the_same_seed_gives_the_same_losses() {
    let empty = || Target {
        boxes: Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)),
        labels: Tensor::zeros([0], (Kind::Int64, Device::Cpu)),
    };
    let (_, model) = build(4, BlockKind::Basic, Stem::SevenBySeven, &config());
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (image, target) = scene(&mut rng, 64);
    let other = Tensor::full([3, 64, 64], 0.4, (Kind::Float, Device::Cpu));
    let losses = |targets: &[Target]| {
        let images = [image.shallow_clone(), other.shallow_clone()];
        let losses = model.losses(&images, targets, &mut ChaCha8Rng::seed_from_u64(9)).unwrap();
        losses.total().unwrap().double_value(&[])
    };
    assert!(losses(&[empty(), empty()]).is_finite());
    let copy = || Target { boxes: target.boxes.shallow_clone(), labels: target.labels.shallow_clone() };
    assert_eq!(losses(&[copy(), empty()]), losses(&[copy(), empty()]));
}

#[test]
fn frozen_normalisation_has_no_trained_scale_and_leaves_the_running_statistics() {
    let (store, model) = build(
        2,
        BlockKind::Basic,
        Stem::SevenBySeven,
        &FasterRcnnConfig { norm: NormConfig { mode: BatchNormMode::Frozen, ..NormConfig::default() }, ..config() },
    );
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (image, target) = scene(&mut rng, 64);
    model.losses(&[image], &[target], &mut rng).unwrap();
    for (name, variable) in store.variables() {
        let normalises = name.contains(".bn") || name.contains("downsample.1");
        assert_eq!(variable.requires_grad(), !normalises, "{name}");
        if name.ends_with("running_mean") {
            assert_eq!(variable.abs().max().double_value(&[]), 0.0);
        }
    }
}

#[test]
fn wrong_inputs_are_errors() {
    let (_, model) = build(2, BlockKind::Basic, Stem::SevenBySeven, &config());
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut refused = |image: Tensor, boxes: &[f32], labels: &[i64]| {
        let boxes = Tensor::from_slice(boxes).view((-1, 4));
        let target = Target { boxes, labels: Tensor::from_slice(labels) };
        model.losses(&[image], &[target], &mut rng).unwrap_err().to_string()
    };
    let image = || Tensor::zeros([3, 64, 64], (Kind::Float, Device::Cpu));
    assert!(refused(image().get(0), &[0., 0., 4., 4.], &[1]).starts_with("image 0: expected [3, H, W]"));
    assert!(refused(image().to_kind(Kind::Double), &[0., 0., 4., 4.], &[1]).contains("Double"));
    assert!(refused(image(), &[0., 0., 4., 4.], &[1, 2]).starts_with("target 0"));
    assert!(refused(image(), &[4., 0., 4., 4.], &[1]).contains("degenerate"));
    assert!(refused(image(), &[f32::NAN, 0., 4., 4.], &[1]).contains("degenerate"));
    assert!(refused(image(), &[0., 0., f32::INFINITY, 4.], &[1]).contains("degenerate"));
    assert!(refused(image(), &[0., 0., 40., 40.], &[3]).contains("1..3"));
    assert!(model.losses(&[image()], &[], &mut ChaCha8Rng::seed_from_u64(2)).is_err());
    assert!(model.detect(&[Tensor::zeros([1, 64, 64], (Kind::Float, Device::Cpu))]).is_err());
    assert!(model.detect(&[]).unwrap().is_empty());
}

#[test]
fn detections_come_back_in_the_pixels_of_the_image_as_given() {
    let resize = Resize::Within { shorter: vec![64], longer: 200 };
    let config = FasterRcnnConfig {
        transform: TransformConfig { resize, ..TransformConfig::default() },
        roi: RoiConfig { score_threshold: 0.0, ..config().roi },
        ..config()
    };
    let (_, model) = build(3, BlockKind::Basic, Stem::SevenBySeven, &config);
    let image = Tensor::rand([3, 300, 500], (Kind::Float, Device::Cpu));
    let found = &model.detect(&[image]).unwrap()[0];
    let (right, bottom) = (found.boxes.select(1, 2), found.boxes.select(1, 3));
    assert!(found.scores.numel() > 0);
    assert!(right.max().double_value(&[]) > 200.0 && right.max().double_value(&[]) <= 500.01);
    assert!(bottom.max().double_value(&[]) <= 300.01);
}

#[test]
fn out_of_memory_is_told_apart() {
    let error = NnError::from(TchError::Torch("CUDA out of memory. Tried to allocate 2 GiB".to_owned()));
    assert!(error.is_out_of_memory());
    assert!(!NnError::Architecture("too deep".to_owned()).is_out_of_memory());
}

#[test]
fn without_any_proposal_it_still_trains_and_detects_nothing() {
    let config = FasterRcnnConfig { rpn: RpnConfig { min_size: 1e6, ..config().rpn }, ..config() };
    let (store, model) = build(3, BlockKind::Basic, Stem::SevenBySeven, &config);
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (image, target) = scene(&mut rng, 64);
    let empty = Target {
        boxes: Tensor::zeros([0, 4], (Kind::Float, Device::Cpu)),
        labels: Tensor::zeros([0], (Kind::Int64, Device::Cpu)),
    };
    for target in [target, empty] {
        let losses = model.losses(&[image.shallow_clone()], &[target], &mut rng).unwrap();
        losses.total().unwrap().backward();
        assert!(losses.total().unwrap().double_value(&[]).is_finite());
    }
    assert!(store.trainable_variables().iter().all(|variable| variable.grad().defined()));
    assert_eq!(model.detect(&[image]).unwrap()[0].scores.numel(), 0);
}

#[test]
fn a_map_of_one_place_does_not_spoil_the_running_statistics() {
    let (store, model) = build(5, BlockKind::Basic, Stem::SevenBySeven, &config());
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let (image, target) = scene(&mut rng, 64);
    model.losses(&[image], &[target], &mut rng).unwrap();
    assert!(store.variables().values().all(|variable| bool::try_from(variable.isfinite().all()).unwrap()));
}

#[test]
fn the_shorter_side_is_drawn_while_training_and_the_longer_one_is_bounded() {
    let sizes = |draw: Draw, image: (i64, i64)| {
        let resize = Resize::Within { shorter: vec![600, 700, 800], longer: 1333 };
        let transform = Transform::new(&TransformConfig { resize, ..TransformConfig::default() }, Device::Cpu).unwrap();
        let image = Tensor::zeros([3, image.0, image.1], (Kind::Float, Device::Cpu));
        transform.batch(&[image], draw).unwrap().sizes[0]
    };
    // torchvision's: scale = min(800 / shorter, 1333 / longer), sizes rounded down.
    assert_eq!(sizes(Draw::Last, (480, 640)), (800, 1066));
    assert_eq!(sizes(Draw::Last, (300, 900)), (444, 1333));
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let drawn: std::collections::BTreeSet<i64> = (0..20).map(|_| sizes(Draw::Random(&mut rng), (60, 60)).0).collect();
    assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [600, 700, 800]);
}

#[test]
fn a_detector_can_be_handed_to_another_thread() {
    fn sendable<T: Send>() {}
    sendable::<FasterRcnn>();
    sendable::<Detections>();
}
