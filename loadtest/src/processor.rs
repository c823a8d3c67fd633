//! How many cores processes of this machine use while a load runs.

use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A process to watch, written `name=pid`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What the result calls it.
    pub name: String,
    /// Its process id.
    pub pid: u32,
}

impl FromStr for Process {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, pid) = text
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .ok_or("must be a name, = and a process id")?;
        let pid = pid
            .parse()
            .map_err(|_| "the process id must be an integer")?;
        Ok(Self {
            name: name.to_owned(),
            pid,
        })
    }
}

/// Processes from a moment on: this one, and others.
pub struct Watch {
    started: Instant,
    processes: Vec<(Process, Duration)>,
}

impl Watch {
    /// Begins to watch.
    ///
    /// # Errors
    /// Where a process is not there.
    pub fn begin(others: &[Process]) -> Result<Self> {
        let itself = Process {
            name: "generator".into(),
            pid: std::process::id(),
        };
        let processes = others
            .iter()
            .chain([&itself])
            .map(|process| Ok((process.clone(), used(process)?)))
            .collect::<Result<_>>()?;
        Ok(Self {
            started: Instant::now(),
            processes,
        })
    }

    /// The cores that each process has used since, in all its threads.
    ///
    /// # Errors
    /// Where a process is gone.
    pub fn cores(&self) -> Result<Vec<(String, f64)>> {
        let elapsed = self.started.elapsed().as_secs_f64();
        self.processes
            .iter()
            .map(|(process, before)| {
                let used = used(process)?.saturating_sub(*before);
                Ok((process.name.clone(), used.as_secs_f64() / elapsed))
            })
            .collect()
    }
}

/// Processor time of a process so far, of user and system: fields 14 and 15 of its `stat` (proc(5)).
fn used(process: &Process) -> Result<Duration> {
    let path = format!("/proc/{}/stat", process.pid);
    let stat = std::fs::read_to_string(&path)
        .with_context(|| format!("process {}: read {path}", process.name))?;
    let ticks = ticks(&stat).with_context(|| format!("{path} is not as proc(5) has it"))?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

fn ticks(stat: &str) -> Option<u64> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let stat = "1 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 70 8 0 0 20 0 1 0 100 0 0";
        assert_eq!(ticks(stat), Some(78));
        assert_eq!(ticks("1 (a) S 1"), None);
    }

    #[test]
    fn a_process_that_works_is_seen_to_work() {
        let watch = Watch::begin(&[]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while watch.cores().unwrap()[0].1 == 0.0 {
            assert!(Instant::now() < deadline, "no processor time is seen");
            std::hint::black_box((0..100_000_u64).sum::<u64>());
        }
    }

    #[test]
    fn a_process_is_written_as_name_and_id() {
        let process: Process = "broker=12".parse().unwrap();
        assert_eq!((process.name.as_str(), process.pid), ("broker", 12));
        for wrong in ["12", "=12", "broker=", "broker=x"] {
            assert!(wrong.parse::<Process>().is_err(), "{wrong}");
        }
    }
}
