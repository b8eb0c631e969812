//! A process and all that it has started: the leader of a group of its own, which is brought to its end with it. Workers'
//! processes and external programs are both held by it; what they say and are told is theirs.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

use crate::device::{Device, Place};

/// How long the kernel may take to end what was killed. Only a process inside of a driver takes longer.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// The longest last words that are quoted, in characters.
const QUOTED: usize = 300;

/// The variable by which the CUDA runtime is told which devices there are.
pub(crate) const CUDA_VISIBLE: &str = "CUDA_VISIBLE_DEVICES";

/// A process that leads a group; the group is killed when this is dropped.
pub(crate) struct ProcessGroup {
    process: Child,
    group: Pid,
    /// Whether its end has been collected, or given up.
    collected: bool,
}

impl ProcessGroup {
    /// Of a process that was started with `process_group(0)`.
    pub(crate) fn led_by(process: Child) -> Self {
        let group = Pid::from_child(&process);
        Self { process, group, collected: false }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether the process has ended. Its end is not collected, so that nothing else can get its number.
    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.group), options), Ok(None))
    }

    /// Whether it ends within this time.
    pub(crate) fn ends_within(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut nap = Duration::from_millis(1);
        while !self.has_ended() {
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(nap);
            nap = (nap * 2).min(Duration::from_millis(50));
        }
        true
    }

    /// Tells it to end (SIGTERM), and kills it and its group where it does not within `grace`. `None` where even that does
    /// not help.
    pub(crate) fn end(&mut self, grace: Duration) -> Option<ExitStatus> {
        if !self.has_ended() {
            self.signal(Signal::TERM);
            self.ends_within(grace);
        }
        self.collect()
    }

    /// Kills what is left of the group, and collects the process's end. `None` where it cannot be killed.
    pub(crate) fn collect(&mut self) -> Option<ExitStatus> {
        self.kill();
        self.collected = true;
        if !self.ends_within(KILLED_WITHIN) {
            tracing::error!(pid = self.id(), "a process cannot be killed; it is left to the system");
            return None;
        }
        self.process.wait().ok()
    }

    /// Kills the group, its leader included.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        // A group without members is what is wanted.
        let _ = kill_process_group(self.group, signal);
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        if !self.collected {
            self.collect();
        }
    }
}

/// What the CUDA runtime is to be told so that it sees the places of this device alone, whose ordinals count those that are
/// visible here (`here`: the value of [`CUDA_VISIBLE`]); `None` where it is no CUDA device.
pub(crate) fn visible(device: &Device, here: Option<&str>) -> Option<String> {
    let here = here.into_iter().flat_map(|list| list.split(',')).map(str::trim).filter(|name| !name.is_empty());
    let here: Vec<&str> = here.collect();
    let named = device.places().filter_map(|place| match place {
        Place::Cuda { ordinal } => {
            let named = usize::try_from(*ordinal).ok().and_then(|index| here.get(index));
            Some(named.map_or_else(|| ordinal.to_string(), |name| (*name).to_owned()))
        }
        Place::Cpu { .. } | Place::Simulated { .. } => None,
    });
    let named: Vec<String> = named.collect();
    (!named.is_empty()).then(|| named.join(","))
}

/// Has the process number a machine's CUDA devices as the driver's management library does, unless the user has said
/// otherwise: CUDA itself puts the fastest first (CUDA C++ Programming Guide, "CUDA Environment Variables"), and a trial
/// would be on another device than the one whose memory was counted for it.
pub(crate) fn ordered_by_bus(command: &mut Command) {
    const ORDER: &str = "CUDA_DEVICE_ORDER";
    if std::env::var_os(ORDER).is_none() {
        command.env(ORDER, "PCI_BUS_ID");
    }
}

/// The last line in what a process wrote that is not blank, shortened.
pub(crate) fn last_words(written: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(written);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(QUOTED).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_sees_its_own_cuda_device_alone() {
        let cuda = |ordinal| Place::Cuda { ordinal };
        let one = Device::new(cuda(1), 1);
        assert_eq!(visible(&one, None).as_deref(), Some("1"));
        assert_eq!(visible(&one, Some("")).as_deref(), Some("1"));
        assert_eq!(visible(&one, Some("4,7")).as_deref(), Some("7"), "an ordinal counts what is visible here");
        assert_eq!(visible(&one, Some("GPU-3f, GPU-8a")).as_deref(), Some("GPU-8a"));
        let pair = Device { peers: vec![cuda(0)], ..one };
        assert_eq!(visible(&pair, Some("4,7")).as_deref(), Some("7,4"));
        assert_eq!(visible(&Device::new(Place::Cpu { index: 1 }, 1), Some("4,7")), None);
    }

    #[test]
    fn last_words_are_the_last_line_that_says_something() {
        assert_eq!(last_words(b"one\n  two \n\n \n").as_deref(), Some("two"));
        assert_eq!(last_words(b" \n"), None);
        assert_eq!(last_words(&[b'x'; 400]).unwrap().len(), QUOTED);
    }
}
