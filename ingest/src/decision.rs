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

/// Opens a code and checks that it is in force (C10). Memory only (INV-2).
pub fn open_code(
    code: &str,
    keys: &CodeKeys,
    cache: &StatusCache,
    moment: Moment,
    language: Language,
) -> Result<ValidCode, Problem> {
    let forged = || Problem::code("code-forged", "The code is not genuine", language.forged());
    let payload = keys.open(code).map_err(|error| match error {
        CodeError::Malformed => Problem::code(
            "code-malformed",
            "A code has 23 characters of base64url",
            language.forged(),
        ),
        CodeError::UnknownKey | CodeError::Forged => forged(),
    })?;
    let status = cache.get(payload.person, moment.now).ok_or_else(forged)?;
    let issued = Timestamp(i64::from(payload.issued_second) * 1000);
    if issued < status.codes_valid_from {
        return Err(Problem::code(
            "code-revoked",
            "The code has been ended",
            language.revoked(),
        ));
    }
    if is_expired(&payload, &status, moment) {
        return Err(Problem::code(
            "code-expired",
            "The code has expired",
            language.expired(),
        ));
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
        let renewed = status
            .last_declaration
            .map_or(issued_ms, |day| issued_ms.max(day.0));
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
    /// The age from which answers are *stale*.
    pub stale_after_ms: i64,
    /// The asked language.
    pub language: Language,
}

/// Writes the answer of a lookup as JSON.
///
/// Every text in it is a stable name, a sentence of [`Language`], or a mask, none of which needs escaping.
pub fn write_answer(
    out: &mut String,
    status: &PersonStatus,
    named: Named,
    context: &AnswerContext<'_>,
) {
    let AnswerContext {
        ruleset, language, ..
    } = context;
    let colour = ruleset.colour(status.active);
    let rule = ruleset.rule(colour);
    let is_stale = context.knowledge_age_ms > context.stale_after_ms;
    let name_only = status.verification == Verification::NameMatched;
    let (outcome, next_step) = match (colour, is_stale, name_only) {
        (Colour::GREEN, false, false) => (rule.name, None),
        (Colour::GREEN, true, _) => ("stale", Some(language.stale())),
        (Colour::GREEN, false, true) => ("name_only", Some(language.name_only())),
        _ => (rule.name, Some(language.red())),
    };
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        r#"{{"outcome":"{outcome}","colour":"{}","passes":{},"name":"{}","phone":"#,
        rule.name, rule.passes, status.name,
    );
    let _ = match status.phone {
        Some(phone) => write!(out, r#""{phone}""#),
        None => out.write_str("null"),
    };
    out.push_str(r#","reasons":["#);
    for (index, reason) in ruleset.reasons(status.active).iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let guidance = language.guidance(reason);
        let _ = write!(
            out,
            r#"{comma}{{"category":"{}","guidance":"{guidance}"}}"#,
            reason.name()
        );
    }
    let verification = if name_only {
        "name_matched"
    } else {
        "face_checked"
    };
    let _ = write!(
        out,
        r#"],"verification":"{verification}","check_document":{name_only}"#
    );
    if let Named::Code(payload) = named {
        let _ = write!(
            out,
            r#","scheme":"{}","form":"{}""#,
            scheme_name(payload.scheme),
            form_name(payload.form)
        );
    }
    if let Some(next_step) = next_step {
        let _ = write!(out, r#","next_step":"{next_step}""#);
    }
    let _ = write!(
        out,
        r#","status_version":{},"knowledge_age_ms":{},"ruleset":"{ruleset}""#,
        status.version, context.knowledge_age_ms
    );
    if status.synthetic {
        out.push_str(r#","synthetic":true"#);
    }
    out.push('}');
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
