//! Numbers as people say them, for the sentences that explain a decision.

pub use service::words::secs;

/// Returns a count with its noun, in the plural where it should be.
pub fn count(n: u64, noun: &str) -> String {
    if n == 1 { format!("1 {noun}") } else { format!("{n} {noun}s") }
}

/// Returns `1 worker`, `2 workers`.
pub fn workers(n: u32) -> String {
    count(u64::from(n), "worker")
}
