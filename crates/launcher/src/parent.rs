//! Whether the process that started this one is still there: it holds the other end of this one's standard input.

use std::io::{ErrorKind, Read};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use tokio::sync::oneshot;

/// Resolves when standard input closes. Occupies a thread of its own until then.
///
/// The engine's library may make standard input non-blocking, so that a read may answer that there is nothing yet: a read that
/// waits when the process is stopped starts anew when it goes on, and is told so.
pub async fn gone() {
    let (closed, is_closed) = oneshot::channel();
    std::thread::spawn(move || {
        wait_closed(&mut std::io::stdin().lock());
        let _ = closed.send(());
    });
    // A thread that was not started counts as closed: better to end than to outlive the parent.
    let _ = is_closed.await;
}

fn wait_closed(input: &mut (impl Read + AsFd)) {
    let mut bytes = [0; 64];
    loop {
        match input.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let mut waiting = [PollFd::new(input, PollFlags::IN)];
                // An interruption leads to another read; so does a refusal, whose reason the read will name.
                let _ = poll(&mut waiting, None);
            }
            Err(error) => {
                tracing::error!(%error, "standard input cannot be read, so this process ends");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    #[test]
    fn a_parent_is_gone_when_the_pipe_closes_and_not_when_it_has_nothing_to_say() {
        let (mut input, mut output) = std::io::pipe().unwrap();
        let flags = fcntl_getfl(&input).unwrap();
        fcntl_setfl(&input, flags | OFlags::NONBLOCK).unwrap();
        let (closed, is_closed) = channel();
        let waiting = std::thread::spawn(move || {
            wait_closed(&mut input);
            closed.send(()).unwrap();
        });
        output.write_all(b"still here").unwrap();
        let soon = Duration::from_millis(50);
        assert_eq!(
            is_closed.recv_timeout(soon),
            Err(RecvTimeoutError::Timeout),
            "nothing to read is no end"
        );
        drop(output);
        is_closed.recv_timeout(Duration::from_secs(10)).unwrap();
        waiting.join().unwrap();
    }
}
