//! Numbers as people say them.

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let said: Vec<_> = [0.25, 1.0, 2.54, 59.7, 60.0, 630.0, 3600.0, 7530.0].into_iter().map(secs).collect();
        assert_eq!(said, ["250ms", "1s", "2.5s", "1m", "1m", "10m30s", "1h", "2h05m"]);
    }
}
