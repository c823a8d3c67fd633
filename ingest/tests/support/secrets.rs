//! The identity that a request carries, which no answer may repeat (INV-3).

use serde_json::Value;

use super::{NAME, NUMBER, OTHER_NUMBER, PHONE};

/// Document numbers, phones, and names of persons.
pub fn secrets_of(path: &str, body: &[u8]) -> Vec<String> {
    let mut secrets: Vec<String> = [NUMBER, OTHER_NUMBER, NAME, PHONE]
        .map(str::to_owned)
        .into();
    for line in body.split(|byte| *byte == b'\n') {
        if let Ok(value) = serde_json::from_slice(line) {
            collect(&value, path.starts_with("/v1/persons"), &mut secrets);
        }
    }
    secrets.retain(|secret| secret.chars().count() >= 4);
    secrets
}

fn collect(value: &Value, names: bool, secrets: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| collect(item, names, secrets)),
        Value::Object(fields) => {
            for (name, field) in fields {
                let is_identity = name == "number" || name == "phone" || (names && name == "name");
                if is_identity && let Some(text) = field.as_str() {
                    secrets.push(text.to_owned());
                }
                collect(field, names, secrets);
            }
        }
        _ => {}
    }
}
