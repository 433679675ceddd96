//! Configuration files: reading one, with everything that is wrong in it and where, and the database they name.

mod database;
mod secret;
mod source;

pub use database::{Database, variable};
pub use secret::Secret;
pub use source::Source;

/// Everything that is wrong with a configuration, a line each: `importer.toml:12: queue.wait_secs: …`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.join("\n"))]
pub struct ConfigError {
    /// At least one, in the file's order.
    pub problems: Vec<String>,
}

impl ConfigError {
    /// Names the one problem there is.
    pub fn of(problem: impl Into<String>) -> Self {
        Self { problems: vec![problem.into()] }
    }
}

/// Returns a parser's message without the values it quotes, which may be passwords: what stands between double quotes or
/// backticks stays only where it is a short and plain word.
#[must_use]
fn without_values(message: &str) -> String {
    let mut said = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(open) = rest.find(['"', '`']) {
        let quote = &rest[open..=open];
        let (before, quoted) = (&rest[..open], &rest[open + 1..]);
        // A quote within a text is escaped.
        let close = quoted.match_indices(quote).map(|(at, _)| at).find(|at| !quoted[..*at].ends_with('\\'));
        let close = close.unwrap_or(quoted.len());
        let value = &quoted[..close];
        let is_plain = value.len() <= 32 && value.chars().all(|c| c.is_alphanumeric() || "_-.%[]".contains(c));
        said.extend([before, quote, if is_plain { value } else { "…" }, quote]);
        rest = quoted.get(close + 1..).unwrap_or_default();
    }
    said + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_and_values_go() {
        for (message, expected) in [
            (
                "invalid type: string \"postgres://u:s\\\"ecret@h\", expected a map",
                "invalid type: string \"…\", expected a map",
            ),
            (
                "unknown variant `postgres://u:secret@h/d`, expected `asg` or `ecs`",
                "unknown variant `…`, expected `asg` or `ecs`",
            ),
            ("unknown field `urll`, expected `url`", "unknown field `urll`, expected `url`"),
        ] {
            assert_eq!(without_values(message), expected);
        }
    }
}
