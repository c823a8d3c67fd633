//! A log that can be told to refuse or to hang. Tests of other crates include this file by its path.
#![allow(dead_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use event_log::{
    Appended, Bounds, Committed, Consumer, EventLog, LogError, Offset, Partition, PartitionReader,
    Record, SharedLog, StoredRecord, TopicConfig,
};

/// Tells a [`FailingLog`] what to do.
#[derive(Clone, Default)]
pub struct Mood(Arc<AtomicU8>);

impl Mood {
    pub const WORKS: u8 = 0;
    pub const REFUSES: u8 = 1;
    pub const HANGS: u8 = 2;
    /// Appends are refused for the moment; nothing else is answered.
    pub const AWAY: u8 = 3;
    /// Appends are refused for want of room; nothing else is answered.
    pub const FULL: u8 = 4;

    pub fn set(&self, mood: u8) {
        self.0.store(mood, Ordering::SeqCst);
    }

    fn is(&self, mood: u8) -> bool {
        self.0.load(Ordering::SeqCst) == mood
    }

    async fn pass(&self) -> Result<(), LogError> {
        loop {
            match self.0.load(Ordering::SeqCst) {
                Self::WORKS => return Ok(()),
                Self::REFUSES => return Err(LogError::Closed("the test says so".into())),
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    }
}

/// A log whose every call first asks its mood.
pub struct FailingLog {
    pub inner: SharedLog,
    pub mood: Mood,
}

struct FailingReader {
    inner: Box<dyn PartitionReader>,
    mood: Mood,
}

#[async_trait]
impl EventLog for FailingLog {
    fn topics(&self) -> Vec<TopicConfig> {
        self.inner.topics()
    }

    fn partitions(&self, topic: &str) -> Result<u32, LogError> {
        self.inner.partitions(topic)
    }

    async fn append(
        &self,
        topic: &str,
        partition: Partition,
        records: Vec<Record>,
    ) -> Result<Appended, LogError> {
        if self.mood.is(Mood::FULL) {
            return Err(LogError::Full);
        }
        if self.mood.is(Mood::AWAY) {
            return Err(LogError::Unavailable("the test says so".into()));
        }
        self.mood.pass().await?;
        self.inner.append(topic, partition, records).await
    }

    async fn bounds(&self, topic: &str, partition: Partition) -> Result<Bounds, LogError> {
        self.mood.pass().await?;
        self.inner.bounds(topic, partition).await
    }

    async fn read(
        &self,
        topic: &str,
        partition: Partition,
        from: Offset,
    ) -> Result<Box<dyn PartitionReader>, LogError> {
        self.mood.pass().await?;
        let inner = self.inner.read(topic, partition, from).await?;
        let mood = self.mood.clone();
        Ok(Box::new(FailingReader { inner, mood }))
    }

    async fn subscribe(&self, group: &str, topic: &str) -> Result<Box<dyn Consumer>, LogError> {
        self.mood.pass().await?;
        self.inner.subscribe(group, topic).await
    }

    async fn committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
    ) -> Result<Option<Committed>, LogError> {
        self.mood.pass().await?;
        self.inner.committed(group, topic, partition).await
    }

    async fn set_committed(
        &self,
        group: &str,
        topic: &str,
        partition: Partition,
        committed: Committed,
    ) -> Result<(), LogError> {
        self.mood.pass().await?;
        let inner = &self.inner;
        inner
            .set_committed(group, topic, partition, committed)
            .await
    }
}

#[async_trait]
impl PartitionReader for FailingReader {
    async fn next(
        &mut self,
        max_bytes: usize,
        wait: Duration,
    ) -> Result<Vec<StoredRecord>, LogError> {
        self.mood.pass().await?;
        self.inner.next(max_bytes, wait).await
    }

    fn position(&self) -> Offset {
        self.inner.position()
    }

    async fn is_at_end(&mut self) -> bool {
        self.mood.pass().await.is_ok() && self.inner.is_at_end().await
    }
}
