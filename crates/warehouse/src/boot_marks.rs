//! Tells whether a server was restarted.
//!
//! On one server a mark is a row in a table whose contents do not survive a restart. On a cluster, where a statement meets
//! one of several servers, a mark is the moment at which it was set, and holds while every server that can be reached has been up
//! for longer than that is ago. A server that comes back fetches what it lost from its fellows, so this guards against a
//! shard whose servers all stopped.

use serde::Deserialize;

use crate::store::{Store, StoreError};
use crate::topology::Topology;

/// Two clocks that count whole seconds differ by this much at most; a server younger than its mark by less counts as restarted.
const ROUNDING_SECONDS: u64 = 2;

/// A mark that a writer set.
pub struct BootMark {
    writer: String,
    mark: u64,
}

#[derive(Deserialize)]
struct Mark {
    mark: u64,
}

#[derive(Deserialize)]
struct Youngest {
    started_before: u64,
}

impl BootMark {
    /// Sets a new mark for a writer. Everything that the servers were asked before is to be proven by then.
    pub async fn set(store: &Store, writer: &str) -> Result<Self, StoreError> {
        let mark = match store.topology() {
            Topology::SingleServer => {
                let mark = uuid::Uuid::new_v4().as_u64_pair().0;
                let insert = format!("INSERT INTO boot_marks VALUES ('{writer}', {mark})");
                store.execute(&insert).await?;
                mark
            }
            Topology::Cluster(_) => {
                let now: Mark = store
                    .row("SELECT toUnixTimestamp(now()) AS mark", &[])
                    .await?;
                now.mark
            }
        };
        Ok(Self {
            writer: writer.to_owned(),
            mark,
        })
    }

    /// Whether the servers are still those in which the mark was set.
    pub async fn holds(&self, store: &Store) -> Result<bool, StoreError> {
        if store.topology().cluster().is_some() {
            return Ok(self.mark >= youngest_start(store).await?);
        }
        let marks: Vec<Mark> = store
            .rows(
                "SELECT mark FROM boot_marks WHERE writer = {writer:String}",
                &[("writer", self.writer.clone())],
            )
            .await?;
        Ok(marks.iter().any(|found| found.mark == self.mark))
    }

    /// Notes that the rollups of a log partition were proven under this mark.
    pub async fn note_proven(&self, store: &Store, log_partition: u32) -> Result<(), StoreError> {
        let (writer, mark) = (rollups_of(log_partition), self.mark);
        let insert = format!("INSERT INTO boot_marks VALUES ('{writer}', {mark})");
        store.execute(&insert).await
    }

    /// Whether the rollups of a log partition were proven since the last start. A note counts only beside the mark
    /// under which it was made, or on a cluster if no server is younger: a restart after it leaves the note alone.
    pub async fn is_proven(store: &Store, log_partition: u32) -> Result<bool, StoreError> {
        let note = [("note", rollups_of(log_partition))];
        if store.topology().cluster().is_some() {
            let youngest = youngest_start(store).await?;
            let marks: Vec<Mark> = store
                .rows(
                    "SELECT mark FROM boot_marks WHERE writer = {note:String}",
                    &note,
                )
                .await?;
            return Ok(marks.iter().any(|found| found.mark >= youngest));
        }
        let marks: Vec<Mark> = store
            .rows(
                "SELECT mark FROM boot_marks WHERE writer = {note:String}
                 AND mark IN (SELECT mark FROM boot_marks WHERE writer != {note:String} AND NOT startsWith(writer, 'rollups of '))",
                &note,
            )
            .await?;
        Ok(!marks.is_empty())
    }
}

/// When the youngest server started, by the clock of the one that answers, rounded up.
async fn youngest_start(store: &Store) -> Result<u64, StoreError> {
    let servers = store.topology().system_table("one");
    let sql = format!(
        "SELECT toUInt64(toUnixTimestamp(now()) - min(up) + {ROUNDING_SECONDS}) AS started_before
         FROM (SELECT uptime() AS up FROM {servers}) SETTINGS skip_unavailable_shards = 1"
    );
    let youngest: Youngest = store.row(&sql, &[]).await?;
    Ok(youngest.started_before)
}

fn rollups_of(log_partition: u32) -> String {
    format!("rollups of partition {log_partition}")
}
