//! The devices of a step: what the configuration names and what the machine has come in, who trains and who evaluates where
//! goes out. Pure but for [`Machine::this`].

use std::num::NonZeroU32;

use spnas_actors::device::{Device, Place};

use crate::config::Devices;

/// Devices that a shared evaluator serves before there is a second one.
const DEVICES_PER_EVALUATOR: usize = 4;

/// What a machine has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Threads that run at once.
    pub cores: usize,
    /// CUDA devices that are visible; their ordinals begin at 0 whichever of the machine's they are.
    pub cuda: u32,
    /// `CUDA_VISIBLE_DEVICES`, where it is set.
    pub visible: Option<String>,
}

/// What is to train at once, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted<'a> {
    /// `general.devices`.
    pub devices: &'a Devices,
    /// Devices that train one trial together.
    pub per_trainer: NonZeroU32,
    /// Trials that share a device.
    pub per_device: NonZeroU32,
    /// Trials there are.
    pub at_most: usize,
}

/// Trainers and evaluators of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crew {
    /// One device a trainer; a device of several trainers stands there several times.
    pub trainers: Vec<Device>,
    /// One device an evaluator.
    pub evaluators: Vec<Device>,
}

/// Devices that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// An ordinal beyond those there are.
    #[error("general.devices names cuda:{ordinal}, but {}", seen(*.found, .visible.as_deref()))]
    Absent {
        /// The first that is not there.
        ordinal: u32,
        /// How many are visible.
        found: u32,
        /// `CUDA_VISIBLE_DEVICES`, where it is set.
        visible: Option<String>,
    },
    /// Devices that make no whole groups.
    #[error(
        "general.devices_per_trainer is {per_trainer}, but {devices} devices make no groups of that size; \
         name those to use in general.devices"
    )]
    Uneven {
        /// The size of a group.
        per_trainer: NonZeroU32,
        /// The devices there are.
        devices: usize,
    },
}

impl Machine {
    /// This one.
    pub fn this() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            cuda: crate::workers::cuda_devices(),
            visible: std::env::var("CUDA_VISIBLE_DEVICES").ok(),
        }
    }
}

/// Who trains and evaluates: no more trainers than trials, spread over the devices, with each one's share of the processor.
/// Devices that train together are neighbours in the list.
///
/// # Errors
/// Devices that are not there, or make no whole groups.
pub fn crew(wanted: Wanted<'_>, machine: &Machine) -> Result<Crew, DeviceError> {
    let Wanted { devices, per_trainer, per_device, at_most } = wanted;
    let places = places(devices, machine)?;
    let size = per_trainer.get() as usize;
    if places.len() % size != 0 {
        return Err(DeviceError::Uneven { per_trainer, devices: places.len() });
    }
    let beside = per_device.get() as usize;
    // Fewer trials than devices do not get larger shares: small networks on many threads mostly wait for one another.
    let threads = (machine.cores * size / (places.len() * beside)).max(1);
    let groups: Vec<Device> = places
        .chunks(size)
        .filter_map(|group| {
            let (first, peers) = group.split_first()?;
            Some(Device { peers: peers.to_vec(), ..Device::new(first.clone(), threads) })
        })
        .collect();
    let at_most = at_most.max(1);
    let evaluators = groups.iter().take(at_most).step_by(DEVICES_PER_EVALUATOR);
    Ok(Crew {
        evaluators: evaluators.map(|group| Device::new(group.place.clone(), threads)).collect(),
        trainers: (0..beside).flat_map(|_| groups.iter().cloned()).take(at_most).collect(),
    })
}

fn places(devices: &Devices, machine: &Machine) -> Result<Vec<Place>, DeviceError> {
    let cpu = |shares: u32| (0..shares).map(|index| Place::Cpu { index }).collect();
    let cuda = |ordinals: &[u32]| ordinals.iter().map(|ordinal| Place::Cuda { ordinal: *ordinal }).collect();
    let found = machine.cuda;
    match devices {
        Devices::Auto if found == 0 => Ok(cpu(1)),
        Devices::Auto => Ok(cuda(&(0..found).collect::<Vec<_>>())),
        Devices::Cpu(shares) => Ok(cpu(shares.get())),
        Devices::Cuda(ordinals) => match ordinals.iter().find(|ordinal| **ordinal >= found) {
            Some(ordinal) => Err(DeviceError::Absent { ordinal: *ordinal, found, visible: machine.visible.clone() }),
            None => Ok(cuda(ordinals)),
        },
    }
}

