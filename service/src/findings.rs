//! What the `check` of a program finds, and what to do about it.

use crate::{terminal, words::chain};
use std::fmt::Display;

/// What a check has found so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// What works.
    fine: Vec<String>,
    /// The program cannot work like this.
    wrong: Vec<String>,
    /// It works, but something is slower, less safe or other than one may think.
    warnings: Vec<String>,
}

impl Findings {
    /// Notes what works, and how.
    pub fn fine(&mut self, line: impl Into<String>) {
        self.fine.push(line.into());
    }

    /// Notes what keeps the program from working; `next` is what to do about it.
    pub fn wrong(&mut self, subject: impl Display, text: impl Display, next: impl Display) {
        self.wrong.push(format!("wrong: {subject}: {text}; {next}"));
    }

    /// Notes what is worth a thought; `next` is what to do about it.
    pub fn warn(&mut self, subject: impl Display, text: impl Display, next: impl Display) {
        self.warnings.push(format!("warning: {subject}: {text}; {next}"));
    }

    /// Notes a failure of the check itself, with its causes.
    pub fn failed(&mut self, subject: impl Display, error: &anyhow::Error, next: impl Display) {
        self.wrong(subject, chain(error), next);
    }

    /// Returns whether something must be mended before the program can work.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Returns a line for all that works, what is wrong and what is to be considered, and one that counts the latter two.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        let tally = format!("{} wrong, {} to consider", self.wrong.len(), self.warnings.len());
        // A server's message may have several lines.
        let one_line = |finding: &String| terminal::line(&finding.split_whitespace().collect::<Vec<_>>().join(" "));
        self.fine.iter().chain(&self.wrong).chain(&self.warnings).map(one_line).chain([tally])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_is_a_line_that_a_terminal_does_not_act_on() {
        let mut found = Findings::default();
        found.warn("queue", "small", "make it larger");
        found.wrong("queue \u{1b}[2J\u{202e}", "is\nnot", "x".repeat(100_000));
        found.fine("\u{9b}");
        let mut lines: Vec<String> = found.lines().collect();
        assert_eq!(lines.remove(0), "\\u{9b}");
        assert!(lines[0].starts_with("wrong: queue \\u{1b}[2J\\u{202e}: is not; xxx"), "{}", lines[0]);
        assert!(lines[0].ends_with(" characters)"), "{}", lines[0]);
        assert_eq!(lines[1..], ["warning: queue: small; make it larger", "1 wrong, 1 to consider"]);
    }
}
