//! Numbers and errors as people say them.

/// Returns seconds as `850ms`, `12s`, `10m30s` or `2h05m`.
#[must_use]
pub fn secs(secs: f64) -> String {
    if secs < 1.0 {
        return format!("{:.0}ms", secs * 1000.0);
    }
    if secs < 10.0 {
        let text = format!("{secs:.1}");
        return format!("{}s", text.trim_end_matches(".0"));
    }
    let whole = secs.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, 0) => format!("{m}m"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, 0, _) => format!("{h}h"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// Returns an error and its causes in one line, without those that the one before says already, as many a library does.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    let mut last = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !last.contains(&cause) {
            said += if said.is_empty() { "" } else { ": " };
            said += &cause;
            last = cause;
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn no_cause_is_said_twice() {
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused");
        let database = anyhow::Error::new(sqlx::Error::Io(refused())).context("connect to Postgres");
        assert_eq!(chain(&database), "connect to Postgres: error communicating with database: connection refused");
        assert_eq!(chain(&anyhow::Error::new(refused()).context("ask")), "ask: connection refused");
        assert_eq!(chain(&anyhow::anyhow!("no")), "no");
    }

    #[test]
    fn durations_read_well() {
        let said: Vec<_> = [0.25, 1.0, 2.54, 59.7, 60.0, 630.0, 3600.0, 7530.0].into_iter().map(secs).collect();
        assert_eq!(said, ["250ms", "1s", "2.5s", "1m", "1m", "10m30s", "1h", "2h05m"]);
    }
}
