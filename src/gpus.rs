//! GPUs: memory and load of the CUDA devices, asked of NVIDIA's management library (NVML) where the driver has one. Without it
//! there is nothing to show, and nothing fails: the library is opened when it is first wanted, and not linked.

use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;

/// The CUDA devices that libtorch sees, as NVML knows them.
#[derive(Debug)]
pub struct Gpus {
    nvml: Nvml,
    /// NVML's index of each CUDA ordinal.
    indices: Vec<u32>,
}

/// What a device is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GpuLoad {
    /// Memory in use, by whomever, in bytes.
    pub used: u64,
    /// Memory that there is, in bytes.
    pub total: u64,
    /// The part of the last second or so in which it was at work, in percent.
    pub busy: u32,
}

impl Gpus {
    /// Opens the library. `None`, with one line in the log, where it is not there or does not answer.
    pub fn open() -> Option<Self> {
        Self::init(std::env::var("CUDA_VISIBLE_DEVICES").ok().as_deref())
            .inspect_err(|why| tracing::info!(%why, "no NVML: memory and load of GPUs are not shown"))
            .ok()
    }

    fn init(chosen: Option<&str>) -> Result<Self, NvmlError> {
        let nvml = Nvml::init()?;
        let uuids = (0..nvml.device_count()?)
            .map(|index| nvml.device_by_index(index)?.uuid())
            .collect::<Result<Vec<_>, _>>()?;
        let indices = visible(chosen, &uuids);
        Ok(Self { nvml, indices })
    }

    /// How many devices CUDA should show.
    pub fn count(&self) -> usize {
        self.indices.len()
    }

    /// The CUDA ordinals of the devices whose compute capability has a major number below this.
    pub fn below_capability(&self, major: i32) -> Vec<u32> {
        let is_below = |index: u32| {
            let capability = self.nvml.device_by_index(index).and_then(|device| device.cuda_compute_capability());
            capability.is_ok_and(|capability| capability.major < major)
        };
        (0..).zip(&self.indices).filter(|(_, index)| is_below(**index)).map(|(ordinal, _)| ordinal).collect()
    }

    /// What the device of this CUDA ordinal is doing; `None` where NVML does not say.
    pub fn load(&self, ordinal: u32) -> Option<GpuLoad> {
        let device = self.nvml.device_by_index(*self.indices.get(ordinal as usize)?).ok()?;
        let memory = device.memory_info().ok()?;
        // Some devices, such as those cut into instances, tell their memory alone.
        let busy = device.utilization_rates().map_or(0, |rates| rates.gpu);
        Some(GpuLoad { used: memory.used, total: memory.total, busy })
    }
}

/// The devices that CUDA shows by `CUDA_VISIBLE_DEVICES`, in CUDA's order, as indices into `uuids`.
///
/// Entries are numbers or (beginnings of) UUIDs; the list ends at the first that names no device, and names a device once
/// (CUDA C++ Programming Guide, "CUDA Environment Variables"). Numbers are taken in the order of the bus, which is CUDA's on
/// machines whose GPUs are all of one kind, and on others with `CUDA_DEVICE_ORDER=PCI_BUS_ID`.
fn visible(chosen: Option<&str>, uuids: &[String]) -> Vec<u32> {
    let all = 0..u32::try_from(uuids.len()).unwrap_or(u32::MAX);
    let Some(chosen) = chosen else { return all.collect() };
    let find = |entry: &str| match entry.parse::<u32>() {
        Ok(index) => all.clone().find(|known| *known == index),
        Err(_) if entry.starts_with("GPU-") => {
            all.clone().zip(uuids).find(|(_, uuid)| uuid.starts_with(entry)).map(|(index, _)| index)
        }
        Err(_) => None,
    };
    let mut found = Vec::new();
    for index in chosen.split(',').map_while(|entry| find(entry.trim())) {
        if found.contains(&index) {
            return Vec::new();
        }
        found.push(index);
    }
    found
}

impl std::fmt::Display for GpuLoad {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let gib = |bytes: u64| bytes as f64 / f64::from(1 << 30);
        write!(f, "{} % busy, {:.1} of {:.0} GiB", self.busy, gib(self.used), gib(self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuda_visible_devices_is_read_as_cuda_reads_it() {
        let uuids = ["GPU-aa01", "GPU-aa02", "GPU-bb03"].map(str::to_owned);
        for (chosen, expected) in [
            (None, &[0, 1, 2][..]),
            (Some(""), &[]),
            (Some("2,0"), &[2, 0]),
            (Some(" 1 , 2"), &[1, 2]),
            (Some("0,7,1"), &[0]),
            (Some("-1,0"), &[]),
            (Some("GPU-bb,GPU-aa02"), &[2, 1]),
            (Some("1,1"), &[]),
            (Some("MIG-1"), &[]),
        ] {
            assert_eq!(visible(chosen, &uuids), expected, "{chosen:?}");
        }
    }

    #[test]
    fn without_nvml_there_is_nothing_to_show_and_with_it_the_load_is_plausible() {
        let Some(gpus) = Gpus::open() else {
            eprintln!("skipped: there is no NVML here");
            return;
        };
        if let Some(load) = gpus.load(0) {
            assert!(load.used <= load.total && load.total > 0 && load.busy <= 100);
        }
        assert_eq!(gpus.load(u32::MAX), None);
    }

    #[test]
    fn a_load_is_one_short_line() {
        let load = GpuLoad { used: 13 << 29, total: 80 << 30, busy: 87 };
        assert_eq!(load.to_string(), "87 % busy, 6.5 of 80 GiB");
    }
}
