//! Proves rollup slices against raw rows, and rebuilds those that differ.
//!
//! A slice is one log partition's share of one week. A view writes its rollup after the raw part is in place, so an
//! engine that is killed in between leaves raw rows that a rollup never saw; retrying the insert cannot mend that, but
//! the raw rows can: a rollup is what its view's own SELECT says of them. The proof compares the two; the repair runs the
//! SELECT into a staging table and swaps the partition in, in one step.
//!
//! Rollup parts are not synced when they are written (docs/decisions/0004), so a power cut may take the newest of them.
//! After a restart of the engine everything [`touched_lately`] is proven for that reason.

use std::collections::BTreeSet;
use std::time::Duration;

use scan_model::Timestamp;
use serde::Deserialize;

use crate::store::{Store, StoreError};
use crate::topology::Cluster;
use crate::{replicas, retention};

/// What was written this long before the newest write is on the disk without a sync: twenty times the 30 s after which
/// Linux writes dirty pages back (`vm.dirty_expire_centisecs`).
const WRITTEN_BACK_AFTER: Duration = Duration::from_secs(600);

/// A proof reads a slice's raw rows as a whole: about a second for each million on two busy cores.
const PROOF_TIMEOUT: Duration = Duration::from_mins(10);

/// One log partition's share of one week.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct Slice {
    /// The log partition.
    pub log_partition: u32,
    /// Days from 1970-01-01 to the Monday of the week, Asia/Shanghai.
    pub monday: i32,
}

impl Slice {
    /// The slice of a scan.
    pub fn of(log_partition: u32, event_time: Timestamp) -> Self {
        Self {
            log_partition,
            monday: event_time.shanghai_monday_number(),
        }
    }

    /// The raw rows of the slice, as a condition on `scans`.
    fn condition(self) -> String {
        let Self {
            log_partition,
            monday,
        } = self;
        format!(
            "log_partition = {log_partition} AND toMonday(toDate(event_time)) = toDate({monday})"
        )
    }

    pub(crate) fn partition_expression(self) -> String {
        format!("({}, toDate({}))", self.log_partition, self.monday)
    }
}

/// What proving some slices came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proof {
    /// Slices of one rollup each that were compared.
    pub proven: usize,
    /// Those that differed and were rebuilt, with the rollup's name.
    pub rebuilt: Vec<(String, Slice)>,
    /// Slices that were left alone because their raw rows may have left (see [`crate::retention`]).
    pub beyond_retention: usize,
}

#[derive(Deserialize)]
struct View {
    name: String,
    as_select: String,
    partition_key: String,
    engine_full: String,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
}

#[derive(Deserialize, PartialEq, Eq)]
struct Digest {
    groups: u64,
    digest: u64,
}

/// A rollup table and the SELECT that fills it.
struct Rollup {
    table: String,
    select: String,
    columns: Vec<Column>,
    partition_key: String,
    engine_full: String,
}

