//! Follows the registry's topic, and submits commands to it.
//!
//! With a copy on this machine's disk a node starts from it while the log is away, and follows once the log is back.

use std::sync::Arc;
use std::time::Duration;

use event_log::{LogError, Offset, PartitionReader, Record, SharedLog, StoredRecord};
use scan_model::codec::{self, CodecError};
use scan_model::{SiteKind, SiteRef};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::TOPIC;
use crate::command::{Command, Verdict};
use crate::copy::RegistryCopy;
use crate::site::Site;
use crate::state::RegistryState;

/// How long to wait before asking a log again that was away.
const AWAY_INTERVAL: Duration = Duration::from_secs(1);
/// How long a submitted command may take to come back.
const APPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a command was not applied here.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The log refused; nothing was appended.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The command does not encode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Appended, but this node does not follow the topic; retry with the same id.
    #[error("the registry is not following its topic; retry with the same command id")]
    NotFollowing,
}

/// This node's registry.
pub struct RegistryNode {
    log: SharedLog,
    state: Arc<RegistryState>,
    position: watch::Receiver<Offset>,
    task: JoinHandle<()>,
}

impl RegistryNode {
    /// Starts following the topic and waits until everything that it holds now has been applied.
    pub async fn start(log: SharedLog) -> Result<Self, RegistryError> {
        Self::start_with(log, None, AWAY_INTERVAL).await
    }

    /// The same, with a copy of the topic on this machine's disk: a log that has the topic `registry`. Where the copy knows
    /// anything and the log does not answer within `patience`, the node starts with what the copy knows.
    pub async fn start_from_copy(
        log: SharedLog,
        copy: SharedLog,
        patience: Duration,
    ) -> Result<Self, RegistryError> {
        Self::start_with(log, Some(copy), patience).await
    }

    async fn start_with(
        log: SharedLog,
        copy: Option<SharedLog>,
        patience: Duration,
    ) -> Result<Self, RegistryError> {
        let state = Arc::new(RegistryState::default());
        let copy = match copy {
            Some(local) => {
                let mut pause = None;
                let opened = RegistryCopy::open(local, |record| {
                    if pause.is_none() {
                        pause = apply(&state, record).err();
                    }
                });
                let opened = opened.await?;
                if let Some(error) = pause {
                    return Err(error.into());
                }
                Some(opened)
            }
            None => None,
        };
        let start = copy.as_ref().map_or(0, RegistryCopy::next);
        let (sender, mut position) = watch::channel(start);
        let task = tokio::spawn(follow(
            Arc::clone(&log),
            Arc::clone(&state),
            copy,
            start,
            sender,
        ));
        let end = loop {
            let asked = tokio::time::timeout(patience.max(AWAY_INTERVAL), log.bounds(TOPIC, 0));
            match asked.await {
                Ok(Ok(bounds)) => break bounds.end,
                Ok(Err(error)) if !error.is_retryable() => return Err(error.into()),
                _ if start > 0 => {
                    tracing::warn!(
                        "the log is away; the registry is as this machine's copy has it"
                    );
                    break 0;
                }
                _ => {
                    tracing::warn!("the log is away; waiting for the registry");
                    tokio::time::sleep(AWAY_INTERVAL).await;
                }
            }
        };
        let caught_up = position.wait_for(|position| *position >= end).await.is_ok();
        if !caught_up {
            return Err(RegistryError::NotFollowing);
        }
        Ok(Self {
            log,
            state,
            position,
            task,
        })
    }

    /// What is known of a site.
    pub fn site(&self, site: SiteRef) -> Option<Arc<Site>> {
        self.state.site(site)
    }

    /// Whether a grid was dissolved (G5).
    pub fn is_dissolved(&self, site: SiteRef) -> bool {
        self.state.is_dissolved(site)
    }

    /// Every site of a kind, by id.
    pub fn sites(&self, kind: SiteKind) -> Vec<Arc<Site>> {
        self.state.sites(kind)
    }

    /// Appends a command and answers its verdict once it has been applied here.
    pub async fn submit(&self, command: &Command) -> Result<Verdict, RegistryError> {
        let record = Record::unkeyed(codec::encode(command)?);
        let appended = self.log.append(TOPIC, 0, vec![record]).await?;
        let mut position = self.position.clone();
        let applied = position.wait_for(|position| *position > appended.first);
        match tokio::time::timeout(APPLY_TIMEOUT, applied).await {
            Ok(Ok(_)) => self
                .state
                .verdict(command.id)
                .ok_or(RegistryError::NotFollowing),
            _ => Err(RegistryError::NotFollowing),
        }
    }
}

impl Drop for RegistryNode {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(
    log: SharedLog,
    state: Arc<RegistryState>,
    mut copy: Option<RegistryCopy>,
    start: Offset,
    position: watch::Sender<Offset>,
) {
    let mut reader = match open_reader(&log, start).await {
        Ok(reader) => reader,
        Err(error) => return tracing::error!(%error, "registry does not follow its topic"),
    };
    loop {
        let records = match reader.next(1 << 20, Duration::from_secs(60)).await {
            Ok(records) => records,
            Err(error) => return tracing::error!(%error, "registry stopped following its topic"),
        };
        for record in &records {
            // INV-10: never dropped; this node stays at the position before it.
            if let Err(error) = apply(&state, record) {
                return tracing::error!(%error, record.offset, "registry paused");
            }
        }
        if let Some(kept) = &mut copy
            && let Err(error) = kept.add(&records).await
        {
            // It ends here until the next start, which reads on from its end; a gap would be for ever.
            tracing::error!(%error, "the registry's copy is not kept up until the next start");
            copy = None;
        }
        position.send_replace(reader.position());
    }
}

/// A reader from an offset; waits while the log is away.
async fn open_reader(log: &SharedLog, from: Offset) -> Result<Box<dyn PartitionReader>, LogError> {
    loop {
        let opened = async {
            let bounds = log.bounds(TOPIC, 0).await?;
            log.read(TOPIC, 0, from.max(bounds.start)).await
        };
        match opened.await {
            Err(error) if error.is_retryable() => tokio::time::sleep(AWAY_INTERVAL).await,
            outcome => return outcome,
        }
    }
}

/// Applies a record. One that is damaged is skipped; one of a newer version is an error (INV-10).
fn apply(state: &RegistryState, record: &StoredRecord) -> Result<(), CodecError> {
    let Some(value) = &record.record.value else {
        return Ok(());
    };
    match codec::decode::<Command>(value) {
        Ok(command) => {
            state.apply(&command);
        }
        Err(error @ CodecError::NewerVersion { .. }) => return Err(error),
        Err(error) => tracing::error!(%error, record.offset, "registry command skipped"),
    }
    Ok(())
}
