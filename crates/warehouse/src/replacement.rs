//! Builds a database beside the live one and puts it in its place.
//!
//! | database | what it is |
//! |---|---|
//! | `<name>` | the live one |
//! | `<name>_replay` | being built; worthless until it is whole |
//! | `<name>_former` | what was live before, from the swap until it is dropped |
//!
//! The swap is two renames of whole databases: live becomes former, built becomes live. Between the two there is no live
//! database and a reader is refused; at no moment does a name stand for tables of both. Views name their database in their
//! text, which a rename leaves as it is, so that they would go on to feed the former database's tables: the built database
//! therefore loses its views, and its memory of having them, before it is renamed, and the migrations make them again
//! afterwards. Whoever opens the database next finishes what a kill interrupted, because [`schema::migrate`] begins with
//! [`finish_interrupted`].

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::schema::{self, SchemaError};
use crate::store::{Store, StoreError};

#[derive(Deserialize)]
struct Name {
    name: String,
}

fn built_name(store: &Store) -> String {
    format!("{}_replay", store.database())
}

fn former_name(store: &Store) -> String {
    format!("{}_former", store.database())
}

/// Creates an empty database with the schema beside the live one. What an earlier build or swap left behind is dropped.
pub async fn begin(live: &Store) -> Result<Store, SchemaError> {
    if live.topology().cluster().is_some() {
        return Err(SchemaError::SingleServerOnly);
    }
    finish_interrupted(live).await?;
    for leftover in [built_name(live), former_name(live)] {
        drop_database(live, &leftover).await?;
    }
    let built = live.in_database(&built_name(live));
    schema::migrate(&built).await?;
    Ok(built)
}

/// Puts the built database in the live one's place and drops the former.
///
/// Nobody writes to either of them meanwhile.
pub async fn swap(live: &Store, built: &Store) -> Result<(), SchemaError> {
    let views: Vec<Name> = built
        .rows(
            "SELECT name FROM system.tables
             WHERE database = currentDatabase() AND engine IN ('MaterializedView', 'View')",
            &[],
        )
        .await?;
    for Name { name } in views {
        built.execute(&format!("DROP VIEW `{name}` SYNC")).await?;
    }
    built
        .execute("TRUNCATE TABLE schema_migrations SYNC")
        .await?;
    let server = live.without_database();
    if names(live).await?.contains(live.database()) {
        rename(&server, live.database(), &former_name(live)).await?;
        finish_interrupted(live).await?;
    } else {
        rename(&server, built.database(), live.database()).await?;
    }
    schema::migrate(live).await?;
    drop_database(live, &former_name(live)).await?;
    Ok(())
}

/// Finishes a swap that was interrupted between its two renames: the built database was whole by then.
pub(crate) async fn finish_interrupted(live: &Store) -> Result<(), StoreError> {
    let found = names(live).await?;
    let (built, former) = (built_name(live), former_name(live));
    // Without a live database and without a former one, what is being built may be unfinished.
    if found.contains(live.database()) || !found.contains(&former) {
        return Ok(());
    }
    let successor = if found.contains(&built) {
        built
    } else {
        former
    };
    let renamed = rename(&live.without_database(), &successor, live.database()).await;
    // Another process may have come first.
    if renamed.is_err() && names(live).await?.contains(live.database()) {
        return Ok(());
    }
    tracing::warn!(successor, "an interrupted swap of databases was finished");
    renamed
}

/// Which of the three databases there are.
async fn names(live: &Store) -> Result<BTreeSet<String>, StoreError> {
    let known = [
        live.database().to_owned(),
        built_name(live),
        former_name(live),
    ];
    let found: Vec<Name> = live
        .without_database()
        .rows("SELECT name FROM system.databases", &[])
        .await?;
    let names = found.into_iter().map(|found| found.name);
    Ok(names.filter(|name| known.contains(name)).collect())
}

async fn rename(server: &Store, from: &str, to: &str) -> Result<(), StoreError> {
    server
        .execute(&format!("RENAME DATABASE `{from}` TO `{to}`"))
        .await
}

async fn drop_database(store: &Store, name: &str) -> Result<(), StoreError> {
    store
        .without_database()
        .execute(&format!(
            "DROP DATABASE IF EXISTS `{name}` SYNC
             SETTINGS max_table_size_to_drop = 0, max_partition_size_to_drop = 0"
        ))
        .await
}
