//! Aggregates until stopped, as the local deployment and `tongxing aggregator` do.

use std::sync::Arc;
use std::time::Duration;

use aggregator::{Aggregator, AggregatorConfig, AggregatorError};
use event_log::SharedLog;
use tokio::sync::watch;
use warehouse::schema::SchemaError;
use warehouse::{Store, retention, schema};

/// How long to wait for a store that is away: doubled from try to try.
const FIRST_DELAY: Duration = Duration::from_millis(50);
const LAST_DELAY: Duration = Duration::from_secs(1);

/// Waits for the store, brings the schema up to date, then aggregates until stopped. The database is to be of this person key's
/// fingerprint, and to keep rows for so long.
pub async fn aggregate(
    log: SharedLog,
    store: Store,
    config: AggregatorConfig,
    of_database: ([u8; 8], retention::Retention),
    stopped: watch::Receiver<bool>,
) {
    let is_stopped = |stopped: &watch::Receiver<bool>| *stopped.borrow();
    let mut delay = FIRST_DELAY;
    loop {
        match prepare(&store, of_database).await {
            Ok(()) => break,
            Err(SchemaError::Store(error)) if error.is_retryable() => {}
            Err(error) => return tracing::error!(%error, "nothing is aggregated"),
        }
        if is_stopped(&stopped) {
            return;
        }
        tokio::time::sleep(delay).await;
        delay = (delay * 2).min(LAST_DELAY);
    }
    let names = tokio::spawn(aggregator::names::follow_sites(
        Arc::clone(&log),
        store.clone(),
    ));
    let fact_history = tokio::spawn(keep_fact_history(Arc::clone(&log), store.clone()));
    while !is_stopped(&stopped) {
        let joined = Aggregator::join(Arc::clone(&log), store.clone(), config.clone()).await;
        let outcome = match joined {
            Ok(aggregator) => aggregator.run(stopped.clone()).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => break,
            Err(
                error @ (AggregatorError::PositionBehindStore { .. }
                | AggregatorError::AnotherStore { .. }),
            ) => {
                tracing::error!(%error, "nothing more is aggregated");
                break;
            }
            Err(error) => tracing::error!(%error, "the aggregator stopped; it is started again"),
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    names.abort();
    fact_history.abort();
}

/// Follows the history of facts, from where it was left, until aborted.
async fn keep_fact_history(log: SharedLog, store: Store) {
    loop {
        let followed = aggregator::fact_history::follow(Arc::clone(&log), store.clone()).await;
        match followed {
            Err(error) if !error.is_retryable() => {
                tracing::error!(%error, "the history of facts is not followed; it is started again");
            }
            Err(error) => tracing::warn!(%error, "the history of facts is followed again"),
            Ok(()) => {}
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn prepare(
    store: &Store,
    (fingerprint, retention): ([u8; 8], retention::Retention),
) -> Result<(), SchemaError> {
    schema::migrate(store).await?;
    schema::check_fingerprint(store, fingerprint).await?;
    retention::apply(store, retention).await?;
    Ok(aggregator::names::write_divisions(store).await?)
}
