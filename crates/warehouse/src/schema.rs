//! Versioned schema migrations.
//!
//! A migration that was applied is never changed: its checksum is kept, and a difference is refused. Statements are written
//! so that one interrupted half-way is simply run again. Each is written for one server and takes the form that the store's
//! topology wants when it is run ([`shaping`]); its checksum is of the file.

pub mod shaping;

use serde::Deserialize;

use crate::replacement;
use crate::schema::shaping::Shaped;
use crate::store::{Store, StoreError};
use crate::topology::{Cluster, Topology};

/// A migration.
struct Migration {
    version: u32,
    name: &'static str,
    sql: &'static str,
}

macro_rules! migrations {
    ($($version:literal $name:literal),*) => {
        &[$(Migration {
            version: $version,
            name: $name,
            sql: include_str!(concat!("../migrations/", $name, ".sql")),
        }),*]
    };
}

const MIGRATIONS: &[Migration] = migrations![
    1 "0001_scans",
    2 "0002_rollups",
    3 "0003_names",
    4 "0004_rollups_are_proven",
    5 "0005_completeness",
    6 "0006_codecs_and_indices",
    7 "0007_rollup_codecs",
    8 "0008_owners",
    9 "0009_claims",
    10 "0010_fact_history"
];

/// Why the schema is not what this build needs.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An applied migration differs from this build's.
    #[error(
        "migration {0} was applied with other contents; this database belongs to another build"
    )]
    Changed(String),
    /// The database is ahead of this build.
    #[error(
        "the database has migration {found}, this build knows up to {known}; run a newer build"
    )]
    Newer {
        /// The newest applied.
        found: u32,
        /// The newest known.
        known: u32,
    },
    /// A migration's statement has no form on a cluster.
    #[error("this statement has no form on a cluster, which is a fault of this build: {0}")]
    Unshapeable(String),
    /// Run it against one ClickHouse server: on a cluster whole databases are not swapped.
    #[error(
        "on a cluster of ClickHouse servers no database is built anew and swapped; rebuild it on one server"
    )]
    SingleServerOnly,
    /// Made under another person key: its pseudonyms would not join ours.
    #[error("the database was made under person key {found}, this deployment's is {ours}")]
    ForeignKey {
        /// The fingerprint found.
        found: String,
        /// Ours.
        ours: String,
    },
}

#[derive(Deserialize)]
struct Applied {
    version: u32,
    checksum: u64,
}

#[derive(Deserialize)]
struct Value {
    value: String,
}

/// Creates the database and applies what is missing; answers how many migrations were applied. A replacement of the database
/// that was interrupted is finished first.
///
/// Several processes may call it at once: each statement is harmless to run twice.
pub async fn migrate(store: &Store) -> Result<u32, SchemaError> {
    replacement::finish_interrupted(store).await?;
    create_databases(store).await?;
    run(store, APPLIED).await?;
    let applied: Vec<Applied> = store
        .rows(
            "SELECT version, checksum FROM schema_migrations FINAL ORDER BY version",
            &[],
        )
        .await?;
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if let Some(newer) = applied.iter().find(|applied| applied.version > known) {
        return Err(SchemaError::Newer {
            found: newer.version,
            known,
        });
    }
    let mut count = 0;
    for migration in MIGRATIONS {
        let checksum = checksum(migration.sql);
        if let Some(found) = applied
            .iter()
            .find(|applied| applied.version == migration.version)
        {
            if found.checksum != checksum {
                return Err(SchemaError::Changed(migration.name.to_owned()));
            }
            continue;
        }
        for statement in statements(migration.sql) {
            run(store, &statement).await?;
        }
        let Migration { version, name, .. } = migration;
        store
            .execute(&format!(
                "INSERT INTO schema_migrations (version, name, checksum) VALUES ({version}, '{name}', {checksum})"
            ))
            .await?;
        tracing::info!(name, "schema migration applied");
        count += 1;
    }
    Ok(count)
}

/// Asks the server something that needs no database.
pub async fn answers(store: &Store) -> Result<(), StoreError> {
    store.without_database().execute("SELECT 1").await
}

