//! What only a GPU can show: networks compute there what they do on the processor, a search trains there and is gone on with
//! after a kill, and a device that has no memory left says so. Without one each test says that it is skipped. Processes on
//! a GPU are in `tests/isolation.rs`.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::Architecture;
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{SerialBackbone, Stem};
use spnas::nn::detector::{Resize, RoiConfig, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, NnError, Target};
use spnas_actors::device::Place;
use spnas_actors::event::Event;
use spnas_actors::state::SearchState;
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

mod tiny;

use tiny::{Tiny, code, on_a_gpu};

/// What convolutions in TensorFloat-32, which cuDNN uses by itself, may be off by, as a share of the largest number: its
/// mantissa has 10 bits, and errors of a dozen layers add up.
const TF32: f64 = 0.02;

/// Asserts agreement as far as [`TF32`] goes.
fn close(what: &str, got: &Tensor, expected: &Tensor) {
    let got = got.to_device(Device::Cpu);
    assert_eq!(got.size(), expected.size(), "{what}");
    let worst = (got - expected).abs().max().double_value(&[]);
    let scale = expected.abs().max().double_value(&[]);
    assert!(worst <= TF32 * scale, "{what}: {worst} of {scale}");
}

/// A small detector of the weights that the seed gives, on a device.
fn detector(device: Device) -> (VarStore, FasterRcnn) {
    let sequence = Grammar::Vega.parse("1-2-21-2").unwrap();
    let backbone =
        SerialBackbone { sequence, block: "basic".parse().unwrap(), stem: Stem::SevenBySeven, base_width: 8 };
    let config = FasterRcnnConfig {
        num_classes: 3,
        transform: TransformConfig { resize: Resize::Keep, ..TransformConfig::default() },
        fpn_channels: 16,
        roi: RoiConfig { representation_size: 8, ..RoiConfig::default() },
        ..FasterRcnnConfig::default()
    };
    let store = VarStore::new(device);
    let architecture = Architecture::from(backbone);
    let model = FasterRcnn::new(store.root(), &architecture, &config, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
    (store, model)
}

#[test]
fn a_detector_computes_on_a_gpu_what_it_does_on_the_processor() {
    if on_a_gpu().is_none() {
        return;
    }
    compare(Device::Cuda(0));
}

fn compare(device: Device) {
    let [(on_cpu, reference), (on_gpu, model)] = [Device::Cpu, device].map(detector);
    for (name, variable) in on_cpu.variables() {
        tch::no_grad(|| on_gpu.variables()[&name].shallow_clone().copy_(&variable));
    }
    tch::manual_seed(1);
    let image = Tensor::rand([3, 96, 128], (Kind::Float, Device::Cpu));
    let pyramid = |model: &FasterRcnn, device| model.trace(&[image.to_device(device)]).unwrap().pyramid;
    for (level, (got, expected)) in pyramid(&model, device).iter().zip(pyramid(&reference, Device::Cpu)).enumerate() {
        close(&format!("level {level}"), got, &expected);
    }
    let losses = |model: &FasterRcnn, device| {
        let boxes = Tensor::from_slice(&[8_f32, 8.0, 40.0, 48.0]).view((1, 4)).to_device(device);
        let target = Target { boxes, labels: Tensor::from_slice(&[1_i64]).to_device(device) };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let total = model.losses(&[image.to_device(device)], &[target], &mut rng).unwrap().total().unwrap();
        total.backward();
        total
    };
    close("the loss", &losses(&model, device), &losses(&reference, Device::Cpu));
    let norm = |store: &VarStore| -> Tensor {
        let squares = store.trainable_variables().into_iter().map(|variable| variable.grad().square().sum(Kind::Float));
        Tensor::stack(&squares.collect::<Vec<_>>(), 0).sum(Kind::Float).sqrt()
    };
    close("the gradient's length", &norm(&on_gpu), &norm(&on_cpu));
}

#[test]
fn a_gpu_without_memory_left_is_told_apart_from_other_failures() {
    if on_a_gpu().is_none() {
        return;
    }
    // 64 TiB.
    let refused = Tensor::f_zeros([1 << 44], (Kind::Float, Device::Cuda(0))).unwrap_err();
    let said = refused.to_string();
    assert!(NnError::from(refused).is_out_of_memory(), "{said}");
    // The device is none the worse for it.
    let ones = Tensor::ones([1 << 20], (Kind::Float, Device::Cuda(0)));
    assert_eq!(ones.sum(Kind::Float).double_value(&[]), f64::from(1 << 20));
}

#[test]
fn a_search_on_a_gpu_is_gone_on_with_there_after_a_kill() {
    if let Some(gpu) = on_a_gpu() {
        search(gpu, "false", &Place::Cuda { ordinal: 0 });
    }
}

#[test]
fn a_search_in_mixed_precision_is_gone_on_with_after_a_kill() {
    if let Some(gpu) = on_a_gpu() {
        search(gpu, "true", &Place::Cuda { ordinal: 0 });
    }
}

fn search(devices: &str, amp: &str, place: &Place) {
    let tiny = Tiny::new();
    let amp = format!("serial.trainer.amp={amp}");
    let mut run = tiny.start_logged(tiny.run("gpu", &[devices, &amp]));
    tiny.until_reported("gpu", 4, &mut run);
    run.kill().unwrap();
    run.wait().unwrap();
    let before = tiny.transitions("gpu");
    let (exit, said) = code(&tiny.resume("gpu").output().unwrap());
    assert_eq!(exit, Some(0), "{said}");

    let rows = tiny.transitions("gpu");
    assert!(rows.starts_with(&before), "what was in the journal is there as it was");
    let (mut state, mut leases) = (SearchState::default(), 0);
    for row in &rows {
        state.apply(row).unwrap();
        match &row.event {
            Event::Leased(leased) => {
                assert_eq!(leased.device, *place);
                leases += 1;
            }
            Event::AttemptFailed(failed) => panic!("trial {}: {}", row.trial, failed.reason),
            _ => {}
        }
    }
    let counts = state.counts();
    assert_eq!((counts.proposed, counts.failed, counts.infeasible), (10, 0, 0));
    assert!(counts.finished >= 3 && leases > 10, "{counts:?}, {leases} leases");
}

#[test]
fn devices_that_are_hidden_are_not_there() {
    let tiny = Tiny::new();
    let mut run = tiny.run("hidden", &["general.devices=[cuda:0]"]);
    let (exit, said) = code(&run.env("CUDA_VISIBLE_DEVICES", "").output().unwrap());
    assert_eq!(exit, Some(2), "{said}");
    assert!(said.contains("general.devices names cuda:0, but no CUDA device is visible"), "{said}");
    assert!(said.contains("CUDA_VISIBLE_DEVICES is ``"), "{said}");
}
