//! Whether the front line is at work, and how long work leaves the cores to it.
//!
//! Lookups need little of a core, and that at once. Linux is fair: a thread that had less than its share is owed what is missing,
//! up to milliseconds, and a lookup's thread waits meanwhile, whatever the priorities; weights only stretch what is owed. So work
//! that nobody waits for leaves the cores altogether for most of the time while lookups come: a thread that sleeps is owed nothing.
//! docs/decisions/0016 has what was measured.

use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::breathe;

/// How long one that gives way is off its core: with 50 to 100 microseconds of work between, it has a sixtieth of one.
const PAUSE: Duration = Duration::from_millis(4);

/// Cores that count apart; beyond them, some share a counter.
const COUNTERS: usize = 64;

/// What a core has answered, on a cache line pair of its own, so that cores do not wait for each other's counting.
#[repr(align(128))]
struct Answered(AtomicU64);

static ANSWERED: [Answered; COUNTERS] = [const { Answered(AtomicU64::new(0)) }; COUNTERS];

thread_local! {
    /// The calling thread's core, where it is the front line's.
    static CORE: Cell<Option<usize>> = const { Cell::new(None) };
    /// What was answered when the calling thread last gave way.
    static SEEN: Cell<u64> = const { Cell::new(0) };
}

/// The calling thread is the front line's on a core: it never sleeps to give way, and what it answers counts.
pub fn join(core: usize) {
    CORE.set(Some(core));
}

/// Counts a request that the calling thread of the front line has answered.
pub fn answered() {
    if let Some(core) = CORE.get() {
        ANSWERED[core % COUNTERS].0.fetch_add(1, Ordering::Relaxed);
    }
}

fn all_answered() -> u64 {
    let each = ANSWERED.iter().map(|core| core.0.load(Ordering::Relaxed));
    each.fold(0, u64::wrapping_add)
}

/// Lets others go first, at a place in long work where that costs little; to be called every 50 to 100 microseconds.
///
/// The thread sleeps for four milliseconds where the front line has answered since the thread last gave way; otherwise, and on the front
/// line itself, it [breathes](breathe). Not to be called where others wait for the caller, such as with a lock held.
pub fn give_way() {
    match pause() {
        Some(pause) => std::thread::sleep(pause),
        None => breathe(),
    }
}

/// How long a task that gives way is to sleep without its thread, where other tasks share that; nothing where it is to
/// [breathe](breathe).
pub fn pause() -> Option<Duration> {
    let answered = all_answered();
    let is_quiet = SEEN.replace(answered) == answered;
    (!is_quiet && CORE.get().is_none()).then_some(PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;
    use std::time::Instant;

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
        assert!(timed() >= PAUSE);
        let quickest = (0..100).map(|_| timed()).min();
        assert!(quickest.is_some_and(|time| time < PAUSE), "{quickest:?}");
        answered();
        let quickest = (0..100).map(|_| timed()).min();
        assert!(
            quickest.is_some_and(|time| time < PAUSE),
            "not of the front line"
        );
    }
}