/// Which migrations were applied.
const APPLIED: &str = "CREATE TABLE IF NOT EXISTS schema_migrations
             (version UInt32, name String, checksum UInt64, applied_at DateTime DEFAULT now())
             ENGINE = ReplacingMergeTree ORDER BY version
             SETTINGS fsync_after_insert = 1, fsync_part_directory = 1";

async fn create_databases(store: &Store) -> Result<(), SchemaError> {
    let on = store
        .topology()
        .cluster()
        .map(Cluster::on_cluster)
        .unwrap_or_default();
    let mut names = vec![store.database().to_owned(), store.shard_database()];
    names.dedup();
    for name in names {
        let create = format!("CREATE DATABASE IF NOT EXISTS `{name}`{on} ENGINE = Atomic");
        store.in_database("default").execute(&create).await?;
    }
    Ok(())
}

/// Runs a statement in the form that the store's topology wants.
async fn run(store: &Store, statement: &str) -> Result<(), SchemaError> {
    let shaped = shaping::shaped(statement, store.topology(), store.database())
        .ok_or_else(|| SchemaError::Unshapeable(statement.to_owned()))?;
    for Shaped { database, sql } in shaped {
        store.in_database(&database).execute(&sql).await?;
    }
    Ok(())
}

/// Every statement that makes the schema in this topology, in order. For people who apply them by other means, and for tests.
pub fn all_statements(topology: &Topology, database: &str) -> Result<Vec<Shaped>, SchemaError> {
    let mut all = Vec::new();
    let of_migrations = MIGRATIONS.iter().flat_map(|m| statements(m.sql));
    for statement in std::iter::once(APPLIED.to_owned()).chain(of_migrations) {
        match shaping::shaped(&statement, topology, database) {
            Some(shaped) => all.extend(shaped),
            None => return Err(SchemaError::Unshapeable(statement)),
        }
    }
    Ok(all)
}

/// Writes the person key's fingerprint into a new database, and checks it in an existing one.
pub async fn check_fingerprint(store: &Store, fingerprint: [u8; 8]) -> Result<(), SchemaError> {
    let ours: String = fingerprint
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let sql = "SELECT value FROM deployment FINAL WHERE name = 'person_key_fingerprint'";
    let found: Vec<Value> = store.rows(sql, &[]).await?;
    match found.into_iter().next() {
        Some(found) if found.value == ours => Ok(()),
        Some(found) => Err(SchemaError::ForeignKey {
            found: found.value,
            ours,
        }),
        None => {
            let insert =
                format!("INSERT INTO deployment VALUES ('person_key_fingerprint', '{ours}')");
            Ok(store.execute(&insert).await?)
        }
    }
}

/// The statements of a migration: each ends with a semicolon at the end of a line.
fn statements(sql: &str) -> Vec<String> {
    let without_comments: String = sql
        .lines()
        .filter(|line| !line.trim_start().starts_with("--"))
        .fold(String::new(), |mut text, line| {
            text.push_str(line);
            text.push('\n');
            text
        });
    without_comments
        .split(";\n")
        .map(str::trim)
        .filter(|statement| !statement.is_empty())
        .map(str::to_owned)
        .collect()
}

/// FNV-1a, 64 bits: tells edits apart, guards against nothing else.
fn checksum(text: &str) -> u64 {
    text.bytes().fold(0xCBF2_9CE4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps_and_split_into_statements() {
        for (index, migration) in MIGRATIONS.iter().enumerate() {
            assert_eq!(migration.version as usize, index + 1);
            let statements = statements(migration.sql);
            // Statements that are harmless to run twice.
            let changes = [
                " ADD CONSTRAINT IF NOT EXISTS ",
                " MODIFY SETTING ",
                " MODIFY COLUMN ",
                " ADD INDEX IF NOT EXISTS ",
                " DROP INDEX IF EXISTS ",
            ];
            let is_repeatable = |statement: &String| {
                statement.starts_with("CREATE ") && statement.contains("IF NOT EXISTS")
                    || statement.starts_with("ALTER TABLE ")
                        && changes.iter().any(|change| statement.contains(change))
            };
            assert!(statements.iter().all(is_repeatable), "{statements:?}");
        }
        assert_eq!(statements(MIGRATIONS[1].sql).len(), 8);
    }
}
