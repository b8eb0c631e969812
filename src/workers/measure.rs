//! What a network takes on its device: a built network of any task goes in, milliseconds and MiB come out.

mod allocator;
pub(crate) mod attempt;

use std::collections::BTreeMap;
use std::time::Instant;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use tch::nn::VarStore;
use tch::{Device, Tensor};

use super::task::{Task, Training};
use super::{WorkError, counted};
use crate::arch::Architecture;
use crate::arch::cost::{self, Bytes, InputSize};
use crate::nn::NnError;
use crate::search::constraint::Quantity;

/// Passes before the clock counts: libraries choose their kernels and allocators grow in the first ones.
const WARM_UP: usize = 3;
/// Passes that are timed; odd, so that the median is one of them.
const TIMED: usize = 11;

/// What has been measured of a network, in the quantities' own units.
pub(crate) type Measured = BTreeMap<Quantity, f64>;

/// Measures those of `wanted` that have to be measured, for one image of the size that multiply-adds are counted for.
///
/// # Errors
/// An architecture that cannot be counted, or libtorch's.
pub(crate) fn measured<T: Task>(
    (task, training): (&T, &Training),
    arch: &Architecture,
    (network, store): (&T::Network, &VarStore),
    wanted: impl IntoIterator<Item = Quantity>,
) -> Result<Measured, WorkError> {
    let mut measured = Measured::new();
    for quantity in wanted {
        let value = match quantity {
            Quantity::Latency => {
                let image = image(training.cost_input, store.device())?;
                latency_ms(store.device(), || task.forward(network, &image))?
            }
            Quantity::PeakMemory => {
                let image = image(training.cost_input, store.device())?;
                let forward = || tch::no_grad(|| task.forward(network, &image));
                let beside = match allocator::peak_beyond(store.device(), forward)? {
                    Some(bytes) => Bytes(bytes),
                    None => cost::architecture(arch, training.cost_input).map_err(counted)?.activation_bytes,
                };
                peak_memory_mib(store, beside)
            }
            Quantity::Flops | Quantity::Params | Quantity::Memory => continue,
        };
        measured.insert(quantity, value);
    }
    Ok(measured)
}

/// An image to measure with: `[3, height, width]`, seeded noise from 0 to 1. The same at each call, as what a detector does
/// after its backbone depends on what it sees.
///
/// # Errors
/// libtorch's, for want of memory above all.
pub(crate) fn image(size: InputSize, device: Device) -> Result<Tensor, NnError> {
    let (height, width) = (size.height(), size.width());
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let pixels: Vec<f32> = (0..3 * height as usize * width as usize).map(|_| rng.random::<f32>()).collect();
    let image = Tensor::f_from_slice(&pixels)?.f_view([3, i64::from(height), i64::from(width)])?;
    Ok(image.f_to_device(device)?)
}

/// The median time of a forward pass in milliseconds, after passes to warm up, with the device's queue empty at both ends
/// of each. No gradients are kept; the network is to be in evaluation mode. Other trials on the same processor are in
/// the measured time too.
///
/// # Errors
/// What `forward` returned.
pub(crate) fn latency_ms(device: Device, forward: impl Fn() -> Result<(), NnError>) -> Result<f64, NnError> {
    let pass = || -> Result<f64, NnError> {
        synchronize(device);
        let begun = Instant::now();
        forward()?;
        synchronize(device);
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    };
    tch::no_grad(|| {
        for _ in 0..WARM_UP {
            pass()?;
        }
        let mut times = (0..TIMED).map(|_| pass()).collect::<Result<Vec<f64>, _>>()?;
        times.sort_by(f64::total_cmp);
        Ok(times[TIMED / 2])
    })
}

/// Waits until the device has done all that it was asked for.
fn synchronize(device: Device) {
    if let Device::Cuda(ordinal) = device {
        tch::Cuda::synchronize(ordinal as i64);
    }
}

/// The memory that the network and what is beside it for one image take, in MiB: the sum of all tensors of `store` and of
/// `beside`, which is measured on CUDA devices and elsewhere an *estimate*, the outputs of the backbone's convolutions.
/// Counters of the process or of NVML would hold what trials beside this one and the allocator's cache hold.
pub(crate) fn peak_memory_mib(store: &VarStore, beside: Bytes) -> f64 {
    let tensors = store.variables();
    let bytes: usize = tensors.values().map(|tensor| tensor.numel() * tensor.kind().elt_size_in_bytes()).sum();
    Bytes(bytes as u64).mebibytes() + beside.mebibytes()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn the_median_is_taken_of_the_passes_after_the_warm_up() {
        let passes = Cell::new(0);
        let grads = Cell::new(false);
        let latency = latency_ms(Device::Cpu, || {
            passes.set(passes.get() + 1);
            let weight = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
            grads.set(grads.get() | (&weight * 2.0).requires_grad());
            Ok(())
        });
        assert!(latency.unwrap() >= 0.0);
        assert_eq!((passes.get(), grads.get()), (WARM_UP + TIMED, false));
    }

    #[test]
    fn a_pass_that_fails_ends_the_measurement() {
        let passes = Cell::new(0);
        let wrong = latency_ms(Device::Cpu, || {
            passes.set(passes.get() + 1);
            Ok(Tensor::from_slice(&[1.0f32]).f_view([7]).map(drop)?)
        });
        assert!(wrong.is_err());
        assert_eq!(passes.get(), 1);
    }

    #[test]
    fn memory_is_that_of_all_tensors_and_of_the_activations() {
        let store = VarStore::new(Device::Cpu);
        let _ = store.root().zeros("weight", &[256, 1024]);
        let _ = store.root().zeros_no_train("mean", &[256, 1024]);
        assert_eq!(peak_memory_mib(&store, Bytes(3 << 20)), 1.0 + 1.0 + 3.0);
    }

    #[test]
    fn the_image_is_the_same_each_time_and_within_its_range() {
        let size = InputSize::new(4, 6).unwrap();
        let first = image(size, Device::Cpu).unwrap();
        assert_eq!(first.size(), [3, 4, 6]);
        assert_eq!(first, image(size, Device::Cpu).unwrap());
        assert!(first.min().double_value(&[]) >= 0.0 && first.max().double_value(&[]) < 1.0);
    }
}
