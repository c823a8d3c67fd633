//! A connection whose requests are answered at once: read, answered and written in one go, in memory that the core's connections
//! share. A connection that waits holds no buffer.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::answering::answer_requests;
use super::quick::Quick;

/// Bytes read at once.
const INPUT: usize = 16 << 10;
/// Bytes of a head that may be incomplete; beyond them hyper says what is wrong.
const MAX_HEAD: usize = INPUT / 2;

/// What becomes of a connection when its quick requests end.
pub(super) enum After {
    /// The other side has closed it, or the service drains.
    Closed,
    /// A request is not answered at once: its bytes, which have been read, and what follows are for others.
    Others { stream: TcpStream, unread: Vec<u8> },
}

pub(super) struct QuickConnection<Q> {
    stream: TcpStream,
    quick: Arc<Q>,
    /// Read, and no whole head.
    unread: Vec<u8>,
    /// Answers that the socket had no room for.
    unsent: Vec<u8>,
    /// Whether what is unread is for others.
    is_for_others: bool,
}

/// What a core's connections read into and write from.
struct Buffers {
    input: Box<[u8]>,
    output: Vec<u8>,
    body: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        input: vec![0; INPUT].into(),
        output: Vec::with_capacity(INPUT),
        body: Vec::with_capacity(INPUT),
    });
}

impl<Q: Quick> QuickConnection<Q> {
    pub(super) fn new(stream: TcpStream, quick: Arc<Q>) -> Self {
        Self {
            stream,
            quick,
            unread: Vec::new(),
            unsent: Vec::new(),
            is_for_others: false,
        }
    }

    /// Answers requests until one is not for here, the other side closes, or the sender of `draining` is gone.
    pub(super) async fn serve(mut self, mut draining: watch::Receiver<()>) -> io::Result<After> {
        let mut drained = pin!(draining.changed());
        let mut is_drained = false;
        let is_closed = poll_fn(|context| {
            if let Poll::Ready(ended) = self.poll_requests(context) {
                return Poll::Ready(ended);
            }
            is_drained = is_drained || drained.as_mut().poll(context).is_ready();
            // What is under way goes on: an answer here, a request whose head has begun with the others.
            if is_drained && self.unsent.is_empty() {
                return Poll::Ready(Ok(self.unread.is_empty()));
            }
            Poll::Pending
        })
        .await?;
        Ok(if is_closed {
            After::Closed
        } else {
            After::Others {
                stream: self.stream,
                unread: self.unread,
            }
        })
    }

    /// Whether the connection is closed, when the quick requests end.
    fn poll_requests(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            while !self.unsent.is_empty() {
                let sent = ready!(Pin::new(&mut self.stream).poll_write(context, &self.unsent))?;
                self.unsent.drain(..sent);
            }
            if self.is_for_others {
                return Poll::Ready(Ok(false));
            }
            let read = BUFFERS.with_borrow_mut(|buffers| self.poll_turn(context, buffers));
            if ready!(read)? == 0 {
                return Poll::Ready(Ok(true));
            }
        }
    }

    /// Reads once, answers what is there, and writes once; answers how many bytes were read.
    fn poll_turn(
        &mut self,
        context: &mut Context<'_>,
        buffers: &mut Buffers,
    ) -> Poll<io::Result<usize>> {
        let kept = self.unread.len();
        buffers.input[..kept].copy_from_slice(&self.unread);
        let mut input = ReadBuf::new(&mut buffers.input[kept..]);
        ready!(Pin::new(&mut self.stream).poll_read(context, &mut input))?;
        let read = input.filled().len();
        buffers.output.clear();
        let input = &buffers.input[..kept + read];
        let (body, output) = (&mut buffers.body, &mut buffers.output);
        let answered = answer_requests(&*self.quick, input, body, output);
        self.unread.clear();
        self.unread.extend_from_slice(&input[answered.bytes..]);
        self.is_for_others = answered.is_for_others || self.unread.len() > MAX_HEAD;
        let mut output = buffers.output.as_slice();
        if !output.is_empty() {
            if let Poll::Ready(sent) = Pin::new(&mut self.stream).poll_write(context, output) {
                output = &output[sent?..];
            }
            self.unsent.extend_from_slice(output);
        }
        Poll::Ready(Ok(read))
    }
}
