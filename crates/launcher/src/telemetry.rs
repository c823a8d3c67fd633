//! Logs and metrics of the process.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use http_service::RenderMetrics;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use tracing_subscriber::EnvFilter;

/// Seconds, from a tenth of a millisecond to ten; 0.1 and 0.3 are the bounds of propagation (X2).
const BUCKETS: [f64; 17] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.3, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

/// How long samples of histograms are kept apart, at most.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Starts logging to standard error (JSON unless it is a terminal; `TONGXING_LOG` sets the level) and collecting metrics.
pub fn start() -> RenderMetrics {
    let filter = EnvFilter::try_from_env("TONGXING_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        logs.with_target(false).init();
    } else {
        logs.json().init();
    }
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &BUCKETS);
    match builder.and_then(PrometheusBuilder::install_recorder) {
        Ok(handle) => {
            let upkeep = handle.clone();
            // Samples of histograms pile up until they are put into their buckets, whether anyone asks for metrics or not.
            let spawned = std::thread::Builder::new()
                .name("metrics-upkeep".into())
                .spawn(move || {
                    loop {
                        std::thread::sleep(UPKEEP_INTERVAL);
                        upkeep.run_upkeep();
                    }
                });
            if let Err(error) = spawned {
                tracing::error!(%error, "metrics are tidied only when asked for");
            }
            Arc::new(move || handle.render())
        }
        Err(error) => {
            tracing::error!(%error, "metrics are not collected");
            Arc::new(String::new)
        }
    }
}
