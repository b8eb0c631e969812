//! What the end of a process says about its cause: signals by name and likely reason, and whether there was no memory left.
//! Workers' processes and external programs are judged alike.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::work::tells_out_of_memory;

/// Signals by which processes die, their names, and what is likely behind them. The numbers are those of Linux on x86-64
/// and aarch64 (signal(7)); those up to 9, but for `SIGBUS`, and `SIGSEGV`, `SIGPIPE` and `SIGTERM` are the same
/// everywhere.
const SIGNALS: [(i32, &str, &str); 12] = [
    (1, "SIGHUP", "its terminal or session has gone"),
    (2, "SIGINT", "somebody interrupted it"),
    (3, "SIGQUIT", "somebody ended it from a terminal"),
    (4, "SIGILL", "an instruction that this processor does not have, or corrupt code"),
    (6, "SIGABRT", "native code gave up: an uncaught C++ exception, a failed assertion, or no memory"),
    (7, "SIGBUS", "a mapped file was cut short, or its disk or shared memory is full"),
    (8, "SIGFPE", "an integer division by zero in native code"),
    (9, "SIGKILL", "the kernel's out-of-memory killer, or somebody's kill -9: see `dmesg`"),
    (11, "SIGSEGV", "a segmentation fault: native code read or wrote where it must not"),
    (13, "SIGPIPE", "it wrote to a pipe that nobody reads"),
    (15, "SIGTERM", "somebody told it to end"),
    (24, "SIGXCPU", "it was over its limit of processor time (`ulimit -t`)"),
];

const SIGKILL: i32 = 9;
pub(crate) const SIGTERM: i32 = 15;

/// What is added to the number of the signal in the exit code of a shell whose command a signal has ended.
const OF_SHELL: i32 = 128;

/// The end of a process in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    let Some(signal) = status.signal() else {
        return match status.code() {
            Some(code) => format!("exited with code {code}"),
            None => "ended".to_owned(),
        };
    };
    match SIGNALS.iter().find(|(number, ..)| *number == signal) {
        Some((_, name, why)) => format!("was ended by {name} ({why})"),
        None => format!("was ended by signal {signal}"),
    }
}

/// Whether a process that ended so had no memory left: it says so in its last line, or it was killed by `SIGKILL` (perhaps
/// behind a shell) while the kernel has killed for memory (`oom_kills` processes meanwhile).
pub(crate) fn ran_out_of_memory(status: ExitStatus, last_words: Option<&str>, oom_kills: u64) -> bool {
    let killed = status.signal() == Some(SIGKILL) || status.code() == Some(OF_SHELL + SIGKILL);
    (killed && oom_kills > 0) || last_words.is_some_and(tells_out_of_memory)
}

/// How many processes the kernel has killed for memory since it started, all control groups together; 0 where it does not
/// say (Linux from 4.13 does).
pub(crate) fn oom_kills() -> u64 {
    std::fs::read_to_string("/proc/vmstat").map_or(0, |text| parse_oom_kills(&text))
}

fn parse_oom_kills(vmstat: &str) -> u64 {
    vmstat.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn killed_by(signal: i32) -> ExitStatus {
        ExitStatus::from_raw(signal)
    }

    fn exited_with(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn an_end_is_told_by_the_name_of_its_signal_and_what_it_means() {
        for (status, words) in [
            (killed_by(9), ["SIGKILL", "memory"]),
            (killed_by(11), ["SIGSEGV", "segmentation fault"]),
            (killed_by(6), ["SIGABRT", "C++ exception"]),
            (killed_by(34), ["signal 34", ""]),
            (exited_with(3), ["code 3", ""]),
        ] {
            let said = describe(status);
            assert!(words.iter().all(|word| said.contains(word)), "{said}");
        }
    }

    #[test]
    fn a_kill_is_for_memory_where_the_kernel_says_so_and_last_words_are_believed() {
        let out_of_memory = |status, words, kills| ran_out_of_memory(status, words, kills);
        assert!(out_of_memory(killed_by(9), None, 1));
        assert!(out_of_memory(exited_with(137), None, 1), "a shell passes it on");
        assert!(!out_of_memory(killed_by(9), None, 0), "somebody's kill -9");
        assert!(!out_of_memory(exited_with(137), None, 0));
        assert!(!out_of_memory(killed_by(11), None, 1), "the kernel kills for memory by SIGKILL alone");
        let words = "terminate called after throwing an instance of 'std::bad_alloc'";
        assert!(out_of_memory(killed_by(6), Some(words), 0));
        assert!(!out_of_memory(exited_with(1), Some("KeyError: 'lr'"), 0));
    }

    #[test]
    fn the_kernels_count_is_read_from_its_table() {
        assert_eq!(parse_oom_kills("nr_free_pages 5\noom_kill 7\noom_killer 9\n"), 7);
        assert_eq!(parse_oom_kills(""), 0);
    }
}
