//! What an attempt takes of its device's memory at its peak, for the engine to learn from. It can be told only where nothing
//! else trains in the process (`isolation: process`): on CUDA devices by libtorch's own count of what it has taken from the
//! device, on Linux's processors by the kernel's count of the process's resident memory.

use spnas_actors::device::Place;
use tch::{Cuda, Device};

use super::allocator;

/// A count that has begun.
#[derive(Debug)]
pub(crate) struct AttemptMemory {
    device: Device,
}

impl AttemptMemory {
    /// Begins to count what the process takes on the device, the cache of earlier attempts given back; `None` where there is no
    /// count.
    pub(crate) fn begin(device: Device) -> Option<Self> {
        match device {
            Device::Cuda(ordinal) => allocator::forget(ordinal)?,
            Device::Cpu => forget_resident_peak()?,
            _ => return None,
        }
        Some(Self { device })
    }

    /// The most bytes since then.
    pub(crate) fn peak(&self) -> Option<u64> {
        match self.device {
            Device::Cuda(ordinal) => {
                Cuda::synchronize(ordinal as i64);
                allocator::taken(ordinal)
            }
            Device::Cpu => resident_peak(),
            _ => None,
        }
    }
}

/// Gives the device back what libtorch keeps of it for later: other processes cannot have it. No tensor of the attempt is to
/// be there any more.
pub(crate) fn give_back(place: &Place) {
    if let Place::Cuda { ordinal } = place {
        // Without a count there is no cache that could be asked to be emptied.
        let _ = allocator::forget(*ordinal as usize);
    }
}

/// Sets the peak of the resident memory back to what is resident now (`proc_pid_clear_refs(5)`: the value 5).
fn forget_resident_peak() -> Option<()> {
    std::fs::write("/proc/self/clear_refs", "5").ok()
}

/// `VmHWM` of `proc_pid_status(5)`, in bytes.
fn resident_peak() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Other tests of this process may take memory meanwhile, and give it back: what is certain is what this one takes.
    #[test]
    fn what_was_taken_and_given_back_is_in_the_peak() {
        let Some(memory) = AttemptMemory::begin(Device::Cpu) else {
            eprintln!("skipped: this kernel does not count");
            return;
        };
        let before = memory.peak().unwrap();
        let million = tch::Tensor::ones([64 << 20], (tch::Kind::Float, Device::Cpu));
        assert_eq!(million.size(), [64 << 20]);
        drop(million);
        let peak = memory.peak().unwrap();
        assert!(peak >= 256 << 20 && peak >= before, "{before} then {peak}");
    }

    #[test]
    fn on_a_cuda_device_it_is_what_libtorch_took() {
        if !Cuda::is_available() || cfg!(not(spnas_bindings)) {
            eprintln!("skipped: there is no CUDA device here, or no count");
            return;
        }
        let _alone = allocator::ONE_AT_A_TIME.lock();
        let memory = AttemptMemory::begin(Device::Cuda(0)).unwrap();
        let taken = tch::Tensor::ones([64 << 20], (tch::Kind::Float, Device::Cuda(0)));
        drop(taken);
        let peak = memory.peak().unwrap();
        assert!(peak >= 256 << 20, "{peak}");
    }
}
