//! The front line over real connections: lookups are answered at once, everything else as by the router, and a drain answers what is under way.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use ingest::Front;
use support::World;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

struct Served {
    world: World,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

async fn serve() -> Served {
    let world = World::start().await;
    let listener = http_service::bind("127.0.0.1:0".parse().unwrap())
        .await
        .unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let front = Arc::new(Front(Arc::clone(&world.ingest)));
    let router = world.router.clone();
    let serving = tokio::spawn(http_service::serve_front_line(
        router,
        front,
        listener,
        async move {
            let _ = stopped.await;
        },
    ));
    Served {
        world,
        address,
        stop,
        serving,
    }
}

/// Sends text on a connection and reads answers until it has so many.
async fn exchange(stream: &mut TcpStream, text: &str, answers: usize) -> String {
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        let whole = text.matches("HTTP/1.1 ").count() == answers && text.ends_with(['}', '\n']);
        if whole {
            return text;
        }
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "the connection ended behind {text}");
        read.extend_from_slice(&buffer[..count]);
    }
}

fn get(path: &str, key: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {key}\r\n\r\n")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_lookups_on_the_front_line_answer_as_the_router_does() {
    let served = serve().await;
    let code = served.world.code().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let lookup = get(&format!("/v1/codes/{code}"), "tester");
    let answer = exchange(&mut stream, &lookup, 1).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(answer.contains("content-type: application/json"));
    let by_router = served.world.look_up(&code, "zh").await.json();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["name"], by_router["name"]);
    assert_eq!(body["status_version"], by_router["status_version"]);
    // Pipelined requests are answered in order, refused ones among them.
    let three = [
        lookup,
        get("/v1/codes/x", "tester"),
        get("/v1/codes/%41", "tester"),
    ];
    let answers = exchange(&mut stream, &three.concat(), 3).await;
    assert_eq!(answers.matches("code-malformed").count(), 2, "{answers}");
    assert!(answers.starts_with("HTTP/1.1 200"));
    let unknown = exchange(&mut stream, &get("/v1/codes/x", "nobody"), 1).await;
    assert!(unknown.starts_with("HTTP/1.1 401"), "{unknown}");
    let readiness = exchange(&mut stream, &get("/readyz", "nobody"), 1).await;
    assert!(readiness.starts_with("HTTP/1.1 200"), "{readiness}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_are_answered_off_the_front_line_and_a_drain_ends_connections() {
    let served = serve().await;
    let code = served.world.code().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let codes = vec![format!("\"{code}\""); 1000].join(",");
    let body = format!("{{\"codes\":[{codes}]}}");
    let request = format!(
        "POST /v1/lookups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer tester\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut read = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    while !read.ends_with(b"]}") {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0);
        read.extend_from_slice(&buffer[..count]);
    }
    assert!(String::from_utf8_lossy(&read).contains("\"accepted\":1000"));
    served.stop.send(()).unwrap();
    served.serving.await.unwrap().unwrap();
    assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "it is closed");
    assert!(TcpStream::connect(served.address).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn c1_a_lookup_that_comes_in_pieces_or_with_a_long_field_is_answered() {
    let served = serve().await;
    let code = served.world.code().await;
    let lookup = get(&format!("/v1/codes/{code}"), "tester");
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for _ in 0..2 {
        let (most, last) = lookup.split_at(lookup.len() - 1);
        for piece in most.as_bytes().chunks(7) {
            stream.write_all(piece).await.unwrap();
            tokio::task::yield_now().await;
        }
        let answer = exchange(&mut stream, last, 1).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    let field = format!("\r\nx-long: {}\r\n\r\n", "x".repeat(20_000));
    let long = lookup.replace("\r\n\r\n", &field);
    let answer = exchange(&mut stream, &long, 1).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_of_all_kinds_on_one_connection_are_answered_in_their_order() {
    let served = serve().await;
    let code = served.world.code().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let lookup = get(&format!("/v1/codes/{code}"), "tester");
    let body = format!(r#"{{"codes":["{code}"]}}"#);
    let batch = format!(
        "POST /v1/lookups HTTP/1.1\r\nhost: x\r\nauthorization: Bearer tester\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let refused = get("/v1/codes/x", "tester");
    let all = [&lookup, &refused, &batch, &lookup, &refused].map(String::as_str);
    let answers = exchange(&mut stream, &all.concat(), 5).await;
    let statuses: Vec<&str> = answers
        .split("HTTP/1.1 ")
        .skip(1)
        .map(|answer| &answer[..3])
        .collect();
    assert_eq!(statuses, ["200", "422", "200", "200", "422"], "{answers}");
    let third = answers.split("HTTP/1.1 ").nth(3).unwrap();
    assert!(third.contains("\"accepted\":1"), "{third}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_reads_late_gets_every_answer() {
    const LOOKUPS: usize = 20_000;
    let served = serve().await;
    let code = served.world.code().await;
    let lookup = get(&format!("/v1/codes/{code}"), "tester");
    let stream = TcpStream::connect(served.address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let sending = tokio::spawn(async move {
        for _ in 0..LOOKUPS / 100 {
            writer
                .write_all(lookup.repeat(100).as_bytes())
                .await
                .unwrap();
        }
        // No more comes; the answers still do.
        writer.shutdown().await.unwrap();
    });
    // Until both sides' buffers are full, the service cannot send.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let mut answers = Vec::new();
    reader.read_to_end(&mut answers).await.unwrap();
    sending.await.unwrap();
    let answers = String::from_utf8(answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), LOOKUPS);
    assert!(answers.ends_with('}'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_ends_connections_that_only_look_up() {
    let served = serve().await;
    let code = served.world.code().await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let lookup = get(&format!("/v1/codes/{code}"), "tester");
    exchange(&mut stream, &lookup, 1).await;
    served.stop.send(()).unwrap();
    served.serving.await.unwrap().unwrap();
    let mut buffer = [0; 16];
    for stream in [&mut stream, &mut idle] {
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0, "it is closed");
    }
}
