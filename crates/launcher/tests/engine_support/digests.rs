//! What each table holds, as one number that depends on no order, no part and no merge.

use std::collections::BTreeMap;

use serde::Deserialize;
use warehouse::Store;

/// Tables that are no function of the log: marks of a running engine, who owns its partitions, up to when the statistics were
/// complete at some moment.
const LEFT_OUT: [&str; 4] = ["boot_marks", "claims", "completeness", "owners"];

#[derive(Deserialize)]
struct Table {
    name: String,
    engine: String,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    r#type: String,
}

/// Rows (groups, of a rollup) and digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Digest {
    pub rows: u64,
    pub digest: u64,
}

/// The digest of every table, and of every view that is read, of the store's database.
pub async fn digests(store: &Store) -> BTreeMap<String, Digest> {
    let tables: Vec<Table> = store
        .rows(
            "SELECT name, engine FROM system.tables
             WHERE database = currentDatabase() AND engine != 'MaterializedView'",
            &[],
        )
        .await
        .expect("the tables");
    let mut digests = BTreeMap::new();
    for table in tables {
        if LEFT_OUT.contains(&table.name.as_str()) {
            continue;
        }
        let sql = digest_of(store, &table).await;
        let digest: Digest = store.row(&sql, &[]).await.expect("a digest");
        digests.insert(table.name, digest);
    }
    digests
}

/// The names and texts of the views that fill tables.
pub async fn views(store: &Store) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct View {
        name: String,
        text: String,
    }
    let views: Vec<View> = store
        .rows(
            "SELECT name, create_table_query AS text FROM system.tables
             WHERE database = currentDatabase() AND engine IN ('MaterializedView', 'View')",
            &[],
        )
        .await
        .expect("the views");
    views
        .into_iter()
        .map(|view| (view.name, view.text))
        .collect()
}

async fn digest_of(store: &Store, table: &Table) -> String {
    let columns: Vec<Column> = store
        .rows(
            "SELECT name, type FROM system.columns
             WHERE database = currentDatabase() AND table = {table:String} ORDER BY position",
            &[("table", table.name.clone())],
        )
        .await
        .expect("the columns");
    let (mut selected, mut keys, mut is_grouped) = (Vec::new(), Vec::new(), false);
    for Column { name, r#type } in columns {
        // When a migration was applied is not what it made.
        if name == "applied_at" {
            continue;
        }
        if r#type.starts_with("SimpleAggregateFunction(sum") {
            selected.push(format!("sum(t.{name}) AS {name}"));
            is_grouped = true;
        } else if r#type.starts_with("AggregateFunction(uniqExact") {
            selected.push(format!("uniqExactMerge(t.{name}) AS {name}"));
            is_grouped = true;
        } else if r#type.starts_with("Nullable(") {
            // The hash of a row with a null is null, and sums as nothing.
            selected.push(format!("ifNull(toString(t.{name}), 'null') AS {name}"));
            keys.push(name);
        } else {
            selected.push(format!("t.{name} AS {name}"));
            keys.push(name);
        }
    }
    let is_replacing = table.engine.starts_with("Replacing");
    let modifier = if is_replacing { "FINAL" } else { "" };
    let grouping = if is_grouped {
        format!("GROUP BY {}", keys.join(", "))
    } else {
        String::new()
    };
    format!(
        "SELECT count() AS rows, sum(cityHash64(*)) AS digest FROM
         (SELECT {} FROM {} AS t {modifier} {grouping})",
        selected.join(", "),
        table.name
    )
}
