//! The Grafana ClickHouse plugin's macros and variables, expanded as the plugin does, so that one SQL text serves Grafana and
//! the console.
//!
//! | written | becomes |
//! |---|---|
//! | `$__timeFilter(column)` | `column >= toDateTime(from) AND column <= toDateTime(to)` |
//! | `$__timeFilter_ms(column)` | the same in milliseconds |
//! | `$__dateFilter(column)` | `column >= toDate(from) AND column <= toDate(to)` |
//! | `$__fromTime`, `$__toTime` | the bounds as `DateTime` |
//! | `$__timeInterval(column)` | the start of the panel's interval that holds the column |
//! | `$__interval_s` | the interval in seconds |
//! | `$name`, `${name}` | a dashboard variable's value |

use scan_model::Timestamp;

/// Why a panel's SQL cannot be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MacroError {
    /// The SQL uses a macro that is not expanded here.
    #[error("the macro or variable ${0} is not known")]
    Unknown(String),
    /// A macro's parenthesis does not close.
    #[error("the macro ${0} has no closing parenthesis")]
    Unclosed(String),
    /// A variable's value is not a number or a plain word, so it is not put into SQL.
    #[error("the value of variable {0} must be a number or a word of letters, digits and _")]
    Value(String),
}

/// What macros stand for.
pub struct Expansion<'a> {
    /// The range's start.
    pub from: Timestamp,
    /// The range's end, part of it.
    pub to: Timestamp,
    /// The panel's interval, in seconds.
    pub interval_s: u64,
    /// Variables by name.
    pub variables: &'a [(String, String)],
}

/// Expands every macro and variable.
pub fn expand(sql: &str, expansion: &Expansion<'_>) -> Result<String, MacroError> {
    let mut out = String::with_capacity(sql.len() + 128);
    let mut rest = sql;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let braced = rest.starts_with('{');
        let name_start = usize::from(braced);
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = rest[name_start..]
            .find(|c| !is_name(c))
            .unwrap_or(rest.len() - name_start);
        let name = &rest[name_start..name_start + length];
        rest = &rest[name_start + length..];
        if braced {
            rest = rest
                .strip_prefix('}')
                .ok_or_else(|| MacroError::Unclosed(name.to_owned()))?;
        }
        let argument = if name.starts_with("__") && rest.starts_with('(') {
            let close = rest
                .find(')')
                .ok_or_else(|| MacroError::Unclosed(name.to_owned()))?;
            let argument = &rest[1..close];
            rest = &rest[close + 1..];
            argument
        } else {
            ""
        };
        out.push_str(&value_of(name, argument, expansion)?);
    }
    out.push_str(rest);
    Ok(out)
}

fn value_of(name: &str, column: &str, expansion: &Expansion<'_>) -> Result<String, MacroError> {
    let (from, to) = (expansion.from.seconds(), expansion.to.seconds());
    let (from_ms, to_ms) = (expansion.from.0, expansion.to.0);
    let interval = expansion.interval_s;
    Ok(match name {
        "__timeFilter" => {
            format!("{column} >= toDateTime({from}) AND {column} <= toDateTime({to})")
        }
        "__timeFilter_ms" => format!(
            "{column} >= fromUnixTimestamp64Milli({from_ms}) AND {column} <= fromUnixTimestamp64Milli({to_ms})"
        ),
        "__dateFilter" => format!(
            "{column} >= toDate(toDateTime({from}), 'Asia/Shanghai') AND {column} <= toDate(toDateTime({to}), 'Asia/Shanghai')"
        ),
        "__fromTime" => format!("toDateTime({from})"),
        "__toTime" => format!("toDateTime({to})"),
        "__timeInterval" => {
            format!("toStartOfInterval(toDateTime({column}), INTERVAL {interval} second)")
        }
        "__interval_s" => interval.to_string(),
        _ => {
            let found = expansion.variables.iter().find(|(known, _)| known == name);
            let (_, value) = found.ok_or_else(|| MacroError::Unknown(name.to_owned()))?;
            let is_plain = value.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            if value.is_empty() || !is_plain {
                return Err(MacroError::Value(name.to_owned()));
            }
            value.clone()
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(sql: &str, variables: &[(&str, &str)]) -> Result<String, MacroError> {
        let variables: Vec<_> = variables
            .iter()
            .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
            .collect();
        let (from, to) = (Timestamp(1_000_000), Timestamp(2_000_000));
        expand(
            sql,
            &Expansion {
                from,
                to,
                interval_s: 60,
                variables: &variables,
            },
        )
    }

    #[test]
    fn macros_and_variables_are_expanded() {
        assert_eq!(
            expanded(
                "WHERE $__timeFilter(hour) AND venue = ${venue}",
                &[("venue", "7")]
            )
            .unwrap(),
            "WHERE hour >= toDateTime(1000) AND hour <= toDateTime(2000) AND venue = 7"
        );
        assert_eq!(
            expanded("$__timeInterval(hour) $__interval_s", &[]).unwrap(),
            "toStartOfInterval(toDateTime(hour), INTERVAL 60 second) 60"
        );
    }

    #[test]
    fn x10_a_value_that_is_not_a_plain_word_never_reaches_the_sql() {
        for value in ["1; DROP TABLE scans", "1 OR 1=1", "'x'", "", "1)--"] {
            let refused = expanded("venue = $venue", &[("venue", value)]);
            assert_eq!(refused, Err(MacroError::Value("venue".into())), "{value}");
        }
        assert_eq!(
            expanded("$what", &[]),
            Err(MacroError::Unknown("what".into()))
        );
    }
}
