//! The compact form of batch lookups: 17 bytes a code, 16 bytes an answer.
//!
//! Both directions are little-endian. `Content-Type` [`CODES`] says that a request is a row of sealed codes, the bytes behind
//! the 23 characters of base64url; `Accept` [`ANSWERS`] asks for this answer, whatever form the request has:
//!
//! | bytes | of the head |
//! |---|---|
//! | 0–3 | `TXA1` |
//! | 4–7 | answers that follow, in the order of the codes |
//! | 8–15 | when it was answered, Unix milliseconds |
//! | 16–19 | how old the node's knowledge is, milliseconds |
//! | 20–31 | the ruleset's name, filled up with zeros |
//!
//! | bytes | of an answer |
//! |---|---|
//! | 0 | outcome: 0 as the colour says, 1 stale, 2 name only; 16 malformed, 17 forged, 18 altered, 19 revoked, 20 expired |
//! | 1 | colour: its place in the ruleset, 0 green, 1 red |
//! | 2 | bit 0 passes, 1 check the document, 2 synthetic; bits 4–5 form (0 app, 1 rotating, 2 paper), 6–7 scheme (0 yuekang, 1 suikang) |
//! | 3 | zero |
//! | 4–5 | the categories that are the colour's reasons, a bit each in the order of the API's list |
//! | 6–7 | status version |
//! | 8–15 | masked name and phone number, as [`ShownWord`] says |
//!
//! Bytes 1 to 15 of a refused code are zeros.

use bytes::{BufMut, Bytes};
use scan_model::Timestamp;
use scan_model::code::SEALED_LENGTH;
use scan_model::enrolment::Verification;
use status_cache::layout::ShownWord;

use super::batch::Verdict;
use crate::decision::{AnswerContext, Outcome, ValidCode};
use crate::problem::Problem;

/// Media type of a row of sealed codes.
pub const CODES: &str = "application/vnd.tongxing.codes";
/// Media type of a row of compact answers.
pub const ANSWERS: &str = "application/vnd.tongxing.answers";

/// Bytes of the head.
pub const HEAD_LENGTH: usize = 32;
/// Bytes of an answer.
pub const ANSWER_LENGTH: usize = 16;
const MAGIC: &[u8; 4] = b"TXA1";
/// The outcome of the first refusal; the others follow.
const FIRST_REFUSAL: u8 = 16;

/// The codes of a request body.
///
/// # Errors
/// A problem that names the length where the body is no whole number of codes.
pub fn read_codes(body: &[u8]) -> Result<&[[u8; SEALED_LENGTH]], Problem> {
    let (codes, rest) = body.as_chunks::<SEALED_LENGTH>();
    if rest.is_empty() && !codes.is_empty() {
        return Ok(codes);
    }
    let detail = format!("must be one or more codes of {SEALED_LENGTH} bytes each");
    Err(Problem::field("body", "length", detail))
}

/// The answer to a row of codes.
pub(super) fn write_answers(
    verdicts: &[Verdict],
    context: &AnswerContext<'_>,
    now: Timestamp,
) -> Bytes {
    let mut out = Vec::with_capacity(HEAD_LENGTH + verdicts.len() * ANSWER_LENGTH);
    out.put_slice(MAGIC);
    out.put_u32_le(verdicts.len() as u32);
    out.put_i64_le(now.0);
    out.put_u32_le(context.knowledge_age_ms.clamp(0, i64::from(u32::MAX)) as u32);
    let mut ruleset = [0; 12];
    let name = context.ruleset.name().as_bytes();
    let length = name.len().min(ruleset.len());
    ruleset[..length].copy_from_slice(&name[..length]);
    out.put_slice(&ruleset);
    for verdict in verdicts {
        match verdict {
            Ok(valid) => write_valid(&mut out, valid, context),
            Err(refusal) => {
                let mut answer = [0; ANSWER_LENGTH];
                answer[0] = FIRST_REFUSAL + *refusal as u8;
                out.put_slice(&answer);
            }
        }
    }
    out.into()
}

fn write_valid(out: &mut Vec<u8>, valid: &ValidCode, context: &AnswerContext<'_>) {
    let ValidCode { payload, status } = valid;
    let colour = context.ruleset.colour(status.active);
    let name_only = status.verification == Verification::NameMatched;
    out.put_u8(match Outcome::of(status, context) {
        Outcome::Colour(_) => 0,
        Outcome::Stale => 1,
        Outcome::NameOnly => 2,
    });
    out.put_u8(colour.0);
    out.put_u8(
        u8::from(context.ruleset.rule(colour).passes)
            | u8::from(name_only) << 1
            | u8::from(status.synthetic) << 2
            | (payload.form as u8) << 4
            | (payload.scheme as u8) << 6,
    );
    out.put_u8(0);
    out.put_u16_le(context.ruleset.reasons(status.active).0);
    out.put_u16_le(status.version);
    out.put_u64_le(ShownWord::new(status.name, status.phone).0);
}
