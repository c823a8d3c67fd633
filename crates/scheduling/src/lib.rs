//! How a thread stands among the others of its machine, where lookups, imports and a database share a few cores.
//!
//! Linux gives waiting threads equal shares of a core. A thread that answers lookups uses little and needs it at once; one
//! that works through an import uses all there is, and nobody waits for its next microsecond. Both can say so without any
//! privilege; docs/decisions/0016 has what that changes. Threads inherit what their creator has said.

pub mod front_line;
pub mod pace;
mod standing_back;
mod wakes;

use std::io;

use rustix::process::{getpriority_process, setpriority_process};

pub use crate::standing_back::StandingBack;
pub use crate::wakes::wake_promptly;

/// Lets the calling thread stand back behind others by so many steps of `nice(1)`: where a core is wanted by more than one, each
/// step leaves it a fifth less. A thread that stood back cannot come forward again.
///
/// # Errors
/// Where a sandbox forbids it.
pub fn stand_back(steps: u8) -> io::Result<()> {
    let niceness = getpriority_process(None)? + i32::from(steps);
    Ok(setpriority_process(None, niceness)?)
}

/// Lets a waiting thread go first, at a place in long work where that costs little; to be called every 25 to 100 microseconds.
///
/// Linux decides who goes first when a thread wakes and then every few milliseconds. One that wakes just after it had its share is
/// passed over, and would wait that long for a lookup of microseconds. Where this process has a [front line](front_line) and that has
/// answered nothing lately, nothing happens.
pub fn breathe() {
    front_line::breathe();
}

/// Lets others go first once in so many items of a long row.
#[derive(Debug)]
pub struct Breather {
    every: u32,
    left: u32,
    pause: fn(),
}

impl Breather {
    /// Breathes at every so many items, at each of them for 0.
    pub const fn every(items: u32) -> Self {
        Self {
            every: items,
            left: items,
            pause: breathe,
        }
    }

    /// [Gives way](front_line::give_way) to the front line at every so many items: for rows that nobody waits for.
    pub const fn giving_way_every(items: u32) -> Self {
        Self {
            pause: front_line::give_way,
            ..Self::every(items)
        }
    }

    /// One item is done.
    pub fn item(&mut self) {
        self.items(1);
    }

    /// So many items are done.
    pub fn items(&mut self, count: u32) {
        self.left = self.left.saturating_sub(count);
        if self.left == 0 {
            self.left = self.every;
            (self.pause)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stands_back_leaves_the_others_where_they_are() {
        let before = getpriority_process(None).unwrap();
        let other = std::thread::spawn(|| {
            stand_back(3).unwrap();
            stand_back(4).unwrap();
            getpriority_process(None).unwrap()
        });
        assert_eq!(other.join().unwrap(), (before + 7).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
