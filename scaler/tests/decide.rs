//! `scaler decide` and `scaler simulate` from outside: what a script sees.

use serde_json::Value;
use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

const CONFIG: &str = r#"
[[pool]]
name = "importers"
queue_urls = ["https://sqs.eu-west-1.amazonaws.com/123456789012/imports"]
max = 40
drain_within = "15m"
slots_per_worker = 4
[pool.workers]
kind = "dry_run"
"#;

const LINE: &str = r#"{"now": "2026-01-01T00:00:00Z", "pool": {"starting": 0, "idle": 0, "busy": 3, "draining": 0}, "queue": {"visible": 12000, "in_flight": 30, "delayed": 0, "delayed_due": 0, "oldest_age_secs": 12.5, "oldest_receive_count": 1}, "completions": [{"ended_at": "2026-01-01T00:00:00Z", "duration_secs": 0.8, "ok": true}], "receives": 14, "last_worker_empty_polls": 0, "sink": {"healthy": true}}"#;

/// A directory of its own with a `scaler.toml`.
struct Place(PathBuf);

impl Place {
    fn new(name: &str, config: &str) -> Self {
        let path = std::env::temp_dir().join(format!("scaler-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("scaler.toml"), config).unwrap();
        Self(path)
    }

    fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(env!("CARGO_BIN_EXE_scaler"))
            .args(args)
            .current_dir(&self.0)
            .env_remove("SCALER_CONFIG")
            .env_remove("DATABASE_URL")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A program that refuses its arguments does not read its input.
        drop(child.stdin.take().unwrap().write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn answers(output: &Output) -> Vec<Value> {
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn decision_has_the_parts_of_the_contract() {
    let place = Place::new("parts", CONFIG);
    let output = place.run(&["decide"], LINE);
    assert_eq!(output.status.code(), Some(0));
    let answer = &answers(&output)[0];
    assert!(answer["desired"].as_u64().unwrap() > 3);
    assert_eq!(answer["reason"], "deadline");
    assert!(answer["explain"].as_str().unwrap().contains("12000 visible"));
    assert_eq!(answer["inputs"]["queue"]["visible"], 12000);
    assert_eq!(answer["inputs"]["completed"], 1);
}

#[test]
fn unreadable_line_makes_the_exit_status_2_at_the_end() {
    let place = Place::new("unreadable", CONFIG);
    let input = format!("{LINE}\n{}\n{LINE}\n", LINE.replace("\"busy\": 3", "\"busy\": \"x\""));
    let output = place.run(&["decide", "--stream", "--pool", "importers"], &input);
    assert_eq!(output.status.code(), Some(2));
    let answers = answers(&output);
    assert_eq!(answers.len(), 3);
    assert!(answers[1]["error"].as_str().unwrap().contains("pool.busy"));
    assert!(answers[2]["desired"].is_u64());
}

#[test]
fn wrong_config_exits_2_and_names_the_line() {
    for (from, to, expected) in [
        ("max = 40", "max = 0", "scaler.toml:5: "),
        ("drain_within", "drain_inside", "scaler.toml:6: "),
        ("\"15m\"", "\"x\"", "scaler.toml:6: "),
    ] {
        let place = Place::new("config", &CONFIG.replace(from, to));
        let output = place.run(&["decide"], LINE);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    let place = Place::new("usage", CONFIG);
    assert_eq!(place.run(&["decide", "--pool", "others"], LINE).status.code(), Some(2));
    assert_eq!(place.run(&["decide", "--config", "none.toml"], LINE).status.code(), Some(2));
    assert_eq!(place.run(&["decide", "--streams"], LINE).status.code(), Some(2));
}

#[test]
fn simulation_of_a_workload_file_writes_its_chart() {
    let place = Place::new("simulate", CONFIG);
    let workload = "name = \"evening\"\nhorizon = \"20m\"\n[[send]]\nat = \"1m\"\nlasts = \"10s\"\nmessages = 500\n";
    std::fs::write(place.0.join("evening.toml"), workload).unwrap();
    let args = ["simulate", "--workload", "evening.toml", "--seed", "7", "--plot", "evening.svg"];
    let output = place.run(&args, "");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    for rule in ["deadline", "backlog", "keda", "aws"] {
        assert!(text.contains(rule), "{text}");
    }
    assert!(std::fs::read_to_string(place.0.join("evening.svg")).unwrap().starts_with("<svg"));
    assert_eq!(place.run(&args, "").stdout, output.stdout, "same seed, same output");
}