/// Which CUDA devices there are, in words.
fn seen(found: u32, visible: Option<&str>) -> String {
    let devices = match found {
        0 => "no CUDA device is visible".to_owned(),
        1 => "1 CUDA device is visible, cuda:0".to_owned(),
        _ => format!("{found} CUDA devices are visible, cuda:0 to cuda:{}", found - 1),
    };
    match visible {
        Some(visible) => format!("{devices} (CUDA_VISIBLE_DEVICES is `{visible}`; what it names is numbered from 0)"),
        None => devices,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(cores: usize, cuda: u32) -> Machine {
        Machine { cores, cuda, visible: None }
    }

    /// Trainers as `place+peer/threads`, evaluators as `place`.
    fn check(devices: &Devices, per: (u32, u32), machine: &Machine, at_most: usize, expected: [&str; 2]) {
        let [per_trainer, per_device] = [per.0, per.1].map(|number| NonZeroU32::new(number).unwrap());
        let crew = crew(Wanted { devices, per_trainer, per_device, at_most }, machine).unwrap();
        let trainer = |device: &Device| {
            let places: Vec<String> = device.places().map(Place::to_string).collect();
            format!("{}/{}", places.join("+"), device.threads)
        };
        let trainers: Vec<String> = crew.trainers.iter().map(trainer).collect();
        let evaluators: Vec<String> = crew.evaluators.iter().map(|device| device.place.to_string()).collect();
        assert_eq!([trainers.join(" ").as_str(), evaluators.join(" ").as_str()], expected);
    }

    #[test]
    fn devices_are_shared_out_among_trainers_and_evaluators() {
        let cpu = |shares| Devices::Cpu(NonZeroU32::new(shares).unwrap());
        let (none, two, eight) = (machine(4, 0), machine(16, 2), machine(64, 8));
        check(&Devices::Auto, (1, 1), &none, 9, ["cpu:0/4", "cpu:0"]);
        check(&cpu(2), (1, 1), &none, 9, ["cpu:0/2 cpu:1/2", "cpu:0"]);
        check(&cpu(8), (1, 1), &none, 3, ["cpu:0/1 cpu:1/1 cpu:2/1", "cpu:0"]);
        check(&Devices::Auto, (1, 1), &two, 9, ["cuda:0/8 cuda:1/8", "cuda:0"]);
        check(&Devices::Cuda(vec![1]), (1, 1), &two, 9, ["cuda:1/16", "cuda:1"]);
        // Two a device: first one on each, so that few trials are spread.
        check(&Devices::Auto, (1, 2), &two, 9, ["cuda:0/4 cuda:1/4 cuda:0/4 cuda:1/4", "cuda:0"]);
        check(&Devices::Auto, (1, 2), &two, 3, ["cuda:0/4 cuda:1/4 cuda:0/4", "cuda:0"]);
        check(&cpu(1), (1, 2), &none, 9, ["cpu:0/2 cpu:0/2", "cpu:0"]);
        // Two that train together.
        check(&Devices::Cuda(vec![3, 0, 1, 2]), (2, 1), &eight, 9, ["cuda:3+cuda:0/32 cuda:1+cuda:2/32", "cuda:3"]);
        let evaluators = ["cuda:0/8 cuda:1/8 cuda:2/8 cuda:3/8 cuda:4/8 cuda:5/8 cuda:6/8 cuda:7/8", "cuda:0 cuda:4"];
        check(&Devices::Auto, (1, 1), &eight, 9, evaluators);
        check(&Devices::Auto, (1, 1), &eight, 0, ["cuda:0/8", "cuda:0"]);
    }

    #[test]
    fn what_cannot_be_had_is_said_with_what_there_is() {
        let refused = |devices, per_trainer, machine: &Machine| {
            let (per_trainer, per_device) = (NonZeroU32::new(per_trainer).unwrap(), NonZeroU32::MIN);
            let wanted = Wanted { devices: &devices, per_trainer, per_device, at_most: 9 };
            crew(wanted, machine).unwrap_err().to_string()
        };
        assert_eq!(
            refused(Devices::Cuda(vec![0]), 1, &machine(4, 0)),
            "general.devices names cuda:0, but no CUDA device is visible"
        );
        let chosen = Machine { visible: Some("4,5".to_owned()), ..machine(4, 2) };
        assert_eq!(
            refused(Devices::Cuda(vec![1, 4]), 1, &chosen),
            "general.devices names cuda:4, but 2 CUDA devices are visible, cuda:0 to cuda:1 (CUDA_VISIBLE_DEVICES is \
             `4,5`; what it names is numbered from 0)"
        );
        assert_eq!(
            refused(Devices::Auto, 3, &machine(4, 4)),
            "general.devices_per_trainer is 3, but 4 devices make no groups of that size; name those to use in \
             general.devices"
        );
    }
}
