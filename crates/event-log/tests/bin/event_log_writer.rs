//! Appends to a log until it is killed, and prints each append once it has been acknowledged.
//!
//! `event-log-writer <folder> <run>`: the subject of the test `killed_at_random_moments`.

// The test uses the rest.
#[allow(dead_code)]
#[path = "../support/writer_protocol.rs"]
mod writer_protocol;

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use event_log::local::LocalOptions;
use event_log::{Committed, ConsumerEvent, LocalLog, LogError, Record, SharedLog};
use tokio::task::JoinSet;
use writer_protocol::{Append, EVENTS, GROUP, KEYS, Line, NEWEST, TASKS, topics};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(worker_threads = 2)]
async fn main() -> Outcome {
    let mut arguments = std::env::args().skip(1);
    let (Some(folder), Some(run)) = (arguments.next(), arguments.next()) else {
        return Err("usage: event-log-writer <folder> <run>".into());
    };
    let run: u64 = run.parse()?;
    let options = LocalOptions {
        housekeeping_interval: Duration::from_millis(10),
        ..LocalOptions::default()
    };
    let (log, _) = LocalLog::open(Path::new(&folder), topics(), &options)?;
    let log: SharedLog = Arc::new(log);
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        tasks.spawn(append_events(Arc::clone(&log), run, task));
    }
    tasks.spawn(append_newest(Arc::clone(&log), run));
    tasks.spawn(commit_positions(log));
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn append_events(log: SharedLog, run: u64, task: u64) -> Outcome {
    for sequence in 0.. {
        let append = Append {
            run,
            task,
            sequence,
        };
        let record = |index| Record::keyed(append.key(), append.value(index));
        let records = (0..append.count()).map(record).collect();
        match log.append(EVENTS, append.partition(), records).await {
            Ok(done) => print(Line::Appended(append, done.partition, done.first))?,
            Err(LogError::Full) => return Err("the queue is large enough for all tasks".into()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn append_newest(log: SharedLog, run: u64) -> Outcome {
    for number in 0.. {
        let record = Record::keyed(format!("{}", number % KEYS), format!("{run} {number}"));
        let offset = log.append(NEWEST, 0, vec![record]).await?.first;
        print(Line::Newest {
            run,
            number,
            offset,
        })?;
    }
    Ok(())
}

/// Commits the end of partition 0 again and again.
async fn commit_positions(log: SharedLog) -> Outcome {
    let mut consumer = log.subscribe(GROUP, EVENTS).await?;
    while !matches!(
        consumer.poll(Duration::ZERO).await?,
        ConsumerEvent::Assigned(_)
    ) {}
    loop {
        let offset = log.bounds(EVENTS, 0).await?.end;
        consumer
            .commit(
                0,
                Committed {
                    offset,
                    metadata: format!("at {offset}"),
                },
            )
            .await?;
        print(Line::Committed(offset))?;
    }
}

/// One line in one write, so that a kill leaves it whole or out.
fn print(line: Line) -> Outcome {
    let mut out = std::io::stdout().lock();
    out.write_all((line.print() + "\n").as_bytes())?;
    Ok(out.flush()?)
}
