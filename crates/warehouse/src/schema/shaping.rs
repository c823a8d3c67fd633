//! A migration's statement as a topology wants it.
//!
//! Migrations are written for one server and are run there as they stand. On a cluster
//! - a table whose partitions begin with the log partition is sharded: a replicated table in the shard database, a
//!   Distributed table of the same name over it;
//! - any other table is small and is kept whole by every server, as one replicated table without shards;
//! - a table in memory is each server's own, with a Distributed table over it;
//! - the table of claims and the constraint that asks it are left out: the constraint would be asked on a server that does not
//!   know the newest claim (docs/decisions/0012);
//! - a materialized view stands in the shard database, where the rows come in; a plain view reads the Distributed tables.
//!
//! Keeper knows a table by its database and name, so that a server that joins later finds its fellows.

use crate::topology::{Cluster, Topology};

/// A statement and the database that it runs in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shaped {
    /// The database.
    pub database: String,
    /// The statement.
    pub sql: String,
}

/// What a migration's statement comes to, in order; `None` where it is of no known form.
pub fn shaped(statement: &str, topology: &Topology, database: &str) -> Option<Vec<Shaped>> {
    let Some(cluster) = topology.cluster() else {
        return Some(vec![Shaped {
            database: database.to_owned(),
            sql: statement.to_owned(),
        }]);
    };
    let shaping = Shaping {
        cluster,
        database,
        shard_database: topology.shard_database(database),
    };
    if let Some(rest) = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ") {
        shaping.table(rest)
    } else if let Some(rest) = statement.strip_prefix("CREATE MATERIALIZED VIEW IF NOT EXISTS ") {
        let (name, rest) = word(rest)?;
        let on = cluster.on_cluster();
        let sql = format!("CREATE MATERIALIZED VIEW IF NOT EXISTS {name}{on}{rest}");
        Some(vec![shaping.in_shard(sql)])
    } else if let Some(rest) = statement.strip_prefix("CREATE VIEW IF NOT EXISTS ") {
        let (name, rest) = word(rest)?;
        let on = cluster.on_cluster();
        let sql = format!("CREATE VIEW IF NOT EXISTS {name}{on}{rest}");
        Some(vec![shaping.everywhere(sql)])
    } else if let Some(rest) = statement.strip_prefix("ALTER TABLE ") {
        shaping.alteration(rest)
    } else {
        None
    }
}

struct Shaping<'a> {
    cluster: &'a Cluster,
    database: &'a str,
    shard_database: String,
}

/// How a cluster keeps a table.
enum Kept {
    Sharded,
    InMemory { key: String },
    Whole,
}

