//! Places in the status table: nobody is enrolled who would not fit in it.
//!
//! A person is in the table once the log has the enrolment and the feed has brought it here. Those under way meanwhile hold a place
//! each, so that what is acknowledged always fits. Where places get scarce, a batch waits for those under way, for it cannot tell yet how
//! many of them are new.

use std::pin::pin;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The places.
pub struct Room {
    capacity: usize,
    /// Places held by batches under way.
    held: Mutex<usize>,
    given_back: Notify,
}

impl Room {
    /// Room for so many persons.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            held: Mutex::new(0),
            given_back: Notify::new(),
        }
    }

    /// Places for a batch of so many, or as many as there are; waits for other batches where it is not certain how many there are.
    /// `enrolled` tells how many persons are in the table.
    pub async fn places(self: &Arc<Self>, wanted: usize, enrolled: impl Fn() -> usize) -> Places {
        loop {
            let mut given_back = pin!(self.given_back.notified());
            given_back.as_mut().enable();
            if let Some(places) = self.try_places(wanted, &enrolled) {
                return places;
            }
            given_back.await;
        }
    }

    fn try_places(self: &Arc<Self>, wanted: usize, enrolled: impl Fn() -> usize) -> Option<Places> {
        let mut held = self.held.lock();
        // Asked for under the lock: who gives places back is in the table by then.
        let free = self.capacity.saturating_sub(enrolled() + *held);
        if free < wanted && *held > 0 {
            return None;
        }
        let taken = free.min(wanted);
        *held += taken;
        Some(Places {
            room: Arc::clone(self),
            held: taken,
            left: taken,
        })
    }
}

/// Places of one batch, given back when it is dropped.
pub struct Places {
    room: Arc<Room>,
    held: usize,
    left: usize,
}

impl Places {
    /// Persons that fit in all.
    pub fn capacity(&self) -> usize {
        self.room.capacity
    }

    /// Takes the place of one new person; there may be none.
    pub const fn take(&mut self) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => false,
        }
    }

    /// Gives back what nobody took.
    pub fn keep_taken(&mut self) {
        let left = std::mem::take(&mut self.left);
        self.give_back(left);
    }

    fn give_back(&mut self, places: usize) {
        if places > 0 {
            self.held -= places;
            *self.room.held.lock() -= places;
            self.room.given_back.notify_waiters();
        }
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        self.give_back(self.held);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn a_batch_has_no_more_places_than_are_left() {
        let room = Arc::new(Room::new(10));
        let mut places = room.places(5, || 8).await;
        assert!(places.take() && places.take() && !places.take());
        drop(places);
        assert!(!room.places(1, || 10).await.take());
        // Who lowered the capacity below those enrolled has no place either.
        assert!(!room.places(1, || 12).await.take());
    }

    #[tokio::test]
    async fn where_all_places_are_taken_no_batch_waits() {
        let room = Arc::new(Room::new(10));
        let first = room.places(5, || 10).await;
        let second = room.places(5, || 10).await;
        drop((first, second));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn batches_under_way_together_enrol_exactly_as_many_as_fit() {
        const CAPACITY: usize = 1_000;
        let room = Arc::new(Room::new(CAPACITY));
        let enrolled = Arc::new(AtomicUsize::new(0));
        let batches = (0..50).map(|batch| {
            let (room, enrolled) = (Arc::clone(&room), Arc::clone(&enrolled));
            tokio::spawn(async move {
                let wanted = 7 + batch;
                let mut places = room
                    .places(wanted, || enrolled.load(Ordering::Relaxed))
                    .await;
                let taken = (0..wanted).filter(|_| places.take()).count();
                places.keep_taken();
                tokio::task::yield_now().await;
                enrolled.fetch_add(taken, Ordering::Relaxed);
                drop(places);
                taken
            })
        });
        let mut taken = 0;
        for batch in batches.collect::<Vec<_>>() {
            taken += batch.await.unwrap();
        }
        assert_eq!(taken, CAPACITY);
        assert_eq!(*room.held.lock(), 0);
    }
}
