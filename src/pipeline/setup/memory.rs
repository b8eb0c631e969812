//! The memory that trials may take together on each device, where several train on one: what the machine has comes in. Pure but
//! for [`MachineMemory::this`].

use std::num::NonZeroU32;

use spnas_actors::device::{Device, Place};

use crate::gpus::Gpus;

/// The part of the machine's memory that trials may take: the rest is the system's, the run's own and the evaluators'.
const OF_THE_MACHINE: f64 = 0.8;

/// What each process takes of a CUDA device that libtorch does not count: its context and kernels. Hundreds of MiB, says
/// PyTorch's "CUDA semantics"; on the safe side.
const CONTEXT: u64 = 512 << 20;

/// The memory that a machine has, in bytes, as far as it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MachineMemory {
    /// Of the processor.
    main: Option<u64>,
    /// Of each CUDA device, what is free.
    cuda: Vec<Option<u64>>,
}

impl MachineMemory {
    /// This machine's.
    pub(crate) fn this(devices: &[Device]) -> Self {
        let ordinals = devices.iter().filter_map(|device| match device.place {
            Place::Cuda { ordinal } => Some(ordinal),
            Place::Cpu { .. } | Place::Simulated { .. } => None,
        });
        let cuda = match ordinals.max() {
            Some(last) => {
                let gpus = Gpus::open();
                // What is in use now is the driver's own or another program's: nothing of this run is there yet.
                let free = |ordinal| gpus.as_ref()?.load(ordinal).map(|load| load.total.saturating_sub(load.used));
                (0..=last).map(free).collect()
            }
            None => Vec::new(),
        };
        Self { main: main_memory(), cuda }
    }
}

/// What trials may take together on each place of these trainers; nothing where a place's memory is not known.
pub(crate) fn budgets(trainers: &[Device], per_device: NonZeroU32, memory: &MachineMemory) -> Vec<(Place, u64)> {
    let mut places: Vec<Place> = trainers.iter().map(|device| device.place.clone()).collect();
    places.sort();
    places.dedup();
    let shares = places.iter().filter(|place| matches!(place, Place::Cpu { .. })).count().max(1) as f64;
    // Beside the trainers there may be an evaluator.
    let contexts = CONTEXT * (u64::from(per_device.get()) + 1);
    let budget = |place: Place| {
        let bytes = match &place {
            Place::Cuda { ordinal } => memory.cuda.get(*ordinal as usize).copied()??.saturating_sub(contexts),
            Place::Cpu { .. } => (memory.main? as f64 * OF_THE_MACHINE / shares) as u64,
            Place::Simulated { .. } => return None,
        };
        Some((place, bytes))
    };
    places.into_iter().map(budget).collect::<Option<_>>().unwrap_or_default()
}

/// The machine's memory, or what a container is allowed of it (`memory.max` of control groups, version 2), in bytes.
fn main_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let total = line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024;
    let allowed = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(allowed.map_or(total, |allowed: u64| allowed.min(total)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn check(places: &[Place], per_device: u32, memory: &MachineMemory, expected: &[(Place, u64)]) {
        let devices: Vec<Device> = places.iter().map(|place| Device::new(place.clone(), 1)).collect();
        assert_eq!(budgets(&devices, NonZeroU32::new(per_device).unwrap(), memory), expected);
    }

    #[test]
    fn each_place_has_a_budget_and_all_shares_of_the_processor_one_together() {
        let [cuda, cpu] = [|ordinal| Place::Cuda { ordinal }, |index| Place::Cpu { index }];
        let memory = MachineMemory { main: Some(10 * GIB), cuda: vec![Some(24 * GIB), None] };
        check(&[cuda(0), cuda(0)], 2, &memory, &[(cuda(0), 24 * GIB - 3 * CONTEXT)]);
        check(&[cpu(0), cpu(0)], 2, &memory, &[(cpu(0), 8 * GIB)]);
        check(&[cpu(0), cpu(1), cpu(0), cpu(1)], 2, &memory, &[(cpu(0), 4 * GIB), (cpu(1), 4 * GIB)]);
        check(&[cuda(0), cuda(1)], 2, &memory, &[]);
        check(&[cpu(0)], 2, &MachineMemory { main: None, cuda: Vec::new() }, &[]);
        let small = MachineMemory { main: None, cuda: vec![Some(GIB)] };
        check(&[cuda(0)], 4, &small, &[(cuda(0), 0)]);
    }
}
