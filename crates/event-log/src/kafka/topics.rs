//! Creates topics, and compares what the cluster has with what was declared.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::Consumer as _;
use rdkafka::error::RDKafkaErrorCode;

use super::asking::Asking;
use super::context::LogContext;
use super::{ASK_TIMEOUT, KafkaOptions, ask, refusal};
use crate::error::LogError;
use crate::topic::{Cleanup, TopicConfig};

/// How often it is looked whether the cluster has refused the client.
const REACH_STEP: Duration = Duration::from_millis(250);

/// How many brokers hold each record, and how many must have it before it counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durability {
    /// `replication.factor`.
    pub replication: i32,
    /// `min.insync.replicas`.
    pub in_sync: i32,
}

impl Durability {
    /// What INV-7 asks for: any one broker may be lost with everything on it.
    pub const FULL: Self = Self {
        replication: 3,
        in_sync: 2,
    };
}

/// Something of a topic that is not as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The topic.
    pub topic: String,
    /// The setting.
    pub setting: String,
    /// What it should be.
    pub wanted: String,
    /// What it is.
    pub found: String,
    /// Whether records may be read wrongly or not at all, so that a service must not start; the others weaken durability or
    /// retention and are reported.
    pub is_fatal: bool,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            topic,
            setting,
            wanted,
            found,
            ..
        } = self;
        write!(f, "topic {topic}: {setting} is {found}, wanted {wanted}")
    }
}

/// The settings that a topic's policy comes to.
fn settings(topic: &TopicConfig, durability: Durability) -> BTreeMap<&'static str, String> {
    let mut settings = BTreeMap::from([
        // The window of known scan ids and the age of snapshots are measured in it.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("min.insync.replicas", durability.in_sync.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
        ("max.message.bytes", (16 << 20).to_string()),
        (
            "segment.bytes",
            topic.segment_bytes.min(1 << 30).to_string(),
        ),
    ]);
    let unbounded = |bound: Option<String>| bound.unwrap_or_else(|| "-1".into());
    match &topic.cleanup {
        Cleanup::Delete {
            retention,
            retention_bytes,
        } => {
            settings.insert("cleanup.policy", "delete".to_owned());
            let age = retention.map(|age| age.as_millis().to_string());
            settings.insert("retention.ms", unbounded(age));
            let bytes = retention_bytes.map(|bytes| bytes.to_string());
            settings.insert("retention.bytes", unbounded(bytes));
        }
        Cleanup::Compact { delete_retention } => {
            settings.insert("cleanup.policy", "compact".to_owned());
            settings.insert(
                "delete.retention.ms",
                delete_retention.as_millis().to_string(),
            );
        }
    }
    settings
}

/// Settings whose difference makes records unreadable or disorders them.
const FATAL: [&str; 2] = ["cleanup.policy", "message.timestamp.type"];

/// The cluster's administration.
pub struct TopicAdmin {
    /// Changes and describes.
    client: AdminClient<LogContext>,
    /// Answers what can be asked without it; it says why the cluster lets nobody in, which an administration's client keeps to
    /// itself.
    asking: Arc<Asking>,
}

impl TopicAdmin {
    /// A client; connects at the first call.
    pub fn new(options: &KafkaOptions) -> Result<Self, LogError> {
        let client = options
            .base()
            // Nobody polls it: what it has to tell would pile up in it.
            .set("statistics.interval.ms", "0")
            .set_log_level(RDKafkaLogLevel::Emerg)
            .create_with_context(LogContext::new("admin"))
            .map_err(|error| LogError::Options(error.to_string()))?;
        Ok(Self {
            client,
            asking: Arc::new(Asking::new(options.reader(), "topics")?),
        })
    }

    /// Waits until the cluster lets this client in, and answers at once where it does not.
    async fn reach(&self) -> Result<(), LogError> {
        let asking = Arc::clone(&self.asking);
        ask(move || {
            let deadline = Instant::now() + ASK_TIMEOUT;
            loop {
                let client = asking.client.client();
                if client.fetch_cluster_id(REACH_STEP).is_some() {
                    return Ok(());
                }
                asking.listen();
                let away = LogError::Unavailable("no broker answers".into());
                let error = client.context().explain(away);
                if !error.is_retryable() || Instant::now() >= deadline {
                    return Err(error);
                }
            }
        })
        .await
    }

