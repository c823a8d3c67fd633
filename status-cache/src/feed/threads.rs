//! Threads of a feed's own, which stand back: a lookup that wakes goes before what is applied, and what is applied is owed little for it.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// How far the feed's threads stand back, in steps of `nice`: as far as a database beside it.
const STANDS_BACK: u8 = 5;

/// A runtime, which waits for nothing when it is dropped.
pub(super) struct Threads {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Threads {
    /// # Errors
    /// Where the system has none.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("status-feed")
            .on_thread_start(|| {
                if let Err(error) = scheduling::stand_back(STANDS_BACK) {
                    tracing::warn!(%error, "the status feed does not stand back behind lookups");
                }
            })
            .enable_all()
            .build()?;
        Ok(Self {
            handle: runtime.handle().clone(),
            runtime: Some(runtime),
        })
    }

    pub(super) const fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
