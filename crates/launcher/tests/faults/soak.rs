//! Claim: ten minutes of every fault, one after another as a printed seed has them, lose and double nothing.

use std::time::{Duration, Instant};

use aggregator::SCANS;
use event_log::Record;
use rand::Rng;

use crate::cluster_support::engine_support::is_long;
use crate::cluster_support::scenario::Scenario;
use crate::cluster_support::store_proxy::Mode;
use crate::schedule::{Fault, schedule};

/// Until clients know the new leaders.
const FAILOVER: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv1_soak() {
    let mut scenario = Scenario::with_brokers(3, 2, 2).await;
    let lasts = Duration::from_secs(if is_long() { 600 } else { 60 });
    // Of the printed seed.
    let steps = schedule(scenario.random.random(), lasts);
    let started = Instant::now();
    for (at, fault) in &steps {
        tokio::time::sleep_until((started + *at).into()).await;
        println!(
            "{:6.1} s (planned {:6.1} s) {fault:?}",
            started.elapsed().as_secs_f64(),
            at.as_secs_f64()
        );
        strike(&mut scenario, *fault).await;
    }
    println!("{} faults", steps.len());
    scenario.conclude().await;
}

async fn strike(scenario: &mut Scenario, fault: Fault) {
    let Scenario {
        cluster,
        ingest,
        aggregators,
        load,
        ..
    } = scenario;
    let during = async |mode| {
        cluster.proxy.set(mode);
        tokio::time::sleep(fault.lasts()).await;
        cluster.proxy.set(Mode::Pass);
    };
    match fault {
        Fault::IngestKilled { node } => {
            load.outage_begins();
            ingest[node].kill();
            ingest[node].start(cluster).await;
            load.outage_ends();
        }
        Fault::AggregatorKilled { aggregator } => {
            aggregators[aggregator].kill();
            aggregators[aggregator].start(cluster).await;
        }
        Fault::AllAggregatorsKilledAfterAnInsert => {
            let held = cluster.proxy.hold_next_insert().await;
            for aggregator in aggregators.iter_mut() {
                aggregator.kill();
            }
            drop(held);
            for aggregator in aggregators {
                aggregator.start(cluster).await;
            }
        }
        Fault::AggregatorFrozen { aggregator, .. } => {
            aggregators[aggregator].freeze();
            tokio::time::sleep(fault.lasts()).await;
            aggregators[aggregator].thaw();
        }
        Fault::AggregatorLeaves { aggregator, .. } => {
            aggregators[aggregator].stop().await;
            tokio::time::sleep(fault.lasts()).await;
            aggregators[aggregator].start(cluster).await;
        }
        Fault::EngineKilled => {
            cluster.engine.kill();
            cluster.engine.restart();
        }
        Fault::EngineFrozen { .. } => {
            cluster.engine.freeze();
            tokio::time::sleep(fault.lasts()).await;
            cluster.engine.thaw();
        }
        Fault::StoreRefuses { .. } => during(Mode::Refuse).await,
        Fault::StoreSlow { milliseconds } => {
            during(Mode::Slow(Duration::from_millis(milliseconds / 8))).await
        }
        Fault::StoreAnswersErrors { .. } => during(Mode::AnswerErrorAfterInserting).await,
        Fault::StoreCutsAnswers { .. } => during(Mode::CutAfterInserting).await,
        Fault::BrokerKilled { broker, .. } => {
            load.outage_begins();
            cluster.kafka.kill(broker);
            tokio::time::sleep(fault.lasts()).await;
            cluster.kafka.start_again(broker);
            tokio::time::sleep(FAILOVER).await;
            load.outage_ends();
        }
        Fault::AllBrokersFrozen { .. } => {
            load.outage_begins();
            (1..=3).for_each(|broker| cluster.kafka.pause(broker));
            tokio::time::sleep(fault.lasts()).await;
            (1..=3).for_each(|broker| cluster.kafka.resume(broker));
            tokio::time::sleep(FAILOVER).await;
            load.outage_ends();
        }
        Fault::PoisonRecord { partition } => {
            let poison = Record::unkeyed(vec![1, 2, 3]);
            let appended = cluster.log().append(SCANS, partition, vec![poison]).await;
            appended.expect("the brokers answer");
        }
    }
}
