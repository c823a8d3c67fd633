//! Patience with a store that is away.

use std::time::Duration;

use warehouse::StoreError;

/// Repeats a read until the store answers.
pub(crate) async fn retry<T, F>(
    what: &'static str,
    mut call: impl FnMut() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut delay = Duration::from_millis(50);
    loop {
        match call().await {
            Err(error) if error.is_retryable() => {
                tracing::warn!(%error, what, "the store is away; trying again");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(Duration::from_secs(2));
            }
            outcome => return outcome,
        }
    }
}
