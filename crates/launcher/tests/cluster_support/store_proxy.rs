//! Stands between the aggregators and ClickHouse's HTTP interface, and fails on demand.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, oneshot, watch};
use tokio::task::JoinSet;

/// Bytes of an insert that a slow store takes at a time.
const TRICKLE_BYTES: usize = 16 << 10;

/// What the proxy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Requests and answers go through.
    Pass,
    /// Nobody listens, and open connections are cut.
    Refuse,
    /// Connections are accepted and requests held.
    Pause,
    /// Each request waits so long before it is sent, an insert's body trickles, and each answer waits as long.
    Slow(Duration),
    /// Inserts of scans are done, and answered 500.
    AnswerErrorAfterInserting,
    /// Inserts of scans are done, and the connection is cut instead of an answer.
    CutAfterInserting,
}

type Body = BoxBody<Bytes, Infallible>;

/// An insert is done in the store, and its answer is held back until this is dropped.
pub struct HeldAnswer {
    _release: oneshot::Sender<()>,
}

struct Shared {
    upstream: SocketAddr,
    client: Client<HttpConnector, Body>,
    mode: watch::Sender<Mode>,
    /// Who waits for the next insert's answer.
    waiting: Mutex<Option<oneshot::Sender<HeldAnswer>>>,
    inserts: AtomicU64,
    /// Inserts whose answers were kept from the writer.
    spoiled: AtomicU64,
}

/// The proxy; it ends with the runtime.
#[derive(Clone)]
pub struct StoreProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl StoreProxy {
    pub async fn start(upstream: SocketAddr) -> Self {
        let port = super::processes::free_port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let shared = Arc::new(Shared {
            upstream,
            client: Client::builder(TokioExecutor::new()).build_http(),
            mode: watch::Sender::new(Mode::Pass),
            waiting: Mutex::new(None),
            inserts: AtomicU64::new(0),
            spoiled: AtomicU64::new(0),
        });
        let listener = TcpListener::bind(address).await.unwrap();
        tokio::spawn(listen(listener, address, Arc::clone(&shared)));
        Self { address, shared }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// Inserts of scans that the store has answered.
    pub fn inserts(&self) -> u64 {
        self.shared.inserts.load(Ordering::Relaxed)
    }

    /// Inserts whose answers were kept from the writer.
    pub fn spoiled(&self) -> u64 {
        self.shared.spoiled.load(Ordering::Relaxed)
    }

    /// Waits until an insert of scans is done in the store, while its writer does not know yet.
    pub async fn hold_next_insert(&self) -> HeldAnswer {
        let (sender, receiver) = oneshot::channel();
        *self.shared.waiting.lock().await = Some(sender);
        let held = tokio::time::timeout(super::PATIENCE, receiver).await;
        held.expect("an insert in time").unwrap()
    }
}

/// Listens unless the mode is to refuse.
async fn listen(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let mut listener = Some(listener);
    let mut connections = JoinSet::new();
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
            connections.shutdown().await;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).await.ok();
        }
        let accept = async {
            match &listener {
                Some(listener) => listener.accept().await.ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() { return },
            accepted = accept => if let Some((stream, _)) = accepted {
                let _ = stream.set_nodelay(true);
                connections.spawn(serve(stream, Arc::clone(&shared)));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    let service = service_fn(|request| forward(request, Arc::clone(&shared)));
    // A connection that breaks is what the client is to see.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// The connection is cut.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;

async fn forward(request: Request<Incoming>, shared: Arc<Shared>) -> Result<Response<Body>, Cut> {
    let is_insert = inserts_scans(request.uri());
    let (mut head, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    let mode = shared.after_pause().await;
    let path = head.uri.path_and_query().map_or("/", |path| path.as_str());
    let uri = format!("http://{}{path}", shared.upstream);
    head.uri = uri.parse().map_err(|_| Cut)?;
    head.headers.remove(hyper::header::TRANSFER_ENCODING);
    head.headers.remove(hyper::header::CONTENT_LENGTH);
    let body = match mode {
        Mode::Slow(delay) => {
            tokio::time::sleep(delay).await;
            trickle(body, delay)
        }
        _ => Full::new(body).boxed(),
    };
    let sent = shared.client.request(Request::from_parts(head, body)).await;
    let (head, body) = sent.map_err(|_| Cut)?.into_parts();
    let body = body.collect().await.map_err(|_| Cut)?.to_bytes();
    if is_insert {
        shared.inserts.fetch_add(1, Ordering::Relaxed);
        if let Some(waiting) = shared.waiting.lock().await.take() {
            let (release, released) = oneshot::channel();
            if waiting.send(HeldAnswer { _release: release }).is_ok() {
                let _ = released.await;
            }
        }
    }
    match shared.after_pause().await {
        Mode::Slow(delay) => tokio::time::sleep(delay).await,
        Mode::CutAfterInserting if is_insert => {
            shared.spoiled.fetch_add(1, Ordering::Relaxed);
            return Err(Cut);
        }
        Mode::AnswerErrorAfterInserting if is_insert => {
            shared.spoiled.fetch_add(1, Ordering::Relaxed);
            let said = "Code: 999. DB::Exception: Session expired. (KEEPER_EXCEPTION)\n";
            let mut answer = Response::new(Full::from(said).boxed());
            *answer.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
            return Ok(answer);
        }
        _ => {}
    }
    Ok(Response::from_parts(head, Full::new(body).boxed()))
}

impl Shared {
    /// The mode, once it is another than to pause.
    async fn after_pause(&self) -> Mode {
        let mut mode = self.mode.subscribe();
        let mode = mode.wait_for(|mode| *mode != Mode::Pause).await;
        mode.map_or(Mode::Pass, |mode| *mode)
    }
}

fn trickle(body: Bytes, delay: Duration) -> Body {
    let chunks: Vec<Bytes> = body
        .chunks(TRICKLE_BYTES)
        .map(Bytes::copy_from_slice)
        .collect();
    let pause = delay / (chunks.len().max(1) as u32);
    let frames = stream::iter(chunks).then(move |chunk| async move {
        tokio::time::sleep(pause).await;
        Ok(Frame::data(chunk))
    });
    BodyExt::boxed(StreamBody::new(frames))
}

/// Whether a request inserts scans: the statement stands in the address.
fn inserts_scans(uri: &Uri) -> bool {
    let query = uri.query().unwrap_or_default();
    let plain = query.replace("%20", " ").replace('+', " ");
    plain.contains("query=INSERT INTO scans ")
}
