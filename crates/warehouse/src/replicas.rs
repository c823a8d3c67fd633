//! Makes a cluster's replicas catch up, so that what is read next holds everything that was ever acknowledged.
//!
//! An acknowledged insert is with most of a shard's replicas; a statement may meet one of the others. Where a row that is
//! overlooked would be sent again, the replicas are brought level first.

use crate::store::{Store, StoreError};

/// Waits until every server that is up has fetched what its fellows have. On one server there is nothing to wait for.
pub async fn catch_up(store: &Store) -> Result<(), StoreError> {
    for table in sharded_tables(store).await? {
        catch_up_with(store, &table).await?;
    }
    Ok(())
}

/// The same for one table of the shard database.
pub(crate) async fn catch_up_with(store: &Store, table: &str) -> Result<(), StoreError> {
    match catching_up(store, table) {
        Some(statement) => store.execute(&statement).await,
        None => Ok(()),
    }
}

/// The statement for one table, on a cluster with replicas.
pub fn catching_up(store: &Store, table: &str) -> Option<String> {
    let cluster = store.topology().cluster().filter(|c| c.is_replicated())?;
    let (on, database) = (cluster.on_cluster(), store.shard_database());
    Some(format!(
        "SYSTEM SYNC REPLICA{on} {database}.{table} LIGHTWEIGHT"
    ))
}

async fn sharded_tables(store: &Store) -> Result<Vec<String>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Table {
        name: String,
    }
    if store.topology().cluster().is_none() {
        return Ok(Vec::new());
    }
    let tables: Vec<Table> = store
        .rows(
            "SELECT name FROM system.tables WHERE database = {database:String} AND engine LIKE 'Replicated%' ORDER BY name",
            &[("database", store.shard_database())],
        )
        .await?;
    Ok(tables.into_iter().map(|table| table.name).collect())
}
