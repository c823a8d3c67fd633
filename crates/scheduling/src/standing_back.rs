//! A runtime whose threads stand back.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of one kind of work, which let others go first. Dropped, it ends what is under way at its next wait, and waits for none of it.
pub struct StandingBack {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl StandingBack {
    /// So many threads, [standing back](crate::stand_back) by so many steps; `name` is the work's.
    ///
    /// # Errors
    /// Where the system has no threads for it.
    pub fn start(name: &'static str, threads: usize, steps: u8) -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .on_thread_start(move || {
                if let Err(error) = crate::stand_back(steps) {
                    tracing::warn!(%error, work = name, "a thread does not stand back behind lookups");
                }
            })
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    /// Where to spawn.
    pub const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for StandingBack {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::getpriority_process;

    #[test]
    fn work_stands_back_behind_whoever_started_it() {
        let before = getpriority_process(None).unwrap();
        let threads = StandingBack::start("work", 1, 3).unwrap();
        let work = threads.handle().spawn(async { getpriority_process(None) });
        let waiting = Builder::new_current_thread().build().unwrap();
        let niceness = waiting.block_on(work).unwrap().unwrap();
        assert_eq!(niceness, (before + 3).min(19));
        assert_eq!(getpriority_process(None).unwrap(), before);
    }
}
