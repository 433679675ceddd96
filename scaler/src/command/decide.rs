//! `scaler decide`: observations in, decisions out, nothing touched.

use crate::{
    decision::Decision,
    observation::parse_line,
    policy::{Policy, State, decide},
};
use anyhow::Context;
use serde::Serialize;
use service::terminal;
use std::io::{BufRead, Write};

/// A line of the output.
#[derive(Serialize)]
struct Answer {
    #[serde(flatten)]
    decision: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// Answers one observation, or one a line with the state carried along.
///
/// Returns whether every line could be read.
///
/// # Errors
/// When the input cannot be read or the output not be written.
pub fn run(policy: &Policy, stream: bool, input: impl BufRead, mut output: impl Write) -> anyhow::Result<bool> {
    let mut input = input;
    let mut state = State::default();
    let mut all_read = true;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = if stream { input.read_until(b'\n', &mut line) } else { input.read_to_end(&mut line) };
        if read.context("read the observation")? == 0 && (stream || !line.is_empty()) {
            break;
        }
        let text = String::from_utf8_lossy(&line);
        if text.trim().is_empty() && stream {
            continue;
        }
        let answer = answer(policy, &text, &mut state);
        all_read &= answer.error.is_none();
        let answer = serde_json::to_string(&answer).context("write the decision")?;
        // Each line is an answer that may be waited for.
        writeln!(output, "{}", terminal::json(&answer)).and_then(|()| output.flush()).context("write the decision")?;
        if !stream {
            break;
        }
    }
    Ok(all_read)
}

fn answer(policy: &Policy, text: &str, state: &mut State) -> Answer {
    match parse_line(text) {
        Err(error) => Answer { decision: None, error: Some(error) },
        Ok(line) => {
            let (decision, next) = decide(policy, &line.seen, state, line.now);
            *state = next;
            Answer { decision: Some(decision), error: line.complaint }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::Value;

    fn lines(stream: bool, input: &str) -> (bool, Vec<Value>) {
        let config = Config::parse("[[pool]]\nname = \"a\"\nbacklog_per_worker = 10\n", "a", |_| None).unwrap();
        let mut output = Vec::new();
        let all_read = run(&config.pools[0].policy(), stream, input.as_bytes(), &mut output).unwrap();
        let text = String::from_utf8(output).unwrap();
        (all_read, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn line(secs: u32, n: u32, queue: &str) -> String {
        format!(
            "{{\"now\": \"2026-01-01T00:{:02}:{:02}Z\", \"pool\": {{\"starting\": 0, \"idle\": 0, \"busy\": {n}, \
             \"draining\": 0}}, \"queue\": {queue}}}",
            secs / 60,
            secs % 60
        )
    }

    fn depth(visible: u32) -> String {
        format!("{{\"visible\": {visible}, \"in_flight\": 0, \"delayed\": 0}}")
    }

    #[test]
    fn stream_answers_each_line_and_carries_the_state() {
        let input = [line(0, 0, &depth(1)), String::new(), line(80, 0, &depth(1)), line(90, 1, "null")].join("\n");
        let (all_read, answers) = lines(true, &input);
        let said: Vec<_> =
            answers.iter().map(|answer| (answer["desired"].as_u64(), answer["reason"].as_str().unwrap())).collect();
        assert_eq!(said, [(Some(0), "wake_unconfirmed"), (Some(1), "wake"), (Some(1), "stale_metrics")]);
        assert!(all_read);
    }

    #[test]
    fn unreadable_line_is_answered_and_the_rest_goes_on() {
        let input = [line(0, 3, &depth(30)), "{\"now\": 1}".to_owned(), line(10, 3, &depth(30))].join("\n");
        let (all_read, answers) = lines(true, &input);
        assert!(!all_read);
        assert_eq!(answers.len(), 3);
        assert!(answers[1]["error"].as_str().unwrap().contains("`now`"));
        assert_eq!(answers[1].as_object().unwrap().len(), 1);
        assert_eq!(answers[2]["desired"], 3);
    }

    #[test]
    fn counter_that_is_no_number_holds_and_is_an_error() {
        let (all_read, answers) = lines(true, &line(0, 3, &depth(30).replace("30", "\"many\"")));
        assert!(!all_read);
        assert_eq!(answers[0]["desired"], 3);
        assert_eq!(answers[0]["reason"], "stale_metrics");
        assert!(answers[0]["error"].as_str().unwrap().contains("queue.visible"));
    }

    #[test]
    fn single_observation_may_span_lines() {
        let (all_read, answers) = lines(false, &line(0, 3, &depth(50)).replace(", ", ",\n"));
        assert!(all_read);
        assert_eq!(answers[0]["desired"], 5);
        assert_eq!(answers[0]["inputs"]["queue"]["visible"], 50);
    }

    #[test]
    fn nothing_at_all_is_an_error() {
        let (all_read, answers) = lines(false, "");
        assert!(!all_read);
        assert!(answers[0]["error"].as_str().unwrap().contains("not JSON"));
        assert_eq!(lines(true, ""), (true, Vec::new()));
    }
}
