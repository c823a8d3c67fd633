//! Requests sent at their planned moments, to some microseconds, by one thread over many kept-open connections.
//!
//! A runtime's timers count in milliseconds, which is more than a lookup takes; and what the generator uses of a core is
//! missing to what it measures. So one thread waits for the next planned moment and for answers together (`ppoll` over an
//! `epoll`), and a request costs it one write and one read. It drives some 200,000 requests a second.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::fd::OwnedFd;

use crate::client::Endpoint;
use crate::exchange::read_head;
use crate::generator::{Live, Measured};

/// How long answers may take after the last planned moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// What planned moments are multiples of: more requests than 20,000 a second come together, as those of many clients do, and the
/// generator does not wake for each.
const GRAIN: Duration = Duration::from_micros(50);
/// Answers that are taken up before the clock is looked at again.
const EVENTS: usize = 64;

/// When requests go out, to whom, over how many connections.
#[derive(Debug, Clone)]
pub struct Pace {
    /// Requests a second.
    pub per_second: u32,
    /// For how long, from when all connections are open.
    pub duration: Duration,
    /// Connections; a request takes the one that has been idle for longest, or waits for the first that is.
    pub connections: usize,
}

/// Sends GETs of the paths that `next_path` writes, each with a secret as its bearer token, and measures each answer from the
/// moment its request was planned for. Blocks its thread.
///
/// # Errors
/// Where no connection can be opened. One that breaks later is counted and opened again.
pub fn get(
    pace: &Pace,
    endpoint: &Endpoint,
    secret: &str,
    mut next_path: impl FnMut(&mut String),
    live: &Live,
) -> Result<Measured> {
    // What it waits for would count as the service's.
    scheduling::wake_promptly().context("ask for short slices")?;
    // Without it the kernel is up to 50 microseconds late.
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))
        .context("set the timer's slack")?;
    let mut sender = Sender {
        pace,
        endpoint,
        tail: format!(
            " HTTP/1.1\r\nhost: {}\r\nauthorization: Bearer {secret}\r\n\r\n",
            endpoint.authority
        ),
        events: epoll::create(epoll::CreateFlags::CLOEXEC).context("create an epoll")?,
        connections: Vec::new(),
        idle: VecDeque::new(),
        start: Instant::now(),
        sent: 0,
        live,
        measured: Measured::new()?,
    };
    for number in 0..pace.connections {
        let stream = sender.connect(number);
        sender.connections.push(Connection {
            stream: Some(stream.with_context(|| format!("connect to {}", endpoint.authority))?),
            input: Vec::with_capacity(4096),
            planned: None,
        });
        sender.idle.push_back(number);
    }
    sender.start = Instant::now();
    sender.run(&mut next_path)?;
    Ok(sender.measured)
}

struct Connection {
    stream: Option<TcpStream>,
    input: Vec<u8>,
    /// The planned moment of the request that is under way.
    planned: Option<Instant>,
}

struct Sender<'a> {
    pace: &'a Pace,
    endpoint: &'a Endpoint,
    /// What follows the path.
    tail: String,
    events: OwnedFd,
    connections: Vec<Connection>,
    idle: VecDeque<usize>,
    /// When the first request goes out.
    start: Instant,
    /// Requests that were sent, or could not be.
    sent: u64,
    live: &'a Live,
    measured: Measured,
}

