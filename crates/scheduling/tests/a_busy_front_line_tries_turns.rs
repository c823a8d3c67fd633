//! A front line that is busy is tried with waiting in turn, and one that answers nothing more wakes promptly again.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::thread::gettid;
use scheduling::front_line;
use scheduling::pace::Pace;

const PATIENCE: Duration = Duration::from_secs(60);

/// The scheduling policy of a thread of this process, as the kernel numbers it.
fn policy(thread: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
    // The fields behind the name begin with the third; the policy is the 41st (proc_pid_stat(5)).
    let behind_name = stat.rsplit_once(')').unwrap().1;
    let mut fields = behind_name.split_ascii_whitespace();
    fields.nth(41 - 3).unwrap().parse().unwrap()
}

/// Looks as often as it says, until the thread has the policy.
fn look_until(pace: &mut Pace, thread: i32, wanted: i32) {
    let began = Instant::now();
    while policy(thread) != wanted {
        assert!(began.elapsed() < PATIENCE, "never had policy {wanted}");
        let rest = pace.look().unwrap();
        std::thread::sleep(rest);
    }
}

#[test]
fn a_busy_front_line_is_tried_with_turns_and_an_idle_one_wakes_promptly() {
    let mut pace = Pace::default();
    let idle = pace.look().unwrap();
    let is_busy = Arc::new(AtomicBool::new(true));
    let (tell, told) = std::sync::mpsc::channel();
    let goes_on = Arc::clone(&is_busy);
    let front_line = std::thread::spawn(move || {
        front_line::join(0);
        tell.send(gettid().as_raw_pid()).unwrap();
        while goes_on.load(Ordering::Relaxed) {
            front_line::answered();
        }
        // Asleep, and still there.
        std::thread::park();
        front_line::leave();
    });
    let thread = told.recv().unwrap();
    assert_eq!(policy(thread), libc::SCHED_OTHER);
    look_until(&mut pace, thread, libc::SCHED_BATCH);
    is_busy.store(false, Ordering::Relaxed);
    look_until(&mut pace, thread, libc::SCHED_OTHER);
    assert_eq!(pace.look().unwrap(), idle, "looked at less often again");
    front_line.thread().unpark();
    front_line.join().unwrap();
    assert_eq!(pace.look().unwrap(), idle, "without any thread");
}
