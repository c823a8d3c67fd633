//! How a front line's threads are to wake, chosen by what they get done.
//!
//! A thread that wakes [promptly](Wakes::Promptly) takes its core from who runs there. Where that is the very client it answers,
//! on the same cores and with all it can ask at once, each wake costs the client its core after some three requests, and both pay
//! for the change. Threads that wait [in turn](Wakes::InTurn) then find more to do at once, and all get more done. Beside long work of
//! others, however, they would wait for milliseconds, and get less done. No rule tells these apart from outside, so a [`Chooser`] tries: it
//! looks at what is answered meanwhile, and stays with turns only for as long as they bring more. docs/decisions/0015 has what
//! was measured.

use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::front_line;
use crate::wakes::{self, Wakes};

/// How often a chooser is told while the front line is at work.
const WINDOW: Duration = Duration::from_millis(25);

/// Windows whose mean a trial is compared with.
const WINDOWS_BEFORE: u32 = 8;
/// Windows of a trial, after a first that does not count.
const WINDOWS_TRIED: u32 = 2;
/// Share of its core that a front-line thread takes at least where turns may bring more: below it, lookups do not wait for each other.
const BUSY: f64 = 0.4;
/// What turns must bring to be kept after a trial.
const WORTH: f64 = 1.1;
/// What they must go on to bring.
const STILL_WORTH: f64 = 1.05;
/// Windows in a row that bring less before turns end.
const WINDOWS_OF_LESS: u32 = 3;
/// Below this, turns end with the first window.
const HARMFUL: f64 = 0.8;
/// Between a trial that brought nothing and the next, at first; twice as long after each, up to `LONGEST_REST`.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(120);

/// What a front line did since the chooser was told before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Progress {
    /// The time that it is about.
    pub(crate) elapsed: Duration,
    /// Requests answered in it.
    pub(crate) answered: u64,
    /// Processor time that the front line's threads took for them.
    pub(crate) used: Duration,
    /// How many threads those are.
    pub(crate) threads: u32,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Waking promptly; `windows` busy ones in a row, with `sum` of their rates.
    Prompt { windows: u32, sum: f64 },
    /// Waiting in turn to see whether it brings more than `before`, `windows` so far.
    Trying { before: f64, windows: u32, sum: f64 },
    /// Waiting in turn, as it brings more than `before`; so many windows in a row brought less.
    InTurn { before: f64, less: u32 },
}

/// Chooses how a front line's threads wake by what they get done.
#[derive(Debug)]
pub(crate) struct Chooser {
    state: State,
    /// Until the next trial.
    rest: Duration,
    /// After the next trial that brings nothing.
    next_rest: Duration,
}

impl Default for Chooser {
    fn default() -> Self {
        Self {
            state: State::PROMPT,
            rest: Duration::ZERO,
            next_rest: FIRST_REST,
        }
    }
}

impl State {
    const PROMPT: Self = Self::Prompt {
        windows: 0,
        sum: 0.0,
    };
}

impl Chooser {
    /// Takes what a window brought and says how the threads are to wake from now on.
    pub(crate) fn choose(&mut self, progress: Progress) -> Wakes {
        let seconds = progress.elapsed.as_secs_f64().max(1e-6);
        let rate = progress.answered as f64 / seconds;
        let share = progress.used.as_secs_f64() / seconds / f64::from(progress.threads.max(1));
        self.rest = self.rest.saturating_sub(progress.elapsed);
        self.state = match self.state {
            State::Prompt { .. } if share < BUSY || !self.rest.is_zero() => State::PROMPT,
            State::Prompt { windows, sum } if windows + 1 < WINDOWS_BEFORE => State::Prompt {
                windows: windows + 1,
                sum: sum + rate,
            },
            State::Prompt { windows, sum } => State::Trying {
                before: (sum + rate) / f64::from(windows + 1),
                windows: 0,
                sum: 0.0,
            },
            State::Trying { before, .. } if rate < HARMFUL * before => self.give_up(),
            State::Trying {
                before, windows: 0, ..
            } => State::Trying {
                before,
                windows: 1,
                sum: 0.0,
            },
            State::Trying {
                before,
                windows,
                sum,
            } if windows < WINDOWS_TRIED => State::Trying {
                before,
                windows: windows + 1,
                sum: sum + rate,
            },
            State::Trying {
                before,
                windows,
                sum,
            } => {
                if (sum + rate) / f64::from(windows) < WORTH * before {
                    self.give_up()
                } else {
                    self.next_rest = FIRST_REST;
                    State::InTurn { before, less: 0 }
                }
            }
            State::InTurn { before, .. } if rate >= STILL_WORTH * before => {
                State::InTurn { before, less: 0 }
            }
            State::InTurn { before, less }
                if rate >= HARMFUL * before && less + 1 < WINDOWS_OF_LESS =>
            {
                State::InTurn {
                    before,
                    less: less + 1,
                }
            }
            State::InTurn { .. } => {
                self.rest = FIRST_REST;
                State::PROMPT
            }
        };
        match self.state {
            State::Prompt { .. } => Wakes::Promptly,
            State::Trying { .. } | State::InTurn { .. } => Wakes::InTurn,
        }
    }

    fn give_up(&mut self) -> State {
        self.rest = self.next_rest;
        self.next_rest = (2 * self.next_rest).min(LONGEST_REST);
        State::PROMPT
    }
}

/// Requests in a window below which nobody looks how busy the threads are.
const FEW: u64 = 100;
/// Until the next look at a front line that has little to do.
const IDLE: Duration = Duration::from_millis(250);