impl Rollup {
    /// Digest of what the table holds of a slice.
    fn stored(&self, slice: Slice) -> String {
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for Column { name, r#type } in &self.columns {
            if r#type.starts_with("SimpleAggregateFunction(sum") {
                values.push(format!("sum(t.{name}) AS {name}"));
            } else if r#type.starts_with("AggregateFunction(uniqExact") {
                values.push(format!("uniqExactMerge(t.{name}) AS {name}"));
            } else {
                keys.push(format!("t.{name} AS {name}"));
            }
        }
        let selected = [keys.as_slice(), values.as_slice()].concat().join(", ");
        let grouping = if values.is_empty() {
            String::new()
        } else {
            let names: Vec<_> = keys
                .iter()
                .filter_map(|key| key.split(' ').next())
                .collect();
            format!("GROUP BY {}", names.join(", "))
        };
        let (key, partition) = (&self.partition_key, slice.partition_expression());
        let inner = format!(
            "SELECT {selected} FROM {} AS t WHERE {key} = {partition} {grouping}",
            self.table
        );
        self.digest_of(&inner, str::to_owned)
    }

    /// Digest of what the raw rows of a slice come to.
    fn expected(&self, slice: Slice) -> String {
        let is_state = |name: &str| {
            let mut states = self
                .columns
                .iter()
                .filter(|c| c.r#type.starts_with("AggregateFunction"));
            states.any(|column| column.name == name)
        };
        let filtered = self.filtered_select(slice);
        self.digest_of(&filtered, |name| {
            if is_state(name) {
                format!("finalizeAggregation({name})")
            } else {
                name.to_owned()
            }
        })
    }

    fn digest_of(&self, inner: &str, value: impl Fn(&str) -> String) -> String {
        let values: Vec<_> = self
            .columns
            .iter()
            .map(|column| value(&column.name))
            .collect();
        // The sum, not XOR: two equal rows must not cancel each other.
        format!(
            "SELECT count() AS groups, sum(cityHash64({})) AS digest FROM ({inner})",
            values.join(", ")
        )
    }

    /// The statements that rebuild a slice in a staging table: drop it, create it, fill it, swap the slice in.
    ///
    /// On a cluster every shard has the staging table, and the sharding key brings the rows to the one that has the slice.
    /// The others swap nothing for nothing.
    fn rebuilding(&self, store: &Store, slice: Slice, staging: &str) -> [String; 4] {
        let (table, database) = (&self.table, store.shard_database());
        let names: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
        let names = names.join(", ");
        let select = self.filtered_select(slice);
        let partition = slice.partition_expression();
        let cluster = store.topology().cluster();
        let on = cluster.map(Cluster::on_cluster).unwrap_or_default();
        let engine = match cluster.filter(|cluster| cluster.is_replicated()) {
            Some(_) => {
                let own_path =
                    self.engine_full
                        .replacen(&format!("/{table}'"), &format!("/{staging}'"), 1);
                format!(" ENGINE = {own_path}")
            }
            None => String::new(),
        };
        let target = match cluster {
            Some(cluster) => format!(
                "FUNCTION cluster('{}', {database}, {staging}, log_partition)",
                cluster.name()
            ),
            None => format!("{database}.{staging}"),
        };
        [
            format!("DROP TABLE IF EXISTS {database}.{staging}{on} SYNC"),
            format!("CREATE TABLE {database}.{staging}{on} AS {database}.{table}{engine}"),
            format!("INSERT INTO {target} ({names}) SELECT {names} FROM ({select})"),
            format!(
                "ALTER TABLE {database}.{table}{on} REPLACE PARTITION {partition} FROM {database}.{staging}
                 SETTINGS allow_replace_partition_from_empty_source = 1"
            ),
        ]
    }

    /// The view's SELECT over the raw rows of a slice alone.
    fn filtered_select(&self, slice: Slice) -> String {
        let raw = format!("(SELECT * FROM scans WHERE {}) AS scans", slice.condition());
        // Every view reads FROM <database>.scans, once. Its raw rows are read by their bare name, from whichever server has them.
        let (before, after) = self
            .select
            .split_once("FROM ")
            .unwrap_or((&self.select, ""));
        let rest = after
            .split_once(char::is_whitespace)
            .map_or("", |(_, rest)| rest);
        format!("{before}FROM {raw} {rest}")
    }
}

/// Compares each rollup's share of each slice with the raw rows, and rebuilds what differs.
///
/// The caller owns the slices' log partitions: nothing is written to them meanwhile.
pub async fn prove_and_repair(
    store: &Store,
    slices: &BTreeSet<Slice>,
) -> Result<Proof, StoreError> {
    let store = &store.clone().with_timeout(PROOF_TIMEOUT);
    replicas::catch_up(store).await?;
    let rollups = rollups(store).await?;
    let provable = provable(store, slices).await?;
    let mut proof = Proof {
        beyond_retention: slices.len() - provable.len(),
        ..Proof::default()
    };
    for slice in &provable {
        for rollup in &rollups {
            proof.proven += 1;
            if !is_whole(store, rollup, *slice).await? {
                rebuild(store, rollup, *slice).await?;
                proof.rebuilt.push((rollup.table.clone(), *slice));
            }
        }
    }
    Ok(proof)
}

/// Compares without repairing; answers what differs. For `tongxing check` and for tests.
pub async fn find_differences(
    store: &Store,
    slices: &BTreeSet<Slice>,
) -> Result<Vec<(String, Slice)>, StoreError> {
    let store = &store.clone().with_timeout(PROOF_TIMEOUT);
    let rollups = rollups(store).await?;
    let mut differing = Vec::new();
    for slice in &provable(store, slices).await? {
        for rollup in &rollups {
            if !is_whole(store, rollup, *slice).await? {
                differing.push((rollup.table.clone(), *slice));
            }
        }
    }
    Ok(differing)
}

