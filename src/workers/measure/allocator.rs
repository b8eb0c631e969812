//! The memory that a CUDA device's tensors take, by libtorch's own count: what torch-sys does not bind. The other side is
//! `allocator.cpp`, which the build script compiles.

use tch::{Cuda, Device, Kind, Tensor};

use crate::nn::NnError;

#[cfg(spnas_bindings)]
#[expect(
    unsafe_code,
    reason = "a foreign function can be declared in no other way; these take and give integers alone"
)]
mod foreign {
    use std::ffi::c_int;

    unsafe extern "C" {
        /// 0 where there is no such device.
        pub(super) safe fn spnas_reset_peak_memory(ordinal: c_int) -> c_int;
        /// -1 where there is no such device.
        pub(super) safe fn spnas_peak_memory(ordinal: c_int) -> i64;
        /// 0 where there is no such device.
        pub(super) safe fn spnas_forget_memory(ordinal: c_int) -> c_int;
        /// -1 where there is no such device.
        pub(super) safe fn spnas_peak_taken(ordinal: c_int) -> i64;
    }
}

/// A libtorch older than 2.8, whose headers have no such interface.
#[cfg(not(spnas_bindings))]
mod foreign {
    pub(super) fn spnas_reset_peak_memory(_: i32) -> i32 {
        0
    }

    pub(super) fn spnas_peak_memory(_: i32) -> i64 {
        -1
    }

    pub(super) fn spnas_forget_memory(_: i32) -> i32 {
        0
    }

    pub(super) fn spnas_peak_taken(_: i32) -> i64 {
        -1
    }
}

/// The most bytes that a device's tensors took during `work`, beyond what they took before it; `None` where no count is kept:
/// on the processor. The count is one for all that the process does on the device, trials beside this one included.
///
/// # Errors
/// What `work` returned.
pub(super) fn peak_beyond(device: Device, work: impl FnOnce() -> Result<(), NnError>) -> Result<Option<u64>, NnError> {
    let Device::Cuda(ordinal) = device else { return Ok(None) };
    begin_to_count(ordinal)?;
    let device = index(ordinal);
    Cuda::synchronize(ordinal as i64);
    if foreign::spnas_reset_peak_memory(device) == 0 {
        return Ok(None);
    }
    // Just after the reset the peak is what is allocated now.
    let before = foreign::spnas_peak_memory(device);
    work()?;
    Cuda::synchronize(ordinal as i64);
    let beyond = foreign::spnas_peak_memory(device) - before;
    Ok(u64::try_from(beyond).ok().filter(|_| before >= 0))
}

/// Gives a CUDA device back what the allocator keeps for later, and begins to count anew what it takes; `None` where no count
/// is kept.
pub(super) fn forget(ordinal: usize) -> Option<()> {
    begin_to_count(ordinal).ok()?;
    (foreign::spnas_forget_memory(index(ordinal)) != 0).then_some(())
}

/// The most bytes that the process has had from a CUDA device at once since [`forget`], those for later included.
pub(super) fn taken(ordinal: usize) -> Option<u64> {
    u64::try_from(foreign::spnas_peak_taken(index(ordinal))).ok()
}

/// libtorch counts from the first tensor on; before it, there is nothing that could be asked.
fn begin_to_count(ordinal: usize) -> Result<(), NnError> {
    // Where no such device is, libtorch's own error says so in more words than are of use.
    if ordinal as i64 >= Cuda::device_count() {
        return Err(NnError::input("a CUDA device", "one that libtorch sees", format!("cuda:{ordinal}")));
    }
    let _first = Tensor::f_zeros([1i64], (Kind::Float, Device::Cuda(ordinal)))?;
    Ok(())
}

fn index(ordinal: usize) -> i32 {
    i32::try_from(ordinal).unwrap_or(i32::MAX)
}

/// The counts are the process's: tests that look at them take turns.
#[cfg(test)]
pub(super) static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_count_on_cuda_devices_and_none_elsewhere() {
        let mut run = false;
        let counted = peak_beyond(Device::Cpu, || {
            run = true;
            Ok(())
        });
        assert_eq!((counted.unwrap(), run), (None, false));
        assert_eq!(foreign::spnas_reset_peak_memory(99), 0, "no exception leaves");
        assert_eq!(foreign::spnas_peak_memory(99), -1);
        assert_eq!((forget(99), taken(99)), (None, None));
        if Cuda::is_available() && cfg!(spnas_bindings) {
            let _alone = ONE_AT_A_TIME.lock();
            let device = Device::Cuda(0);
            let million = || {
                let _freed = Tensor::f_zeros([1 << 20], (Kind::Float, device))?;
                Ok(())
            };
            let beyond = peak_beyond(device, million).unwrap().unwrap();
            // Blocks of the allocator are whole multiples of 2 MiB.
            assert!((4 << 20..=6 << 20).contains(&beyond), "{beyond}");
        }
    }
}
