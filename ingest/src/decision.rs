//! From a code and a status to what a checker sees.

use std::fmt::Write;

use scan_model::code::CodeError;
use scan_model::enrolment::Verification;
use scan_model::{CodeForm, CodeKeys, CodePayload, Colour, Ruleset, Scheme, Timestamp};
use status_cache::{PersonStatus, StatusCache};

use crate::problem::Problem;
use crate::wording::Language;

/// A code that names a known person and is in force.
pub struct ValidCode {
    /// What the code says.
    pub payload: CodePayload,
    /// The person's status now.
    pub status: PersonStatus,
}

/// When a code is judged.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Now: what the person's status is.
    pub now: Timestamp,
    /// When the code was shown: what a rotating code's age is measured at.
    pub shown_at: Timestamp,
    /// How long a rotating code lives, in seconds.
    pub rotating_seconds: u32,
}

/// Why a code is not in force (C10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeRefusal {
    /// Not a code's text.
    Malformed,
    /// Sealed under a key that is not in force here, or for nobody who is enrolled.
    Forged,
    /// Its key is in force here, but it does not open: altered, or misread.
    Altered,
    /// Ended by its person.
    Revoked,
    /// Its time is over.
    Expired,
}

impl CodeRefusal {
    /// All of them, in the order of their numbers in the compact answer.
    pub const ALL: [Self; 5] = [
        Self::Malformed,
        Self::Forged,
        Self::Altered,
        Self::Revoked,
        Self::Expired,
    ];

    /// The stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Forged => "forged",
            Self::Altered => "altered",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
        }
    }

    /// The refusal as an answer.
    pub fn problem(self, language: Language) -> Problem {
        match self {
            Self::Malformed => Problem::code(
                "code-malformed",
                "A code has 23 characters of base64url",
                language.forged(),
            ),
            Self::Forged => {
                Problem::code("code-forged", "The code is not genuine", language.forged())
            }
            Self::Altered => Problem::code(
                "code-altered",
                "The code was altered or misread",
                language.altered(),
            ),
            Self::Revoked => Problem::code(
                "code-revoked",
                "The code has been ended",
                language.revoked(),
            ),
            Self::Expired => {
                Problem::code("code-expired", "The code has expired", language.expired())
            }
        }
    }
}

impl From<CodeError> for CodeRefusal {
    fn from(error: CodeError) -> Self {
        match error {
            CodeError::Malformed => Self::Malformed,
            CodeError::UnknownKey => Self::Forged,
            CodeError::Forged => Self::Altered,
        }
    }
}

/// Opens a code and checks that it is in force (C10). Memory only (INV-2).
pub fn open_code(
    code: &str,
    keys: &CodeKeys,
    cache: &StatusCache,
    moment: Moment,
) -> Result<ValidCode, CodeRefusal> {
    let payload = keys.open(code)?;
    let status = cache.get(payload.person, moment.now);
    judge(payload, status, moment)
}

/// Whether an opened code is in force, given its person's status.
pub fn judge(
    payload: CodePayload,
    status: Option<PersonStatus>,
    moment: Moment,
) -> Result<ValidCode, CodeRefusal> {
    let status = status.ok_or(CodeRefusal::Forged)?;
    let issued = Timestamp(i64::from(payload.issued_second) * 1000);
    if issued < status.codes_valid_from {
        return Err(CodeRefusal::Revoked);
    }
    if is_expired(&payload, &status, moment) {
        return Err(CodeRefusal::Expired);
    }
    Ok(ValidCode { payload, status })
}

/// Nobody is known by a document (C10).
pub fn unknown_document(language: Language) -> Problem {
    Problem::unknown("document", "nobody is enrolled under this document")
        .with_next_step(language.unknown())
}

/// Whether a code's time is over by its scheme and form (P4, P5).
fn is_expired(payload: &CodePayload, status: &PersonStatus, moment: Moment) -> bool {
    const DAY_MS: i64 = 86_400_000;
    let issued_ms = i64::from(payload.issued_second) * 1000;
    let shown_after_ms = moment.shown_at.0 - issued_ms;
    let lives_ms = i64::from(moment.rotating_seconds) * 1000;
    if payload.form == CodeForm::Rotating && shown_after_ms > lives_ms {
        return true;
    }
    payload.scheme.validity_days().is_some_and(|days| {
        // The day is kept and not the hour: a declaration counts to the end of its day.
        let renewed = status
            .last_declaration
            .map_or(issued_ms, |day| issued_ms.max(day.0 + DAY_MS));
        moment.now.0 - renewed > i64::from(days) * DAY_MS
    })
}

/// How a person was named, as the answer states it.
#[derive(Clone, Copy)]
pub enum Named {
    /// By a code.
    Code(CodePayload),
    /// By a document number.
    Document,
}