/// The slices whose raw rows are all there.
async fn provable(store: &Store, slices: &BTreeSet<Slice>) -> Result<BTreeSet<Slice>, StoreError> {
    let up_to = retention::unprovable_up_to(store).await?;
    let is_provable = |slice: &&Slice| up_to.is_none_or(|up_to| slice.monday > up_to);
    Ok(slices.iter().filter(is_provable).copied().collect())
}

/// A raw part's slice, from the names of its partition.
const SLICE_OF_PART: &str = "
    toUInt32(extract(partition, '^\\\\((\\\\d+),')) AS log_partition,
    toInt32(toDate(extract(partition, '(\\\\d{4}-\\\\d{2}-\\\\d{2})'))) AS monday";

/// Every slice that holds raw rows. No row is read for it.
pub async fn all_slices(store: &Store) -> Result<BTreeSet<Slice>, StoreError> {
    let parts = store.topology().system_table("parts");
    let sql = format!(
        "SELECT DISTINCT {SLICE_OF_PART} FROM {parts}
         WHERE database = {{database:String}} AND table = 'scans' AND active AND rows > 0"
    );
    let parameters = [("database", store.shard_database())];
    Ok(store.rows(&sql, &parameters).await?.into_iter().collect())
}

/// The slices of a log partition that may have had rollup parts in memory alone when the engine last stopped: those whose
/// raw parts were written or merged shortly before the newest write.
pub async fn touched_lately(
    store: &Store,
    log_partition: u32,
) -> Result<BTreeSet<Slice>, StoreError> {
    let parts = store.topology().system_table("parts");
    let sql = format!(
        "WITH (SELECT max(modification_time) FROM {parts}
              WHERE database = {{database:String}} AND table = 'scans') AS newest
        SELECT DISTINCT {SLICE_OF_PART} FROM {parts}
        WHERE database = {{database:String}} AND table = 'scans' AND active
          AND startsWith(partition, {{prefix:String}})
          AND modification_time >= newest - toIntervalSecond({{seconds:UInt64}})"
    );
    let parameters = [
        ("database", store.shard_database()),
        ("prefix", format!("({log_partition},")),
        ("seconds", WRITTEN_BACK_AFTER.as_secs().to_string()),
    ];
    Ok(store.rows(&sql, &parameters).await?.into_iter().collect())
}

async fn is_whole(store: &Store, rollup: &Rollup, slice: Slice) -> Result<bool, StoreError> {
    let stored: Digest = store.row(&rollup.stored(slice), &[]).await?;
    let expected: Digest = store.row(&rollup.expected(slice), &[]).await?;
    Ok(stored == expected)
}

async fn rebuild(store: &Store, rollup: &Rollup, slice: Slice) -> Result<(), StoreError> {
    let table = &rollup.table;
    let staging = format!("{table}_staging_{}", slice.log_partition);
    let statements = rollup.rebuilding(store, slice, &staging);
    let [drop, create, fill, swap] = &statements;
    store.execute(drop).await?;
    store.execute(create).await?;
    store.execute(fill).await?;
    replicas::catch_up_with(store, &staging).await?;
    store.execute(swap).await?;
    store.execute(drop).await?;
    metrics::counter!("aggregator_slices_rebuilt_total").increment(1);
    tracing::warn!(
        table,
        ?slice,
        "a rollup slice differed from its raw rows and was rebuilt"
    );
    Ok(())
}

/// Every table that a view fills from `scans`.
async fn rollups(store: &Store) -> Result<Vec<Rollup>, StoreError> {
    let database = ("database", store.shard_database());
    let views: Vec<View> = store
        .rows(
            "SELECT views.name AS name, views.as_select AS as_select, tables.partition_key AS partition_key,
                    tables.engine_full AS engine_full
             FROM system.tables AS views
             JOIN system.tables AS tables ON tables.name = replaceRegexpOne(views.name, '_view$', '')
             WHERE views.database = {database:String} AND tables.database = {database:String}
               AND views.engine = 'MaterializedView' ORDER BY name",
            std::slice::from_ref(&database),
        )
        .await?;
    let mut rollups = Vec::new();
    for view in views {
        let table = view.name.trim_end_matches("_view").to_owned();
        let columns = store
            .rows(
                "SELECT name, type FROM system.columns
                 WHERE database = {database:String} AND table = {table:String} ORDER BY position",
                &[database.clone(), ("table", table.clone())],
            )
            .await?;
        rollups.push(Rollup {
            table,
            select: view.as_select,
            columns,
            partition_key: view.partition_key,
            engine_full: view.engine_full,
        });
    }
    Ok(rollups)
}
