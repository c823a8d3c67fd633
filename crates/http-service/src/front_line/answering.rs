//! Requests as bytes into answers as bytes: what a connection does between reading and writing.

use std::mem::MaybeUninit;

use super::head::{self, MAX_FIELDS, Start};
use super::quick::{Answer, Quick};
use super::response;

/// How far requests were answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Bytes of the requests that were answered.
    pub bytes: usize,
    /// Whether what follows them is for others; the start of a request that may yet be quick is not.
    pub is_for_others: bool,
}

/// Appends the answers to the quick requests at the start of `input`, in order, until one is incomplete or for others. `body` is memory
/// that each answer's body is written in.
pub fn answer_requests<Q: Quick>(
    quick: &Q,
    input: &[u8],
    body: &mut Vec<u8>,
    output: &mut Vec<u8>,
) -> Answered {
    let mut answered = Answered {
        bytes: 0,
        is_for_others: false,
    };
    while answered.bytes < input.len() {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
        let head = match head::read(&input[answered.bytes..], &mut fields) {
            Start::Head(head) => head,
            Start::Incomplete => break,
            Start::Others => {
                answered.is_for_others = true;
                break;
            }
        };
        body.clear();
        match quick.answer(head.target, &head, body) {
            Some(Answer::Json) => response::write_json(output, body),
            Some(Answer::Refusal(refusal)) => response::write(output, &refusal),
            None => {
                answered.is_for_others = true;
                break;
            }
        }
        scheduling::front_line::answered();
        answered.bytes += head.length;
    }
    answered
}
