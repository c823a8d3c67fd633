//! Serving where every microsecond counts: one single-threaded runtime a core, and answers that need no waiting given at
//! once on it.
//!
//! Connections are accepted in one place and each goes to the core that has the fewest, so that no core idles beside a full
//! one, as it may where the kernel spreads them by hash. A request stays on its connection's core: no task crosses threads,
//! and nothing is shared between cores but what the service itself shares. Requests that a service calls heavy run on a
//! runtime of their own, whose threads stand back, so that a large import delays no lookup behind it.
//!
//! A connection begins as a [`quick`] one: requests that the service answers from memory are read, answered and written in one
//! go, many at once where they come so. The first that is not among them, and all that follow it, are hyper's and the router's.

pub mod answering;
mod connection;
mod head;
pub mod quick;
mod response;
mod service;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use scheduling::StandingBack;
use scheduling::pace::Pace;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};

use self::connection::{After, QuickConnection};
use self::quick::Quick;
use self::service::Service;

/// How far heavy requests stand back: where lookups want the core too, they have a tenth of it.
const HEAVY_STANDS_BACK: u8 = 10;

/// A core's share of the connections.
struct Core {
    connections: Arc<AtomicUsize>,
    incoming: mpsc::UnboundedSender<std::net::TcpStream>,
    ended: oneshot::Receiver<()>,
}

/// A connection's place in its core's count, until it is gone, however that comes about.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Serves until `shutdown` resolves, then answers what is under way.
///
/// # Errors
/// Where a thread or its runtime does not start.
pub async fn serve_front_line<Q: Quick>(
    router: Router,
    quick: Arc<Q>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let count = thread::available_parallelism().map_or(1, usize::from);
    // Two threads a core, as one that gives way to lookups keeps its thread.
    let heavy = StandingBack::start("heavy", 2 * count, HEAVY_STANDS_BACK)?;
    let cores = (0..count)
        .map(|number| {
            let service = Service {
                router: router.clone(),
                quick: Arc::clone(&quick),
                heavy: heavy.handle().clone(),
            };
            start_core(number, service)
        })
        .collect::<io::Result<Vec<Core>>>()?;
    let mut shutdown = std::pin::pin!(shutdown);
    let mut pace = std::pin::pin!(keep_pace());
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            never = &mut pace => match never {},
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => hand_over(&cores, stream),
            Err(error) => wait_after(&error).await,
        }
    }
    drop(listener);
    for core in cores {
        drop(core.incoming);
        // An error is a core that ended before: a panic, which its thread has reported.
        let _ = core.ended.await;
    }
    // Heavy requests are answered: each had a connection, and those are gone.
    Ok(())
}

/// Bytes that are read of a connection at a time, and the longest head: some 15 microseconds of a core, before lookups may go first.
const READ_AT_A_TIME: usize = 64 << 10;

fn hand_over(cores: &[Core], stream: TcpStream) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY is not set");
    }
    let fewest = cores
        .iter()
        .min_by_key(|core| core.connections.load(Ordering::Relaxed));
    let (Some(core), Ok(stream)) = (fewest, stream.into_std()) else {
        return;
    };
    core.connections.fetch_add(1, Ordering::Relaxed);
    let _ = core.incoming.send(stream);
}

/// Has the cores' threads wake as they get most done.
async fn keep_pace() -> Infallible {
    let mut pace = Pace::default();
    loop {
        match pace.look() {
            Ok(rest) => tokio::time::sleep(rest).await,
            Err(error) => {
                tracing::warn!(%error, "lookups wake as they began");
                return std::future::pending().await;
            }
        }
    }
}

/// What accepting says of one connection that went away is nothing; where the process has no more sockets, it waits for some.
async fn wait_after(error: &io::Error) {
    let is_of_the_connection = matches!(
        error.kind(),
        io::ErrorKind::ConnectionRefused
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
    );
    if !is_of_the_connection {
        tracing::warn!(%error, "connections are not accepted");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

fn start_core<Q: Quick>(number: usize, service: Service<Q>) -> io::Result<Core> {
    let (incoming, connections_in) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    let connections = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let counted = Arc::clone(&connections);
    thread::Builder::new()
        .name(format!("front-line-{number}"))
        .spawn(move || {
            scheduling::front_line::join(number);
            if let Err(error) = scheduling::wake_promptly() {
                tracing::warn!(%error, "lookups wait for other threads' slices");
            }
            runtime.block_on(serve_connections(service, connections_in, counted));
            scheduling::front_line::leave();
            let _ = end.send(());
        })?;
    Ok(Core {
        connections,
        incoming,
        ended,
    })
}

async fn serve_connections<Q: Quick>(
    service: Service<Q>,
    mut incoming: mpsc::UnboundedReceiver<std::net::TcpStream>,
    connections: Arc<AtomicUsize>,
) {
    let graceful = GracefulShutdown::new();
    let (drain, draining) = watch::channel(());
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .pipeline_flush(true)
        .max_buf_size(READ_AT_A_TIME);
    while let Some(stream) = incoming.recv().await {
        let place = Place(Arc::clone(&connections));
        let stream = match TcpStream::from_std(stream) {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection is dropped");
                continue;
            }
        };
        let serving = serve_connection(
            builder.clone(),
            service.clone(),
            stream,
            draining.clone(),
            graceful.watcher(),
        );
        tokio::spawn(async move {
            let _place = place;
            if let Err(error) = serving.await {
                tracing::debug!(error, "a connection ended");
            }
        });
    }
    drop(drain);
    graceful.shutdown().await;
}

/// Serves a connection; the watcher holds the drain up until it is gone.
async fn serve_connection<Q: Quick>(
    builder: auto::Builder<TokioExecutor>,
    service: Service<Q>,
    stream: TcpStream,
    draining: watch::Receiver<()>,
    watcher: Watcher,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let quick = QuickConnection::new(stream, Arc::clone(&service.quick));
    let (stream, unread) = match quick.serve(draining).await? {
        After::Closed => return Ok(()),
        After::Others { stream, unread } => (stream, unread),
    };
    let (reader, writer) = stream.into_split();
    let reader = tokio::io::AsyncReadExt::chain(io::Cursor::new(unread), reader);
    let stream = tokio::io::join(reader, writer);
    let serve = service_fn(move |request| service.clone().serve(request));
    let connection = builder.serve_connection(TokioIo::new(stream), serve);
    watcher.watch(connection.into_owned()).await
}
