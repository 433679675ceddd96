use super::*;
use clap::CommandFactory;

/// Returns the exit status and what was said of a command line.
fn parse(line: &str) -> Result<Cli, (i32, String)> {
    let words = std::iter::once("importer").chain(line.split_whitespace());
    Cli::try_parse_from(words).map_err(|error| (error.exit_code(), error.to_string()))
}

#[test]
fn the_parser_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_documented_command_line_is_understood() {
    for line in [
        "run",
        "run --until-empty --concurrency 8",
        "load s3://b/p /tmp/*.csv --dataset d --dry-run",
        "describe /tmp/x.csv",
        "describe s3://b/k --table --name events --rows 10",
        "describe /tmp/x.csv --dataset",
        "replay --dataset d --prefix s3://b/p --state failed --since 2026-01-01 --until 2h --force --rate 50/s",
        "replay --as-recorded --speed 2.5",
        "redrive",
        "redrive --reason corrupt",
        "reconcile --prefix s3://b/p --enqueue",
        "status",
        "status s3://b/k --json",
        "status --state failed --dataset d",
        "rejects s3://b/k --json",
        "rejects --replay",
        "check --queue slow",
        "due",
        "migrate --forget old --forget older",
        "run --queue slow",
        "redrive --queue slow",
        "migrate --config /etc/importer.toml --log-format json",
        "--config /etc/importer.toml --log-format text migrate",
        "prune --older-than 90d",
        "completions fish",
        "man /tmp/man",
    ] {
        parse(line).expect(line);
    }
}

#[test]
fn usage_errors_exit_2_and_name_the_flag() {
    for (line, named) in [
        ("", "Usage"),
        ("fly", "fly"),
        ("run --concurrency 0", "--concurrency"),
        ("run --fast", "--fast"),
        ("load", "<URI>"),
        ("replay", "--prefix"),
        ("replay --force", "--prefix"),
        ("replay --dataset d --as-recorded --rate 1/s", "--rate"),
        ("replay --dataset d --as-recorded --speed=-1", "--speed"),
        ("replay --prefix b/p", "--prefix"),
        ("replay --rate 0/s", "--rate"),
        ("replay --speed 2", "--as-recorded"),
        ("replay --since yesterday", "--since"),
        ("replay --state lost", "--state"),
        ("describe", "<FILE>"),
        ("describe x --table --dataset", "--dataset"),
        ("describe x --name a.b", "--name"),
        ("describe x --rows 0", "--rows"),
        ("reconcile", "--prefix"),
        ("reconcile --prefix b/p", "--prefix"),
        ("status s3://b", "OBJECT"),
        ("status s3://b/k --state failed", "--state"),
        ("prune --older-than 29d", "--older-than"),
        ("migrate --log-format xml", "--log-format"),
        ("completions tcsh", "<SHELL>"),
        ("man", "<DIR>"),
    ] {
        let (exit, said) = parse(line).expect_err(line);
        assert_eq!(exit, 2, "{line}");
        assert!(said.contains(named), "{line}: {said}");
    }
}

#[test]
fn objects_are_named_by_address_or_path_and_not_decoded() {
    for (text, bucket, key) in
        [("s3://b/a+b%20c", "b", "a+b%20c"), ("/tmp/x.csv", "file", "/tmp/x.csv"), ("file:///tmp/x", "file", "/tmp/x")]
    {
        let name = object_name(text).expect(text);
        assert_eq!((name.bucket.as_str(), name.key.as_str()), (bucket, key));
    }
}

#[test]
fn rates_are_per_second_minute_or_hour() {
    for (text, per_second) in [("50/s", 50.0), ("50", 50.0), ("30/m", 0.5), ("36/h", 0.01)] {
        assert!((rate(text).expect(text) - per_second).abs() < 1e-9, "{text}");
    }
}

#[test]
fn only_what_talks_to_a_queue_needs_one() {
    for (line, queue) in [("run", true), ("load x", false), ("status", false), ("redrive", true), ("migrate", false)] {
        assert_eq!(parse(line).expect(line).command.needs().queue, queue, "{line}");
    }
}
