//! One ClickHouse server or a cluster of them: what differs, in one place.
//!
//! On a cluster a database has two layers (docs/decisions/0006). The one that everyone names holds Distributed tables and
//! plain views, on every server; statements that read or insert are the same as on one server. Its
//! [shard database](Topology::shard_database) holds each server's share: replicated tables, and the views that fill them. A row
//! belongs to the shard of its log partition, so that a slice lies on one shard whole.

/// How many servers, and how they are addressed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Topology {
    /// One server, or the embedded engine.
    #[default]
    SingleServer,
    /// A cluster that the servers' configuration names.
    Cluster(Cluster),
}

/// A cluster of ClickHouse servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cluster {
    name: String,
    is_replicated: bool,
}

/// The name is no name.
#[derive(Debug, thiserror::Error)]
#[error("a cluster's name is letters, digits, _ and -, not {0:?}")]
pub struct ClusterNameError(String);

/// What every statement says to a cluster.
///
/// | setting | because |
/// |---|---|
/// | `distributed_foreground_insert` | an insert is answered when its shard has it, not when this server has queued it |
/// | `insert_quorum` | … and when most of the shard's replicas have it (INV-7) |
/// | `insert_deduplicate` | equal blocks of different batches both count; which rows are there is asked, not guessed |
/// | `load_balancing` | statements meet the same replica of a shard while it lives, and so see what was written there |
/// | `distributed_product_mode` | a set that a condition names is made once, not on each shard |
/// | `optimize_skip_unused_shards` | what names one log partition asks one shard |
/// | `parallel_distributed_insert_select` | a rebuilt slice passes through this server, which knows its shard |
/// | `distributed_ddl_output_mode` | a server that is away does not hold up the schema; it catches up on its return |
const CLUSTER_SETTINGS: [(&str, &str); 8] = [
    ("distributed_foreground_insert", "1"),
    ("insert_quorum", "auto"),
    ("insert_deduplicate", "0"),
    ("load_balancing", "in_order"),
    ("distributed_product_mode", "global"),
    ("optimize_skip_unused_shards", "1"),
    ("parallel_distributed_insert_select", "0"),
    ("distributed_ddl_output_mode", "throw_only_active"),
];

impl Cluster {
    /// The cluster of this name in the servers' `remote_servers`.
    pub fn new(name: &str) -> Result<Self, ClusterNameError> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(is_part) {
            return Err(ClusterNameError(name.to_owned()));
        }
        Ok(Self {
            name: name.to_owned(),
            is_replicated: true,
        })
    }

    /// The same in one server's hands, without Keeper: one shard and no replicas. Everything but replication is as on
    /// a cluster, so that statements can be tried.
    #[must_use]
    pub fn without_replicas(self) -> Self {
        Self {
            is_replicated: false,
            ..self
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether its tables are replicated, and DDL reaches every server.
    pub const fn is_replicated(&self) -> bool {
        self.is_replicated
    }

    /// `ON CLUSTER` with a space before it.
    pub(crate) fn on_cluster(&self) -> String {
        if self.is_replicated {
            format!(" ON CLUSTER '{}'", self.name)
        } else {
            String::new()
        }
    }
}

impl Topology {
    /// The cluster, if it is one.
    pub const fn cluster(&self) -> Option<&Cluster> {
        match self {
            Self::SingleServer => None,
            Self::Cluster(cluster) => Some(cluster),
        }
    }

    /// The database whose tables hold the rows: a server's own share of a cluster, or the database itself.
    pub fn shard_database(&self, database: &str) -> String {
        match self {
            Self::SingleServer => database.to_owned(),
            Self::Cluster(_) => format!("{database}_shard"),
        }
    }

    /// A table of the database `system`, of every server.
    pub fn system_table(&self, name: &str) -> String {
        match self {
            Self::SingleServer => format!("system.{name}"),
            Self::Cluster(cluster) => {
                format!("clusterAllReplicas('{}', system.{name})", cluster.name)
            }
        }
    }

    /// What every statement says to the servers.
    pub(crate) fn settings(&self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::SingleServer => &[],
            Self::Cluster(_) => &CLUSTER_SETTINGS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_end_a_literal_is_refused() {
        assert!(Cluster::new("main-1").is_ok());
        for name in ["", "a'b", "a b", "{cluster}"] {
            assert!(Cluster::new(name).is_err(), "{name}");
        }
    }
}
