//! What a run came to, for people and for programs.

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::generator::{Measured, Outcome};

/// The result as JSON.
pub fn to_json(outcome: &Outcome) -> Value {
    json!({
        "elapsed_seconds": outcome.elapsed.as_secs_f64(),
        "lookups": measured(&outcome.lookups, outcome.elapsed.as_secs_f64()),
        "check_ins": measured(&outcome.check_ins, outcome.elapsed.as_secs_f64()),
        "acknowledged": outcome.acknowledged.len(),
    })
}

fn measured(measured: &Measured, seconds: f64) -> Value {
    let latency = &measured.latency_us;
    json!({
        "requests": latency.len(),
        "per_second": latency.len() as f64 / seconds,
        "statuses": measured.statuses,
        "broken": measured.broken,
        "latency_from_planned_time_us": {
            "p50": latency.value_at_quantile(0.5),
            "p90": latency.value_at_quantile(0.9),
            "p99": latency.value_at_quantile(0.99),
            "p999": latency.value_at_quantile(0.999),
            "max": latency.max(),
        },
    })
}

/// How soon acknowledged scans showed, as JSON.
pub fn freshness_to_json(freshness_ms: &Histogram<u64>) -> Value {
    json!({
        "probes": freshness_ms.len(),
        "p50": freshness_ms.value_at_quantile(0.5),
        "p90": freshness_ms.value_at_quantile(0.9),
        "p99": freshness_ms.value_at_quantile(0.99),
        "max": freshness_ms.max(),
    })
}

/// How soon acknowledged scans showed, as a line.
pub fn freshness_line(freshness_ms: &Histogram<u64>) -> String {
    let at = |quantile| freshness_ms.value_at_quantile(quantile);
    format!(
        "freshness  {:>10} probes, from acknowledgement to visible in the query API: p50 {} ms  p90 {} ms  p99 {} ms  max {} ms\n",
        freshness_ms.len(),
        at(0.5),
        at(0.9),
        at(0.99),
        freshness_ms.max(),
    )
}

/// The cores that each process used, as JSON.
pub fn cores_to_json(cores: &[(String, f64)]) -> Value {
    let cores = cores.iter();
    cores
        .map(|(name, used)| (name.clone(), json!(used)))
        .collect()
}

/// The cores that each process used, as a line.
pub fn cores_line(cores: &[(String, f64)]) -> String {
    let each = cores
        .iter()
        .map(|(name, used)| format!("  {name} {used:.2}"));
    format!("cores used{}\n", each.collect::<String>())
}

/// The result as a table.
pub fn to_table(outcome: &Outcome) -> String {
    let row = |name: &str, measured: &Measured| {
        let latency = &measured.latency_us;
        let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
        let refused: u64 = measured
            .statuses
            .iter()
            .filter(|(status, _)| **status >= 400)
            .map(|(_, n)| n)
            .sum();
        format!(
            "{name:<10} {:>10} {:>9.0}/s  p50 {:>8.2} ms  p99 {:>8.2} ms  p99.9 {:>8.2} ms  refused {refused}  broken {}\n",
            latency.len(),
            latency.len() as f64 / outcome.elapsed.as_secs_f64(),
            at(0.5),
            at(0.99),
            at(0.999),
            measured.broken,
        )
    };
    let mut table = String::from("latency counts from the planned send time\n");
    table.push_str(&row("lookups", &outcome.lookups));
    table.push_str(&row("check-ins", &outcome.check_ins));
    table
}
