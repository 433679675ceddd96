//! What is said of objects and rows, without the values in it unless they may be shown.

/// Returns what is said of a rejected row. Messages quote what was in it, so that only the constraint's name is left.
#[must_use]
pub fn of_row(message: &str, may_show: bool) -> Option<String> {
    if may_show {
        return Some(message.to_owned());
    }
    let (_, rest) = message.split_once("constraint \"")?;
    rest.split_once('"').map(|(name, _)| format!("constraint {name}"))
}

/// Returns what is said of an object. What a command wrote to standard error may be values.
#[must_use]
pub fn of_object(reason: Option<&str>, error: &str, may_show: bool) -> String {
    let is_command = reason == Some("command") || error.starts_with("the command ");
    let text = if is_command && !may_show { error.split(": ").next().unwrap_or_default() } else { error };
    text.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_left_out_unless_they_may_be_shown() {
        let message = "new row for relation \"t\" violates check constraint \"t_n\": n is 17";
        assert_eq!(of_row(message, false).as_deref(), Some("constraint t_n"));
        assert_eq!(of_row("invalid input syntax for type numeric: \"secret\"", false), None);
        assert_eq!(of_row("secret", true).as_deref(), Some("secret"));
        assert_eq!(of_object(Some("command"), "the command a.py failed: secret", false), "the command a.py failed");
        assert_eq!(
            of_object(Some("command"), "the command a.py failed: secret", true),
            "the command a.py failed: secret"
        );
        assert_eq!(of_object(Some("schema"), "no column: x", false), "no column: x");
    }
}