/// Watches this process's front line and says how its threads wake.
#[derive(Debug)]
pub struct Pace {
    chooser: Chooser,
    wakes: Wakes,
    at: Instant,
    answered: u64,
    used: Option<Duration>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            chooser: Chooser::default(),
            wakes: Wakes::Promptly,
            at: Instant::now(),
            answered: front_line::all_answered().1,
            used: None,
        }
    }
}

impl Pace {
    /// Looks at what was answered since the last time, and answers when to look again.
    ///
    /// # Errors
    /// Where a sandbox forbids to say how threads wake, or the kernel does not tell their time: there is no use in looking again. The
    /// threads wake promptly then, as far as that can be said.
    pub fn look(&mut self) -> std::io::Result<Duration> {
        let rest = self.look_and_choose();
        if rest.is_err() {
            for thread in front_line::threads() {
                // The error that is answered tells of it.
                let _ = wakes::set(Some(thread), Wakes::Promptly);
            }
        }
        rest
    }

    fn look_and_choose(&mut self) -> std::io::Result<Duration> {
        let at = Instant::now();
        let (_, answered) = front_line::all_answered();
        let new = answered.wrapping_sub(self.answered);
        if new < FEW && self.wakes == Wakes::Promptly {
            (self.at, self.answered, self.used) = (at, answered, None);
            return Ok(IDLE);
        }
        let threads = front_line::threads();
        let mut used = Duration::ZERO;
        for thread in &threads {
            used += time_used(*thread)?;
        }
        // Where it was not looked at before, nothing is said of this window.
        let before = self.used.replace(used).unwrap_or(used);
        let wakes = self.chooser.choose(Progress {
            elapsed: at.duration_since(self.at),
            answered: new,
            used: used.saturating_sub(before),
            threads: u32::try_from(threads.len()).unwrap_or(u32::MAX),
        });
        (self.at, self.answered) = (at, answered);
        if wakes != self.wakes {
            for thread in threads {
                wakes::set(Some(thread), wakes)?;
            }
            self.wakes = wakes;
        }
        Ok(WINDOW)
    }
}

/// The processor time of a thread of this process.
fn time_used(thread: Pid) -> std::io::Result<Duration> {
    let path = format!("/proc/self/task/{}/schedstat", thread.as_raw_pid());
    let text = std::fs::read_to_string(path)?;
    let nanos = text.split_ascii_whitespace().next();
    nanos
        .and_then(|nanos| nanos.parse().ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| std::io::Error::other("a thread's schedstat has no time"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A front line of two busy threads that answers so many a second.
    fn busy(rate: u64) -> Progress {
        Progress {
            elapsed: WINDOW,
            answered: rate / 40,
            used: WINDOW,
            threads: 2,
        }
    }

    /// The windows until threads wait in turn, at a rate; `None` where they do not within so many.
    fn windows_until_turns(chooser: &mut Chooser, rate: u64, most: u32) -> Option<u32> {
        (1..=most).find(|_| chooser.choose(busy(rate)) == Wakes::InTurn)
    }

    fn kept() -> Chooser {
        let mut chooser = Chooser::default();
        assert_eq!(windows_until_turns(&mut chooser, 100_000, 100), Some(8));
        for _ in 0..=WINDOWS_TRIED {
            assert_eq!(chooser.choose(busy(130_000)), Wakes::InTurn);
        }
        chooser
    }

    #[test]
    fn turns_are_kept_for_as_long_as_they_bring_more() {
        let mut chooser = kept();
        for rate in [130_000, 150_000, 101_000, 101_000, 110_000, 101_000] {
            assert_eq!(chooser.choose(busy(rate)), Wakes::InTurn, "{rate}");
        }
        assert_eq!(chooser.choose(busy(101_000)), Wakes::InTurn);
        assert_eq!(chooser.choose(busy(101_000)), Wakes::Promptly);
        let mut chooser = kept();
        assert_eq!(chooser.choose(busy(20_000)), Wakes::Promptly, "all at once");
    }

    #[test]
    fn a_trial_that_brings_nothing_ends_and_the_next_comes_ever_later() {
        let mut chooser = Chooser::default();
        let mut last = windows_until_turns(&mut chooser, 100_000, 100).unwrap();
        for longer in [40, 80, 160] {
            let tried = (0..10).take_while(|_| chooser.choose(busy(105_000)) == Wakes::InTurn);
            assert_eq!(tried.count() as u32, WINDOWS_TRIED);
            last = windows_until_turns(&mut chooser, 100_000, 1000).unwrap();
            assert!((longer..longer + 10).contains(&last), "{last}");
        }
        for _ in 0..10 {
            chooser.choose(busy(50_000));
            last = windows_until_turns(&mut chooser, 100_000, 10_000).unwrap();
        }
        let longest = (LONGEST_REST.as_millis() / WINDOW.as_millis()) as u32;
        assert!((longest..longest + 10).contains(&last), "{last}");
    }

    #[test]
    fn a_trial_that_does_harm_ends_with_its_first_window() {
        let mut chooser = Chooser::default();
        windows_until_turns(&mut chooser, 100_000, 100).unwrap();
        assert_eq!(chooser.choose(busy(70_000)), Wakes::Promptly);
    }

    #[test]
    fn threads_with_time_to_spare_wake_promptly() {
        let mut chooser = Chooser::default();
        for _ in 0..1000 {
            let idle = Progress {
                used: WINDOW * 2 * 3 / 10,
                ..busy(100_000)
            };
            assert_eq!(chooser.choose(idle), Wakes::Promptly);
        }
        // Nor do single windows make a busy row.
        for window in 0..1000 {
            let used = if window % 8 == 7 {
                Duration::ZERO
            } else {
                WINDOW * 2
            };
            let changing = Progress {
                used,
                ..busy(100_000)
            };
            assert_eq!(chooser.choose(changing), Wakes::Promptly);
        }
    }
}
