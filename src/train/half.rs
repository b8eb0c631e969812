//! Mixed precision: convolutions and products of matrices in bfloat16, everything else in single precision. A device comes
//! in, and a piece of work that runs in it. The other side is `half.cpp`, which the build script compiles.
//!
//! libtorch's own choice on CUDA devices is half precision (IEEE binary16), whose least positive number is 6e-8: gradients
//! below it are lost unless losses are scaled up, and scaled losses overflow (Micikevicius et al. 2018, "Mixed Precision
//! Training", section 3.2). bfloat16 has single precision's range (Kalamkar et al. 2019, "A Study of BFLOAT16 for Deep
//! Learning Training") and needs no scale.

use std::sync::OnceLock;

use tch::Device;

use crate::gpus::Gpus;

#[cfg(spnas_bindings)]
#[expect(unsafe_code, reason = "a foreign function can be declared in no other way; this one gives an integer alone")]
mod foreign {
    use std::ffi::c_int;

    unsafe extern "C" {
        /// 0 where it cannot be.
        pub(super) safe fn spnas_autocast_bfloat16() -> c_int;
    }
}

/// A libtorch older than 2.8.
#[cfg(not(spnas_bindings))]
mod foreign {
    pub(super) fn spnas_autocast_bfloat16() -> i32 {
        0
    }
}

/// The first generation of GPUs that computes in bfloat16: compute capability 8.0, Ampere (CUDA C++ Programming Guide,
/// "Compute Capabilities", arithmetic instructions).
const LEAST_CAPABILITY: i32 = 8;

/// Runs `work` in mixed precision where `half`.
pub(super) fn mixed<R>(half: bool, work: impl FnOnce() -> R) -> R {
    // A setting of the thread, made anew as threads come and go.
    let half = half && foreign::spnas_autocast_bfloat16() != 0;
    tch::autocast(half, work)
}

/// Whether this device computes in bfloat16. It is asked of the driver once; where it does not say, it is taken to. On threads
/// of a machine with GPUs of several kinds the driver may count them in another order than CUDA (`CUDA_DEVICE_ORDER`).
pub(super) fn is_native(device: Device) -> bool {
    static OLD: OnceLock<Vec<u32>> = OnceLock::new();
    let Device::Cuda(ordinal) = device else { return false };
    let old = OLD.get_or_init(|| {
        if cfg!(not(spnas_bindings)) {
            tracing::warn!("this libtorch is older than 2.8 and cannot be told to compute in bfloat16: trainings are in single precision");
        }
        let old = Gpus::open().map(|gpus| gpus.below_capability(LEAST_CAPABILITY)).unwrap_or_default();
        if !old.is_empty() {
            tracing::warn!(devices = ?old, "these CUDA devices do not compute in bfloat16: they train in single precision");
        }
        old
    });
    !old.iter().any(|index| *index as usize == ordinal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixed_precision_is_in_bfloat16_and_ends_with_the_work() {
        assert_eq!(foreign::spnas_autocast_bfloat16() != 0, cfg!(spnas_bindings));
        assert_eq!(mixed(true, || mixed(false, || 7)), 7);
        assert!(!is_native(Device::Cpu));
        if !tch::Cuda::is_available() {
            eprintln!("skipped: the kinds of results, for want of a CUDA device");
            return;
        }
        let one = tch::Tensor::ones([8, 8], (tch::Kind::Float, Device::Cuda(0)));
        let expected = if is_native(Device::Cuda(0)) { tch::Kind::BFloat16 } else { tch::Kind::Float };
        assert_eq!(mixed(is_native(Device::Cuda(0)), || one.matmul(&one).kind()), expected);
        assert_eq!(one.matmul(&one).kind(), tch::Kind::Float);
    }
}
