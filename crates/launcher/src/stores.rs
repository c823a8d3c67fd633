//! Stores that others run: as the options name them, waited for, and read by `tongxing query`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http_service::RenderMetrics;
use query::{CompleteUpTo, IngestClient, Query};
use warehouse::{Cluster, Store, StoreConfig, Topology, schema};

use crate::cli::{QueryOptions, StoreOptions};
use crate::config::check_listen;
use crate::{keys, stopping};

/// How long a store may take to answer for the first time.
const STORE_ANSWERS: Duration = Duration::from_mins(1);

/// Waits until a store answers.
pub async fn wait_for(store: &Store) -> Result<()> {
    let deadline = tokio::time::Instant::now() + STORE_ANSWERS;
    loop {
        match schema::answers(store).await {
            Err(error) if error.is_retryable() && tokio::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            outcome => return outcome.context("the store does not answer"),
        }
    }
}

/// A store's password, where a file has one.
pub fn password_of(file: Option<&Path>) -> Result<Option<String>> {
    file.map(keys::read_secret)
        .transpose()
        .context("clickhouse_password_file")
}

/// A store from command-line options.
pub fn store_of(options: StoreOptions) -> Result<Store> {
    let password = password_of(options.clickhouse_password_file.as_deref())?;
    let topology = match options.clickhouse_cluster.as_deref() {
        None | Some("") => Topology::SingleServer,
        Some(name) => Topology::Cluster(Cluster::new(name).context("clickhouse_cluster")?),
    };
    let store = Store::new(&StoreConfig {
        url: options.clickhouse_url,
        database: options.clickhouse_database,
        user: options.clickhouse_user,
        password,
    });
    Ok(store.with_topology(topology))
}

/// A way to ingest. Callers' keys and documents go there in clear, so beyond loopback only where that is said to be meant.
fn ingest_client(url: &str, allow_plaintext: bool) -> Result<IngestClient> {
    let client = IngestClient::new(url)?;
    if !allow_plaintext && !client.is_on_loopback() {
        bail!("{url} is beyond loopback, and there is no TLS; say --allow-plaintext");
    }
    Ok(client)
}

/// Runs `tongxing query`: reads a store that others write.
pub async fn query_alone(options: QueryOptions, metrics: RenderMetrics) -> Result<()> {
    check_listen("listen", options.listen, options.allow_plaintext)?;
    let store = store_of(options.store)?;
    let asked = store.clone();
    let complete_up_to: CompleteUpTo = Arc::new(move || {
        let store = asked.clone();
        Box::pin(async move { warehouse::completeness::read(&store).await.ok().flatten() })
    });
    let ingest = options.ingest_url.as_deref().filter(|url| !url.is_empty());
    let ingest = ingest.map(|url| ingest_client(url, options.allow_plaintext));
    let ingest = ingest.transpose();
    let query = Arc::new(Query {
        store,
        complete_up_to,
        ingest: ingest.context("ingest_url")?,
    });
    let router = query::router(query, metrics);
    println!("console  http://{}", options.listen);
    let listener = http_service::bind(options.listen).await.context("listen")?;
    Ok(http_service::serve(router, listener, stopping::requested()).await?)
}