    /// Creates the topics that are not there; answers their names. Those that are there are left as they are.
    pub async fn create_missing(
        &self,
        topics: &[TopicConfig],
        durability: Durability,
    ) -> Result<Vec<String>, LogError> {
        self.reach().await?;
        let configured: Vec<_> = topics
            .iter()
            .map(|topic| (topic, settings(topic, durability)))
            .collect();
        let new: Vec<NewTopic<'_>> = configured
            .iter()
            .map(|(topic, settings)| {
                let replication = TopicReplication::Fixed(durability.replication);
                let new = NewTopic::new(&topic.name, topic.partitions as i32, replication);
                settings
                    .iter()
                    .fold(new, |new, (name, value)| new.set(name, value))
            })
            .collect();
        let options = AdminOptions::new()
            .request_timeout(Some(ASK_TIMEOUT))
            .operation_timeout(Some(ASK_TIMEOUT));
        let outcomes = self
            .client
            .create_topics(&new, &options)
            .await
            .map_err(|error| refusal("create topics", &error))?;
        let mut created = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(topic) => created.push(topic),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(LogError::Unavailable(format!(
                        "create topic {topic}: {code}"
                    )));
                }
            }
        }
        Ok(created)
    }

    /// Compares every topic with its declaration; an empty answer means that all is as declared.
    pub async fn compare(
        &self,
        topics: &[TopicConfig],
        durability: Durability,
    ) -> Result<Vec<Finding>, LogError> {
        self.reach().await?;
        let mut findings = Vec::new();
        let mut present = Vec::new();
        for topic in topics {
            let finding = |setting: &str, wanted: String, found: String, is_fatal| Finding {
                topic: topic.name.clone(),
                setting: setting.to_owned(),
                wanted,
                found,
                is_fatal,
            };
            let Some((partitions, replication)) = self.shape(&topic.name).await? else {
                findings.push(finding("topic", "there".into(), "missing".into(), true));
                continue;
            };
            if partitions != topic.partitions {
                let (wanted, found) = (topic.partitions.to_string(), partitions.to_string());
                findings.push(finding("partitions", wanted, found, true));
            }
            if replication < durability.replication {
                let (wanted, found) = (durability.replication.to_string(), replication.to_string());
                findings.push(finding("replication.factor", wanted, found, false));
            }
            present.push(topic);
        }
        let asked: Vec<_> = present
            .iter()
            .map(|topic| ResourceSpecifier::Topic(&topic.name))
            .collect();
        if asked.is_empty() {
            return Ok(findings);
        }
        let options = AdminOptions::new().request_timeout(Some(ASK_TIMEOUT));
        let resources = self
            .client
            .describe_configs(&asked, &options)
            .await
            .map_err(|error| refusal("describe topics", &error))?;
        for (topic, resource) in present.iter().zip(resources) {
            let resource = resource.map_err(|code| {
                LogError::Unavailable(format!("describe {}: {code}", topic.name))
            })?;
            for (setting, wanted) in settings(topic, durability) {
                let entry = resource.get(setting).and_then(|entry| entry.value.clone());
                let found = entry.unwrap_or_else(|| "unset".into());
                let is_enough = match setting {
                    "min.insync.replicas" | "max.message.bytes" => {
                        found.parse::<i64>().unwrap_or(0) >= wanted.parse().unwrap_or(0)
                    }
                    "segment.bytes" => true,
                    _ => found == wanted,
                };
                if !is_enough {
                    findings.push(Finding {
                        topic: topic.name.clone(),
                        setting: setting.to_owned(),
                        wanted,
                        found,
                        is_fatal: FATAL.contains(&setting),
                    });
                }
            }
        }
        Ok(findings)
    }

    /// Partitions and the smallest replication of a topic, where it exists.
    async fn shape(&self, topic: &str) -> Result<Option<(u32, i32)>, LogError> {
        let name = topic.to_owned();
        let asking = Arc::clone(&self.asking);
        ask(move || {
            let answer = asking.client.fetch_metadata(Some(&name), ASK_TIMEOUT);
            let metadata = asking.settle("ask for a topic", answer)?;
            let Some(topic) = metadata.topics().iter().find(|topic| topic.name() == name) else {
                return Ok(None);
            };
            if topic.error().is_some() || topic.partitions().is_empty() {
                return Ok(None);
            }
            let replicas = topic.partitions().iter().map(|p| p.replicas().len() as i32);
            Ok(Some((
                topic.partitions().len() as u32,
                replicas.min().unwrap_or(0),
            )))
        })
        .await
    }
}