impl Shaping<'_> {
    fn in_shard(&self, sql: String) -> Shaped {
        Shaped {
            database: self.shard_database.clone(),
            sql,
        }
    }

    fn everywhere(&self, sql: String) -> Shaped {
        Shaped {
            database: self.database.to_owned(),
            sql,
        }
    }

    fn table(&self, statement: &str) -> Option<Vec<Shaped>> {
        let (name, definition) = word(statement)?;
        let (columns, engine) = definition.split_once("ENGINE = ")?;
        let family_end = engine.find(|c: char| !c.is_ascii_alphanumeric());
        let (family, rest) = engine.split_at(family_end.unwrap_or(engine.len()));
        if family == "Join" {
            return Some(Vec::new());
        }
        let kept = kept(columns, family, rest)?;
        let on = self.cluster.on_cluster();
        let engine = self.engine(&kept, name, family, rest);
        let sql = format!("CREATE TABLE IF NOT EXISTS {name}{on}{columns}ENGINE = {engine}");
        let key = match &kept {
            Kept::Whole => return Some(vec![self.everywhere(sql)]),
            Kept::Sharded => "log_partition",
            Kept::InMemory { key } => key,
        };
        let distributed = self.distributed(name, key);
        Some(vec![self.in_shard(sql), distributed])
    }

    /// The engine and what follows it.
    fn engine(&self, kept: &Kept, name: &str, family: &str, rest: &str) -> String {
        if !self.cluster.is_replicated() || matches!(kept, Kept::InMemory { .. }) {
            return format!("{family}{rest}");
        }
        let (path, replica) = match kept {
            Kept::Whole => (format!("all/{}", self.database), "{shard}-{replica}"),
            _ => (format!("{{shard}}/{}", self.shard_database), "{replica}"),
        };
        let (further, rest) = match rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            Some((arguments, rest)) => (format!(", {arguments}"), rest),
            None => (String::new(), rest),
        };
        let rest = rest.trim_end();
        // Equal blocks are not dropped, whoever inserts.
        let settings = if rest.contains("SETTINGS ") {
            ", replicated_deduplication_window = 0"
        } else {
            "\nSETTINGS replicated_deduplication_window = 0"
        };
        format!(
            "Replicated{family}('/clickhouse/tables/{path}/{name}', '{replica}'{further}){rest}{settings}"
        )
    }

    /// The Distributed table, as the columns now are. It holds no rows, so it is made anew.
    fn distributed(&self, name: &str, key: &str) -> Shaped {
        let (shard_database, cluster) = (&self.shard_database, self.cluster.name());
        let on = self.cluster.on_cluster();
        self.everywhere(format!(
            "CREATE OR REPLACE TABLE {name}{on} AS {shard_database}.{name}\n\
             ENGINE = Distributed('{cluster}', '{shard_database}', '{name}', {key})"
        ))
    }

    /// Only sharded tables are altered by migrations.
    fn alteration(&self, statement: &str) -> Option<Vec<Shaped>> {
        let (name, change) = word(statement)?;
        if change.contains("joinGet(") {
            return Some(Vec::new());
        }
        let on = self.cluster.on_cluster();
        let altered = self.in_shard(format!("ALTER TABLE {name}{on}{change}"));
        let is_of_columns = ["ADD COLUMN", "DROP COLUMN", "MODIFY COLUMN"]
            .iter()
            .any(|kind| change.contains(kind));
        if is_of_columns {
            return Some(vec![altered, self.distributed(name, "log_partition")]);
        }
        Some(vec![altered])
    }
}

fn kept(columns: &str, family: &str, rest: &str) -> Option<Kept> {
    if family == "Memory" {
        let first = columns.trim_start().strip_prefix('(')?.trim_start();
        let (column, _) = word(first)?;
        return Some(Kept::InMemory {
            key: format!("cityHash64({column})"),
        });
    }
    let is_sharded = rest.contains("PARTITION BY (log_partition,");
    Some(if is_sharded {
        Kept::Sharded
    } else {
        Kept::Whole
    })
}