/// What goes into an answer beside the status.
pub struct AnswerContext<'a> {
    /// The ruleset in force.
    pub ruleset: &'a Ruleset,
    /// How old this node's knowledge is (S6).
    pub knowledge_age_ms: i64,
    /// The age from which answers are *stale*; 0 for none.
    pub stale_after_ms: i64,
    /// The asked language.
    pub language: Language,
}

/// What a checker is to make of a valid code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The colour says it.
    Colour(Colour),
    /// Green as far as this node knows, and its knowledge is old (S6).
    Stale,
    /// Green, and only the name was matched (P2).
    NameOnly,
}

impl Outcome {
    /// The outcome of a status.
    pub fn of(status: &PersonStatus, context: &AnswerContext<'_>) -> Self {
        let colour = context.ruleset.colour(status.active);
        if colour != Colour::GREEN {
            Self::Colour(colour)
        } else if context.is_stale() {
            Self::Stale
        } else if status.verification == Verification::NameMatched {
            Self::NameOnly
        } else {
            Self::Colour(colour)
        }
    }
}

impl AnswerContext<'_> {
    /// Whether this node's knowledge is older than configured.
    pub const fn is_stale(&self) -> bool {
        self.stale_after_ms != 0 && self.knowledge_age_ms > self.stale_after_ms
    }
}

/// Writes the answer of a lookup as JSON.
///
/// Every text in it is a stable name, a sentence of [`Language`], or a mask, none of which needs escaping.
pub fn write_answer(
    out: &mut Vec<u8>,
    status: &PersonStatus,
    named: Named,
    context: &AnswerContext<'_>,
) {
    let AnswerContext {
        ruleset, language, ..
    } = context;
    let colour = ruleset.colour(status.active);
    let rule = ruleset.rule(colour);
    let (outcome, next_step) = match Outcome::of(status, context) {
        Outcome::Colour(Colour::GREEN) => (rule.name, None),
        Outcome::Colour(_) => (rule.name, Some(language.red())),
        Outcome::Stale => ("stale", Some(language.stale())),
        Outcome::NameOnly => ("name_only", Some(language.name_only())),
    };
    let name_only = status.verification == Verification::NameMatched;
    let mut put = |text: &str| out.extend_from_slice(text.as_bytes());
    let mut digits = itoa::Buffer::new();
    put(r#"{"outcome":""#);
    put(outcome);
    put(r#"","colour":""#);
    put(rule.name);
    put(r#"","passes":"#);
    put(boolean(rule.passes));
    put(r#","name":""#);
    // Writing into memory cannot fail.
    let _ = write!(Text(&mut put), "{}", status.name);
    put(r#"","phone":"#);
    match status.phone {
        Some(phone) => {
            let _ = write!(Text(&mut put), r#""{phone}""#);
        }
        None => put("null"),
    }
    put(r#","reasons":["#);
    for (index, reason) in ruleset.reasons(status.active).iter().enumerate() {
        put(if index > 0 { "," } else { "" });
        put(r#"{"category":""#);
        put(reason.name());
        put(r#"","guidance":""#);
        put(language.guidance(reason));
        put(r#""}"#);
    }
    put(r#"],"verification":""#);
    put(if name_only {
        "name_matched"
    } else {
        "face_checked"
    });
    put(r#"","check_document":"#);
    put(boolean(name_only));
    if let Named::Code(payload) = named {
        put(r#","scheme":""#);
        put(scheme_name(payload.scheme));
        put(r#"","form":""#);
        put(form_name(payload.form));
        put(r#"""#);
    }
    if let Some(next_step) = next_step {
        put(r#","next_step":""#);
        put(next_step);
        put(r#"""#);
    }
    put(r#","status_version":"#);
    put(digits.format(status.version));
    put(r#","knowledge_age_ms":"#);
    put(digits.format(context.knowledge_age_ms));
    put(r#","ruleset":""#);
    put(ruleset.name());
    put(r#"""#);
    if status.synthetic {
        put(r#","synthetic":true"#);
    }
    put("}");
}

const fn boolean(value: bool) -> &'static str {
    if value { "true" } else { "false" }
}

/// Takes formatted text into an answer.
struct Text<'a, F>(&'a mut F);

impl<F: FnMut(&str)> Write for Text<'_, F> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        (self.0)(text);
        Ok(())
    }
}

const fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Yuekang => "yuekang",
        Scheme::Suikang => "suikang",
    }
}

const fn form_name(form: CodeForm) -> &'static str {
    match form {
        CodeForm::App => "app",
        CodeForm::Rotating => "rotating",
        CodeForm::Paper => "paper",
    }
}
