//! Times training steps and detections of the full-size detector (ResNet-50, FPN, 91 classes) inside one process, for
//! `benches/detector_step.py`, which does the same with torchvision on the same weights and images:
//! `detector_step WEIGHTS.pth THREADS REPEAT` prints the seconds of each step and detection as JSON. Without arguments, as
//! `cargo bench` and `cargo test` call it, it says how it is used.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]

use std::error::Error;
use std::path::Path;
use std::time::Instant;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use spnas::arch::grammar::Grammar;
use spnas::arch::serial::{BlockKind, SerialBackbone, Stem};
use spnas::nn::detector::{Resize, TransformConfig};
use spnas::nn::{FasterRcnn, FasterRcnnConfig, Target};
use spnas::train::optimizer::{Optimizer, OptimizerConfig};
use spnas::weights::safetensors::{self, Strictness};
use spnas::weights::{file, torchvision};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

/// Images a batch, and their side in pixels.
const BATCH: usize = 2;
const SIDE: i64 = 320;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [weights, threads, repeat] = arguments.as_slice() else {
        println!("run it by benches/detector_step.py");
        return Ok(());
    };
    tch::set_num_threads(threads.parse()?);
    let repeat: usize = repeat.parse()?;
    let (store, network) = network(weights.as_ref())?;
    let images: Vec<Tensor> = (0..BATCH as i64).map(image).collect();
    let targets: Vec<Target> = (0..BATCH).map(|_| target()).collect();
    let sgd = OptimizerConfig::Sgd { lr: 0.0, momentum: 0.9, weight_decay: 1e-4, nesterov: false };
    let mut optimizer = Optimizer::new(sgd, store.variables());
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut train = Vec::new();
    let mut detect = Vec::new();
    // The first of each warms up.
    for _ in 0..=repeat {
        let start = Instant::now();
        optimizer.zero_grad();
        network.losses(&images, &targets, &mut rng)?.total()?.f_backward()?;
        optimizer.step(1.0)?;
        train.push(start.elapsed().as_secs_f64());
    }
    for _ in 0..=repeat {
        let start = Instant::now();
        network.detect(&images)?;
        detect.push(start.elapsed().as_secs_f64());
    }
    println!("{}", serde_json::json!({ "train": train[1..], "detect": detect[1..], "peak_mib": peak_mib() }));
    Ok(())
}

fn network(weights: &Path) -> Result<(VarStore, FasterRcnn), Box<dyn Error>> {
    let sequence = Grammar::Vega.parse("111-2111-211111-211")?;
    let resnet50 = SerialBackbone { sequence, block: BlockKind::Bottleneck, stem: Stem::SevenBySeven, base_width: 64 };
    let resize = Resize::Within { shorter: vec![SIDE], longer: SIDE };
    let defaults = FasterRcnnConfig::default();
    let config = FasterRcnnConfig { transform: TransformConfig { resize, ..defaults.transform }, ..defaults };
    let store = VarStore::new(Device::Cpu);
    let network = FasterRcnn::new(store.root(), &resnet50.into(), &config, &mut ChaCha8Rng::seed_from_u64(0))?;
    let converted = torchvision::convert(&file::read(weights)?, &torchvision::shapes_of(&store))?;
    safetensors::load(&store, &converted.tensors, Strictness::Strict)?;
    Ok((store, network))
}

/// The same in both programs: `[3, SIDE, SIDE]`, waves that differ by channel and image.
fn image(number: i64) -> Tensor {
    let at = Tensor::arange(3 * SIDE * SIDE, (Kind::Float, Device::Cpu));
    ((at * (0.013 + 0.001 * number as f64)).sin() * 0.5 + 0.5).view([3, SIDE, SIDE])
}

fn target() -> Target {
    let boxes = [[20.0f32, 30.0, 120.0, 150.0], [150.0, 60.0, 300.0, 200.0], [40.0, 200.0, 100.0, 300.0]];
    Target { boxes: Tensor::from_slice(boxes.as_flattened()).view([3, 4]), labels: Tensor::from_slice(&[1i64, 17, 44]) }
}

/// The most memory that this process has had, as Linux tells it.
fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? / 1024.0)
}
