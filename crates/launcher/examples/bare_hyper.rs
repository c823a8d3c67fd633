//! A bare hyper server with a fixed answer, one single-threaded runtime a core over one port: what `make bench-lookup` measures
//! lookups against.
//!
//! usage: `bare_hyper <address> <file with the answer>`

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use tokio::net::TcpSocket;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(address), Some(file)) = (arguments.next(), arguments.next()) else {
        anyhow::bail!("usage: bare_hyper <address> <file with the answer>");
    };
    let address: SocketAddr = address.parse()?;
    let answer = Bytes::from(std::fs::read(file)?);
    let cores = std::thread::available_parallelism()?.get();
    let serving: Vec<_> = (0..cores)
        .map(|_| {
            let answer = answer.clone();
            std::thread::spawn(move || serve(address, answer))
        })
        .collect();
    for thread in serving {
        thread
            .join()
            .unwrap_or_else(|_| anyhow::bail!("a thread panicked"))?;
    }
    Ok(())
}

fn serve(address: SocketAddr, answer: Bytes) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseport(true)?;
        socket.bind(address)?;
        let listener = socket.listen(1024)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let answer = answer.clone();
            let service = service_fn(move |_: Request<Incoming>| {
                let mut response = Response::new(Full::new(answer.clone()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                std::future::ready(Ok::<_, Infallible>(response))
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