/// The first word, and the rest from the white space on.
fn word(text: &str) -> Option<(&str, &str)> {
    let end = text.find(char::is_whitespace)?;
    Some(text.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_cluster(statement: &str) -> Vec<Shaped> {
        let topology = Topology::Cluster(Cluster::new("main").unwrap());
        shaped(statement, &topology, "tongxing").unwrap()
    }

    fn shard(sql: &str) -> Shaped {
        Shaped {
            database: "tongxing_shard".into(),
            sql: sql.into(),
        }
    }

    fn everywhere(sql: &str) -> Shaped {
        Shaped {
            database: "tongxing".into(),
            sql: sql.into(),
        }
    }

    #[test]
    fn one_server_runs_the_statement_as_it_stands() {
        let shaped = shaped("ALTER TABLE t x", &Topology::SingleServer, "tongxing").unwrap();
        assert_eq!(shaped, [everywhere("ALTER TABLE t x")]);
    }

    #[test]
    fn a_table_by_log_partition_is_replicated_on_its_shard_and_distributed_over_all() {
        let statement = "CREATE TABLE IF NOT EXISTS t\n(\n    log_partition UInt16,\n    day Date\n)\nENGINE = AggregatingMergeTree\nPARTITION BY (log_partition, toMonday(day))\nORDER BY day\nSETTINGS fsync_after_insert = 1";
        assert_eq!(
            on_cluster(statement),
            [
                shard(
                    "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'main'\n(\n    log_partition UInt16,\n    day Date\n)\nENGINE = ReplicatedAggregatingMergeTree('/clickhouse/tables/{shard}/tongxing_shard/t', '{replica}')\nPARTITION BY (log_partition, toMonday(day))\nORDER BY day\nSETTINGS fsync_after_insert = 1, replicated_deduplication_window = 0"
                ),
                everywhere(
                    "CREATE OR REPLACE TABLE t ON CLUSTER 'main' AS tongxing_shard.t\nENGINE = Distributed('main', 'tongxing_shard', 't', log_partition)"
                )
            ]
        );
    }

    #[test]
    fn a_small_table_is_kept_whole_by_every_server() {
        let statement = "CREATE TABLE IF NOT EXISTS t (a UInt8, b UInt8) ENGINE = ReplacingMergeTree(b)\nORDER BY a";
        assert_eq!(
            on_cluster(statement),
            [everywhere(
                "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'main' (a UInt8, b UInt8) ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/all/tongxing/t', '{shard}-{replica}', b)\nORDER BY a\nSETTINGS replicated_deduplication_window = 0"
            )]
        );
    }

    #[test]
    fn a_table_in_memory_is_each_servers_own() {
        let statement = "CREATE TABLE IF NOT EXISTS t\n(\n    writer String\n)\nENGINE = Memory";
        assert_eq!(
            on_cluster(statement),
            [
                shard(
                    "CREATE TABLE IF NOT EXISTS t ON CLUSTER 'main'\n(\n    writer String\n)\nENGINE = Memory"
                ),
                everywhere(
                    "CREATE OR REPLACE TABLE t ON CLUSTER 'main' AS tongxing_shard.t\nENGINE = Distributed('main', 'tongxing_shard', 't', cityHash64(writer))"
                )
            ]
        );
    }

    #[test]
    fn views_that_fill_stand_where_rows_come_in_and_views_that_read_stand_over_all() {
        let filling = "CREATE MATERIALIZED VIEW IF NOT EXISTS v TO t AS\nSELECT 1";
        assert_eq!(
            on_cluster(filling),
            [shard(
                "CREATE MATERIALIZED VIEW IF NOT EXISTS v ON CLUSTER 'main' TO t AS\nSELECT 1"
            )]
        );
        let reading = "CREATE VIEW IF NOT EXISTS v AS\nSELECT 1";
        assert_eq!(
            on_cluster(reading),
            [everywhere(
                "CREATE VIEW IF NOT EXISTS v ON CLUSTER 'main' AS\nSELECT 1"
            )]
        );
    }

    #[test]
    fn a_change_of_columns_reaches_the_distributed_table_and_other_changes_do_not() {
        let setting = on_cluster("ALTER TABLE t MODIFY SETTING a = 1");
        assert_eq!(
            setting,
            [shard(
                "ALTER TABLE t ON CLUSTER 'main' MODIFY SETTING a = 1"
            )]
        );
        assert_eq!(on_cluster("ALTER TABLE t ADD COLUMN a UInt8").len(), 2);
    }

    #[test]
    fn claims_are_left_out() {
        let table =
            "CREATE TABLE IF NOT EXISTS owners (a UInt8, b UInt8) ENGINE = Join(ANY, LEFT, a)";
        let constraint =
            "ALTER TABLE scans ADD CONSTRAINT IF NOT EXISTS c CHECK joinGet('owners', 'b', a) = 1";
        assert_eq!(on_cluster(table), []);
        assert_eq!(on_cluster(constraint), []);
    }

    #[test]
    fn a_statement_of_no_known_form_is_refused() {
        let topology = Topology::Cluster(Cluster::new("main").unwrap());
        assert_eq!(shaped("DROP TABLE t", &topology, "tongxing"), None);
    }
}
