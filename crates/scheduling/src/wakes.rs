//! What a thread that wakes does to the one on its core: it interrupts that, or waits for its turn.
//!
//! A front-line thread wakes [promptly](Wakes::Promptly): it needs microseconds, and who runs may keep the core for
//! milliseconds. Beside clients on its own cores that ask all they can it does better [in turn](Wakes::InTurn), which
//! [`pace`](crate::pace) finds out.

use std::io;

use rustix::process::{Pid, getpriority_process};

/// The shortest slice that Linux takes: it clamps them to 0.1 to 100 ms (kernel/sched, from 6.12 on).
const SHORTEST_SLICE_NANOS: u64 = 100_000;

/// What a thread that wakes does to the one that runs on its core.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wakes {
    /// It goes before one of a longer slice that had its share.
    Promptly,
    /// It waits until that one waits, or its slice ends (`SCHED_BATCH`).
    InTurn,
}

/// Asks for short slices for the calling thread: when it wakes it goes before threads of longer ones that had their share,
/// and it gives way sooner. Its share stays the same. Kernels before Linux 6.12 take no notice.
///
/// # Errors
/// Where a sandbox forbids it.
pub fn wake_promptly() -> io::Result<()> {
    set(None, Wakes::Promptly)
}

/// Says how a thread wakes, the calling one for `None`. Its share and slice stay the same.
///
/// # Errors
/// Where a sandbox forbids it, or the thread is gone.
pub(crate) fn set(thread: Option<Pid>, wakes: Wakes) -> io::Result<()> {
    let policy = match wakes {
        Wakes::Promptly => libc::SCHED_OTHER,
        Wakes::InTurn => libc::SCHED_BATCH,
    };
    let attributes = libc::sched_attr {
        size: size_of::<libc::sched_attr>() as u32,
        sched_policy: policy as u32,
        sched_flags: 0,
        sched_nice: getpriority_process(thread)?,
        sched_priority: 0,
        sched_runtime: SHORTEST_SLICE_NANOS,
        sched_deadline: 0,
        sched_period: 0,
    };
    let thread = thread.map_or(0, Pid::as_raw_pid);
    // SAFETY: the kernel reads `size` bytes of the structure, which outlives the call, and writes nothing.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_setattr, thread, &raw const attributes, 0) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests {
    use rustix::thread::gettid;

    use super::*;
    use crate::stand_back;

    /// Something of the calling thread as the kernel shows it.
    fn shown(name: &str) -> Option<String> {
        let text = std::fs::read_to_string("/proc/thread-self/sched").ok()?;
        let line = text.lines().find(|line| line.starts_with(name))?;
        Some(line.rsplit(':').next()?.trim().to_owned())
    }

    #[test]
    fn a_thread_keeps_its_priority_and_slice_however_it_wakes() {
        let thread = std::thread::spawn(|| {
            stand_back(2).unwrap();
            let before = (getpriority_process(None).unwrap(), shown("prio"));
            for wakes in [Wakes::InTurn, Wakes::Promptly] {
                set(Some(gettid()), wakes).unwrap();
                assert_eq!(before, (getpriority_process(None).unwrap(), shown("prio")));
                let policy = match wakes {
                    Wakes::Promptly => libc::SCHED_OTHER,
                    Wakes::InTurn => libc::SCHED_BATCH,
                };
                // Kernels show these where they are built to show such things, and the slice from 6.12 on.
                for (name, value) in [
                    ("policy", policy as u64),
                    ("se.slice", SHORTEST_SLICE_NANOS),
                ] {
                    if let Some(there) = shown(name) {
                        assert_eq!(there, value.to_string(), "{name}");
                    }
                }
            }
        });
        thread.join().unwrap();
    }
}
