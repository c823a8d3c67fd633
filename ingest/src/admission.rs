//! Bounds on what callers use (INV-6): a rate a caller, and a number of appends under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::front::HEAVY_BODY;
use crate::problem::Problem;

/// A caller's rate: the generic cell rate algorithm (ITU-T I.371) in one atomic word, with a burst of one second's worth.
pub struct Rate {
    started: Instant,
    interval_ns: u64,
    burst_ns: u64,
    /// When the next request would be due if requests came evenly, in nanoseconds since `started`.
    due_ns: AtomicU64,
}

impl Rate {
    /// A rate of so many requests a second, at least one.
    pub fn new(requests_per_second: u32) -> Self {
        let interval_ns = 1_000_000_000 / u64::from(requests_per_second.max(1));
        Self {
            started: Instant::now(),
            interval_ns,
            burst_ns: 1_000_000_000,
            due_ns: AtomicU64::new(0),
        }
    }

    /// Takes a request's share, if there is one left.
    pub fn admit(&self) -> bool {
        self.admit_at(self.started.elapsed().as_nanos() as u64)
    }

    fn admit_at(&self, now_ns: u64) -> bool {
        let take = |due: u64| {
            let next = due.max(now_ns) + self.interval_ns;
            (next <= now_ns + self.burst_ns).then_some(next)
        };
        self.due_ns
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
    }
}

/// Turns of imports. As many as there are cores are worked on at once, half of the threads of heavy requests: an import gives way to
/// lookups with its thread, and the other half is left to check-ins and lookups in batches.
pub struct Imports {
    permits: Semaphore,
}

impl Default for Imports {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            permits: Semaphore::new(cores),
        }
    }
}

impl Imports {
    /// Waits for a turn with a body of so many bytes; one that is not heavy has no need of one. It ends when what is answered is
    /// dropped.
    pub async fn turn(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if (bytes as u64) < HEAVY_BODY {
            return None;
        }
        // Never closed.
        self.permits.acquire().await.ok()
    }
}

/// Items that may be on their way into the log at once.
pub struct Appends {
    permits: Semaphore,
}

impl Appends {
    /// So many items at once.
    pub fn new(items: usize) -> Self {
        Self {
            permits: Semaphore::new(items),
        }
    }

    /// Takes room for some items, or answers 503 at once: nothing waits here.
    pub fn admit(&self, items: usize) -> Result<SemaphorePermit<'_>, Problem> {
        let items = items.min(u32::MAX as usize) as u32;
        self.permits.try_acquire_many(items).map_err(|_| {
            Problem::unavailable("too many scans are on their way; retry with the same ids")
        })
    }

    /// Room left.
    pub fn room(&self) -> usize {
        self.permits.available_permits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv6_a_caller_gets_its_rate_and_one_burst() {
        let rate = Rate::new(10);
        let admitted = |from_ms: u64, count: u64| {
            (0..count)
                .filter(|_| rate.admit_at(from_ms * 1_000_000))
                .count()
        };
        assert_eq!(admitted(0, 100), 10, "a burst of one second's worth");
        assert_eq!(admitted(500, 100), 5, "then as much as has refilled");
        assert_eq!(
            admitted(60_000, 100),
            10,
            "never more than one burst saved up"
        );
    }

    #[tokio::test]
    async fn imports_wait_for_turns_of_which_there_are_as_many_as_cores_and_small_ones_need_none() {
        let imports = Imports::default();
        let cores = std::thread::available_parallelism().unwrap().get();
        let (heavy, small) = (HEAVY_BODY as usize, HEAVY_BODY as usize - 1);
        let mut turns = Vec::new();
        for _ in 0..cores {
            turns.push(imports.turn(heavy).await.unwrap());
        }
        assert!(imports.turn(small).await.is_none());
        let mut waiting = std::pin::pin!(imports.turn(heavy));
        assert!(futures::poll!(&mut waiting).is_pending());
        turns.pop();
        assert!(waiting.await.is_some());
    }

    #[test]
    fn inv6_appends_beyond_the_bound_are_refused_at_once() {
        let appends = Appends::new(10);
        let held = appends.admit(8).unwrap();
        assert_eq!(appends.admit(3).unwrap_err().status(), 503);
        drop(held);
        assert!(appends.admit(10).is_ok());
    }
}