impl Sender<'_> {
    fn connect(&self, number: usize) -> io::Result<TcpStream> {
        let stream = TcpStream::connect(&self.endpoint.authority)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let data = epoll::EventData::new_u64(number as u64);
        epoll::add(&self.events, &stream, data, epoll::EventFlags::IN)?;
        Ok(stream)
    }

    /// The moment that the next request is planned for; nothing after the last.
    fn next_planned(&self) -> Option<Instant> {
        let after = Duration::from_secs_f64(self.sent as f64 / f64::from(self.pace.per_second));
        let behind_grain = (after.as_nanos() % GRAIN.as_nanos()) as u64;
        let planned = after.saturating_sub(Duration::from_nanos(behind_grain));
        (after < self.pace.duration).then(|| self.start + planned)
    }

    fn run(&mut self, next_path: &mut impl FnMut(&mut String)) -> Result<()> {
        let give_up = self.start + self.pace.duration + PATIENCE;
        let mut request = String::new();
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let now = Instant::now();
            let planned = self.next_planned();
            let is_done = planned.is_none() && self.idle.len() == self.connections.len();
            if is_done || now > give_up {
                break;
            }
            let due = planned.filter(|_| !self.idle.is_empty());
            if let Some(planned) = due.filter(|planned| *planned <= now) {
                request.clear();
                request.push_str("GET ");
                next_path(&mut request);
                request.push_str(&self.tail);
                self.send(planned, request.as_bytes());
                if self.sent.is_multiple_of(8) {
                    self.take_answers(&mut events)?;
                }
                continue;
            }
            self.wait_until(due.unwrap_or(give_up))?;
            self.take_answers(&mut events)?;
        }
        let under_way = self.connections.len() - self.idle.len();
        self.measured.broken += under_way as u64;
        while self.next_planned().is_some() {
            self.sent += 1;
            self.measured.broken += 1;
        }
        Ok(())
    }

    /// Waits for an answer, at most until then.
    fn wait_until(&self, then: Instant) -> Result<()> {
        let left = then.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).context("a wait is too long")?;
        let mut ready = [PollFd::new(&self.events, PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("wait for answers"),
        }
    }

    fn send(&mut self, planned: Instant, request: &[u8]) {
        self.sent += 1;
        let Some(number) = self.idle.pop_front() else {
            return;
        };
        self.connections[number].planned = Some(planned);
        if self.connections[number].stream.is_none() {
            self.connections[number].stream = self.connect(number).ok();
        }
        let stream = self.connections[number].stream.as_mut();
        let written = stream.and_then(|stream| stream.write(request).ok());
        // A socket that carries one request at a time has room for it.
        if written != Some(request.len()) {
            self.lose(number);
        }
    }

    fn take_answers(&mut self, events: &mut Vec<epoll::Event>) -> Result<()> {
        events.clear();
        let ready = rustix::buffer::spare_capacity(events);
        match epoll::wait(&self.events, ready, Some(&Timespec::default())) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(()),
            Err(error) => return Err(error).context("take answers"),
        }
        for event in events.iter() {
            self.take_answer(event.data.u64() as usize);
        }
        Ok(())
    }

    fn take_answer(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        let Some(stream) = &mut connection.stream else {
            return;
        };
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Ok(0) | Err(_) => return self.lose(number),
            Ok(count) => connection.input.extend_from_slice(&bytes[..count]),
        }
        let status = match read_head(&connection.input) {
            Ok(None) => return,
            Ok(Some((_, length))) if connection.input.len() < length => return,
            Ok(Some((status, length))) if connection.input.len() == length => status,
            Ok(Some(_)) | Err(_) => return self.lose(number),
        };
        let Some(planned) = connection.planned.take() else {
            return self.lose(number);
        };
        connection.input.clear();
        self.idle.push_back(number);
        let latency = planned.elapsed().as_micros() as u64;
        self.measured.latency_us.saturating_record(latency);
        *self.measured.statuses.entry(status).or_default() += 1;
        self.live.lookups.fetch_add(1, Ordering::Relaxed);
    }

    /// Leaves a connection, to be opened again for its next request; what was under way on it is counted as broken.
    fn lose(&mut self, number: usize) {
        let connection = &mut self.connections[number];
        connection.stream = None;
        connection.input.clear();
        if connection.planned.take().is_some() {
            self.idle.push_back(number);
            self.measured.broken += 1;
            self.live.failures.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn pace(per_second: u32) -> Pace {
        Pace {
            per_second,
            duration: Duration::from_millis(500),
            connections: 3,
        }
    }

    fn load(pace: &Pace, listener: &TcpListener) -> Measured {
        let authority = listener.local_addr().unwrap().to_string();
        let endpoint = Endpoint { authority };
        let live = Live::default();
        get(pace, &endpoint, "secret", |path| path.push_str("/x"), &live).unwrap()
    }

    /// Answers requests of one connection, as many as told, each after a pause.
    fn answer(mut stream: TcpStream, count: usize, pause: Duration) {
        let mut bytes = [0; 4096];
        for _ in 0..count {
            let read = stream.read(&mut bytes).unwrap_or(0);
            if read == 0 {
                return;
            }
            let request = String::from_utf8_lossy(&bytes[..read]);
            assert!(request.starts_with("GET /x HTTP/1.1\r\n"), "{request}");
            std::thread::sleep(pause);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        }
    }

    fn serve(listener: TcpListener, count: usize, pause: Duration) {
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || answer(stream, count, pause));
            }
        });
    }

    #[test]
    fn every_planned_request_is_sent_and_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        serve(listener.try_clone().unwrap(), usize::MAX, Duration::ZERO);
        let measured = load(&pace(2_000), &listener);
        assert_eq!(measured.statuses[&200], 1_000);
        assert_eq!(measured.broken, 0);
    }

    #[test]
    fn waiting_for_a_connection_counts_as_latency() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // Three connections give at most 60 answers a second where 200 are planned.
        serve(
            listener.try_clone().unwrap(),
            usize::MAX,
            Duration::from_millis(50),
        );
        let measured = load(&pace(200), &listener);
        assert_eq!(measured.statuses[&200], 100);
        assert!(
            measured.latency_us.max() > 900_000,
            "{}",
            measured.latency_us.max()
        );
    }

    #[test]
    fn a_connection_that_ends_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        serve(listener.try_clone().unwrap(), 10, Duration::ZERO);
        let measured = load(&pace(1_000), &listener);
        let answered = measured.statuses[&200];
        assert_eq!(answered + measured.broken, 500);
        assert!(answered > 400, "{answered}");
    }
}
