//! The log of either deployment, for tools that work on it beside the services, or while they are stopped.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::Args;
use event_log::kafka::topics::TopicAdmin;
use event_log::local::LocalOptions;
use event_log::{KafkaLog, LocalLog, LogError, SharedLog};
use ingest::topics::{self, Retention};

use crate::cluster::check_fit;
use crate::cluster_options::LogOptions;

/// Where the log is.
#[derive(Args, Clone)]
pub struct ToolLogOptions {
    /// The data folder of a local deployment, which must be stopped meanwhile; the log is on Kafka without it.
    #[arg(long)]
    pub data: Option<PathBuf>,
    #[command(flatten)]
    pub kafka: LogOptions,
}

impl ToolLogOptions {
    /// Opens the log; `client` is what brokers call this process.
    pub async fn open(&self, client: &str) -> Result<SharedLog> {
        match &self.data {
            Some(data) => open_local(data).await,
            None => self.open_kafka(client).await,
        }
    }

    async fn open_kafka(&self, client: &str) -> Result<SharedLog> {
        let declared = self.kafka.topics()?;
        let kafka = self.kafka.kafka(client)?;
        let admin = TopicAdmin::new(&kafka)?;
        let findings = admin.compare(&declared, self.kafka.durability()).await;
        check_fit(&findings.context("kafka_bootstrap")?)?;
        Ok(Arc::new(KafkaLog::connect(kafka, declared)?))
    }
}

async fn open_local(data: &Path) -> Result<SharedLog> {
    let folder = data.join("log");
    // What the deployment was made with; opening it with another number is refused.
    let partitions = std::fs::read_dir(folder.join(topics::SCANS))
        .with_context(|| format!("data: {} holds no log", data.display()))?
        .count() as u32;
    let declared = topics::all(partitions, Retention::default());
    let opened = tokio::task::spawn_blocking(move || {
        LocalLog::open(&folder, declared, &LocalOptions::default())
    });
    match opened.await? {
        Ok((log, _)) => Ok(Arc::new(log)),
        Err(LogError::Locked(folder)) => bail!(
            "data: {} is in use; the log of a local deployment has one user at a time: stop `tongxing up` first",
            folder.display()
        ),
        Err(error) => Err(error).context("data"),
    }
}
