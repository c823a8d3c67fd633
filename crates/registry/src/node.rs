//! Follows the registry's topic, and submits commands to it.

use std::sync::Arc;
use std::time::Duration;

use event_log::{LogError, Offset, Record, SharedLog};
use scan_model::codec::{self, CodecError};
use scan_model::{SiteKind, SiteRef};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::TOPIC;
use crate::command::{Command, Verdict};
use crate::site::Site;
use crate::state::RegistryState;

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
        let state = Arc::new(RegistryState::default());
        let bounds = log.bounds(TOPIC, 0).await?;
        let (sender, mut position) = watch::channel(bounds.start);
        let task = tokio::spawn(follow(
            Arc::clone(&log),
            Arc::clone(&state),
            bounds.start,
            sender,
        ));
        let caught_up = position
            .wait_for(|position| *position >= bounds.end)
            .await
            .is_ok();
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
    start: Offset,
    position: watch::Sender<Offset>,
) {
    let mut reader = match log.read(TOPIC, 0, start).await {
        Ok(reader) => reader,
        Err(error) => return tracing::error!(%error, "registry does not follow its topic"),
    };
    loop {
        let records = match reader.next(1 << 20, Duration::from_secs(60)).await {
            Ok(records) => records,
            Err(error) => return tracing::error!(%error, "registry stopped following its topic"),
        };
        for record in records {
            let Some(value) = record.record.value else {
                continue;
            };
            match codec::decode::<Command>(&value) {
                Ok(command) => {
                    state.apply(&command);
                }
                // INV-10: never dropped; this node stays at the position before it.
                Err(error @ CodecError::NewerVersion { .. }) => {
                    return tracing::error!(%error, record.offset, "registry paused");
                }
                Err(error) => tracing::error!(%error, record.offset, "registry command skipped"),
            }
        }
        position.send_replace(reader.position());
    }
}
