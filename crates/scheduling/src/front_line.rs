//! Whether the front line is at work, and how long work leaves the cores to it.
//!
//! Lookups need little of a core, and that at once. Linux is fair: a thread that had less than its share is owed what is missing,
//! up to milliseconds, and a lookup's thread waits meanwhile, whatever the priorities; weights only stretch what is owed. So work
//! that nobody waits for leaves the cores altogether for most of the time while lookups come: a thread that sleeps is owed nothing.
//! docs/decisions/0016 has what was measured.

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Pid;
use rustix::thread::gettid;

/// How long one that gives way is off its core: with 25 to 100 microseconds of work between, it has at most a fortieth of one.
const PAUSE: Duration = Duration::from_millis(4);

/// How long after an answer the front line counts as at work: the next request may come at any moment.
const LATELY: Duration = Duration::from_millis(100);

/// Cores that count apart; beyond them, some share a counter.
const COUNTERS: usize = 64;

/// What a core has answered, on a cache line pair of its own, so that cores do not wait for each other's counting.
#[repr(align(128))]
struct Answered {
    lookups: AtomicU64,
    others: AtomicU64,
    /// Who answers there, by the kernel's number; 0 for nobody.
    thread: AtomicI32,
}

static ANSWERED: [Answered; COUNTERS] = [const {
    Answered {
        lookups: AtomicU64::new(0),
        others: AtomicU64::new(0),
        thread: AtomicI32::new(0),
    }
}; COUNTERS];

/// Whether this process has a front line.
static IS_HERE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The calling thread's core, where it is the front line's.
    static CORE: Cell<Option<usize>> = const { Cell::new(None) };
    /// Lookups answered when the calling thread last gave way.
    static GAVE_WAY_AT: Cell<u64> = const { Cell::new(0) };
    /// All that was answered when it last looked.
    static SEEN: Cell<u64> = const { Cell::new(0) };
    /// When it last saw that more had been answered.
    static SEEN_AT: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Whether the front line has answered something lately, as far as the calling thread has seen; taken for granted where this process
/// has none, for then it is another's.
fn is_at_work(answered: u64) -> bool {
    if !IS_HERE.load(Ordering::Relaxed) {
        return true;
    }
    if SEEN.replace(answered) != answered {
        SEEN_AT.set(Some(Instant::now()));
        return true;
    }
    SEEN_AT.get().is_some_and(|at| at.elapsed() < LATELY)
}

/// The calling thread is the front line's on a core: it never sleeps to give way, and what it answers counts.
pub fn join(core: usize) {
    CORE.set(Some(core));
    let here = &ANSWERED[core % COUNTERS];
    here.thread.store(gettid().as_raw_pid(), Ordering::Relaxed);
    IS_HERE.store(true, Ordering::Relaxed);
}

/// The calling thread answers no more.
pub fn leave() {
    if let Some(core) = CORE.take() {
        let here = &ANSWERED[core % COUNTERS];
        here.thread.store(0, Ordering::Relaxed);
    }
}

/// Counts a lookup that the calling thread of the front line has answered: work that nobody waits for leaves the cores to such.
pub fn answered() {
    if let Some(core) = CORE.get() {
        let here = &ANSWERED[core % COUNTERS];
        here.lookups.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts another short request that the calling thread of the front line has answered, such as a check-in.
pub fn answered_other() {
    if let Some(core) = CORE.get() {
        let here = &ANSWERED[core % COUNTERS];
        here.others.fetch_add(1, Ordering::Relaxed);
    }
}

/// Who has joined; of cores that share a counter, the last.
pub(crate) fn threads() -> Vec<Pid> {
    let numbers = ANSWERED
        .iter()
        .map(|core| core.thread.load(Ordering::Relaxed));
    numbers.filter_map(Pid::from_raw).collect()
}

/// Lookups answered, and all requests.
pub(crate) fn all_answered() -> (u64, u64) {
    ANSWERED.iter().fold((0, 0), |(lookups, all), core| {
        let here = core.lookups.load(Ordering::Relaxed);
        let others = core.others.load(Ordering::Relaxed);
        (
            lookups.wrapping_add(here),
            all.wrapping_add(here).wrapping_add(others),
        )
    })
}

/// Lets others go first, at a place in long work where that costs little; to be called every 25 to 100 microseconds.
///
/// The thread sleeps for four milliseconds where the front line has answered lookups since the thread last gave way; otherwise, and on the
/// front line itself, it [breathes](crate::breathe). Not to be called where others wait for the caller, such as with a lock held.
pub fn give_way() {
    let (lookups, all) = all_answered();
    let is_at_work = is_at_work(all);
    if is_to_pause(lookups) {
        thread::sleep(PAUSE);
    } else if is_at_work {
        thread::yield_now();
    }
}

/// How long a task that gives way is to sleep without its thread. That has [breathed](crate::breathe) in any case: the thread's next
/// task may take as long.
pub fn pause() -> Option<Duration> {
    let (lookups, all) = all_answered();
    if is_at_work(all) {
        thread::yield_now();
    }
    is_to_pause(lookups).then_some(PAUSE)
}

/// Whether lookups were answered since the calling thread last gave way, and it is not the front line's.
fn is_to_pause(lookups: u64) -> bool {
    GAVE_WAY_AT.replace(lookups) != lookups && CORE.get().is_none()
}

/// Yields the core, except beside a front line of this process that has answered nothing lately: where nobody is to go first, each
/// change from one long work to another costs both what the caches held.
pub(crate) fn breathe() {
    let (_, all) = all_answered();
    if is_at_work(all) {
        thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timed() -> Duration {
        let began = Instant::now();
        give_way();
        began.elapsed()
    }

    #[test]
    fn work_sleeps_for_what_the_front_line_answered_and_the_front_line_never() {
        // The counters are the process's, and no other test counts.
        give_way();
        let front_line = thread::spawn(|| {
            join(COUNTERS + 1);
            answered();
            (0..100).map(|_| (answered(), timed()).1).min()
        });
        let quickest = front_line.join().unwrap();
        assert!(quickest.is_some_and(|time| time < PAUSE), "{quickest:?}");
        breathe();
        assert!(timed() >= PAUSE, "breathing is no giving way");
        let quickest = (0..100).map(|_| timed()).min();
        assert!(quickest.is_some_and(|time| time < PAUSE), "{quickest:?}");
        answered();
        let quickest = (0..100).map(|_| timed()).min();
        assert!(
            quickest.is_some_and(|time| time < PAUSE),
            "not of the front line"
        );
        let others = || {
            join(0);
            answered_other();
        };
        thread::spawn(others).join().unwrap();
        let is_at_work = || is_at_work(all_answered().1);
        assert!(is_at_work());
        assert!(pause().is_none(), "others are let by, not slept for");
        let patience = Instant::now();
        while is_at_work() {
            assert!(patience.elapsed() < 100 * LATELY);
            thread::sleep(LATELY / 10);
        }
    }
}
