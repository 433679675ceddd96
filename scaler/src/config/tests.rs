//! What is read from a configuration, and what is refused.

use super::*;
use crate::policy::Target;

const FULL: &str = r#"[database]
url = "postgres://penstock@localhost/warehouse"

[http]
listen = "127.0.0.1:9465"

[[pool]]
name = "importers"
queue_urls = ["https://sqs.eu-west-1.amazonaws.com/123456789012/imports"]
min = 0
max = 40
interval_secs = 10
drain_within = "15m"
# backlog_per_worker = 100
slots_per_worker = 4
start_up = "45s"
job = "2s"
initial_proven = 32
connection_reserve = 10
[pool.workers]
kind = "asg"
group = "penstock-importers"
"#;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "scaler.toml", |_| None)
}

/// Checks the message for one replacement in the full file.
fn check(from: &str, to: &str, expected: &[&str]) {
    let text = FULL.replacen(from, to, 1);
    assert_ne!(text, FULL, "{from} is not in the file");
    let error = parse(&text).expect_err(to).to_string();
    for part in expected {
        assert!(error.contains(part), "{to}: {error}");
    }
}

#[test]
fn file_of_the_contract_is_read() {
    let config = parse(FULL).unwrap();
    let pool = config.pool(None).unwrap();
    assert_eq!(pool.policy().target, Target::Deadline { drain_within_secs: 900.0 });
    assert_eq!(pool.policy().slots_per_worker, 4);
    assert_eq!(pool.check_runnable(), Ok(&WorkersKind::Asg { group: "penstock-importers".to_owned() }));
    assert_eq!(config.database.unwrap().place(), "localhost:5432");
}

#[test]
fn schedules_are_read_and_their_mistakes_named() {
    let with = |schedule: &str| parse(&format!("{FULL}\n[[pool.schedule]]\n{schedule}\n"));
    let settings = "cron = \"0 2 * * MON-FRI\"\ntime_zone = \"Europe/Berlin\"\nlasts = \"90m\"\nfloor = 8";
    let schedules = with(settings).unwrap().pools[0].policy().schedules;
    assert_eq!(schedules, [crate::policy::Schedule::new("0 2 * * MON-FRI", "Europe/Berlin", 5400.0, 8).unwrap()]);
    for (from, to, expected) in [
        ("0 2", "0 25", "scaler.toml:25: pool \"importers\": `cron`"),
        ("Berlin", "Nowhere", "scaler.toml:26: pool \"importers\": `time_zone`"),
        ("90m", "0s", "scaler.toml:27: "),
        ("= 8", "= 41", "scaler.toml:28: pool \"importers\": `floor` is 41, more than `max` (40)"),
        ("floor", "min", "scaler.toml:28: "),
    ] {
        let error = with(&settings.replace(from, to)).expect_err(to).to_string();
        assert!(error.contains(expected), "{to}: {error}");
    }
}

#[test]
fn little_is_enough() {
    let config = parse("[[pool]]\nname = \"a\"\nbacklog_per_worker = 5\n").unwrap();
    let pool = &config.pools[0];
    assert_eq!((pool.min, pool.max, pool.interval_secs, pool.initial_proven), (0, 40, 10, 32));
    assert_eq!(config.http.listen, "127.0.0.1:9465");
    assert!(pool.check_runnable().unwrap_err().to_string().contains("queue_urls"));
}

#[test]
fn mistakes_name_the_field_and_the_line() {
    check("min = 0", "min = 41", &["scaler.toml:10: ", "`min`", "41", "40"]);
    check("min = 0", "mins = 0", &["scaler.toml:10: ", "mins"]);
    check("max = 40", "max = 0", &["scaler.toml:11: ", "`max`"]);
    check("max = 40", "max = -1", &["scaler.toml:11: "]);
    check("\"15m\"", "\"soon\"", &["scaler.toml:13: ", "soon"]);
    check("\"15m\"", "\"0s\"", &["scaler.toml:13: ", "longer than 0"]);
    check("# backlog", "backlog", &["scaler.toml:14: ", "`backlog_per_worker`", "exactly one"]);
    check("drain_within = \"15m\"", "", &["scaler.toml:7: ", "`drain_within`", "backlog_per_worker"]);
    check("interval_secs = 10", "interval_secs = 0", &["scaler.toml:12: ", "`interval_secs`"]);
    check("https://sqs", "sqs", &["scaler.toml:9: ", "`queue_urls`"]);
    check("imports\"]", "imports.fifo\"]", &["scaler.toml:9: ", "FIFO"]);
    check("kind = \"asg\"", "kind = \"asgs\"", &["scaler.toml:21: ", "asgs"]);
    check("group =", "groups =", &["groups"]);
    check("url =", "uri =", &["scaler.toml:2: ", "uri"]);
}

#[test]
fn two_pools_need_two_names() {
    let text = format!("{FULL}\n[[pool]]\nname = \"importers\"\nbacklog_per_worker = 1\n");
    let error = parse(&text).unwrap_err().to_string();
    assert!(error.contains("scaler.toml:25: ") && error.contains("`name`"), "{error}");
    let text = text.replace("name = \"importers\"\nbacklog", "name = \"others\"\nbacklog");
    let config = parse(&text).unwrap();
    assert_eq!(config.pool(Some("others")).unwrap().backlog_per_worker, Some(1));
    assert!(config.pool(None).unwrap_err().to_string().contains("importers, others"));
    assert!(config.pool(Some("x")).unwrap_err().to_string().contains("\"x\""));
}

#[test]
fn processes_are_configured() {
    let text = FULL.replace(
        "kind = \"asg\"\ngroup = \"penstock-importers\"",
        "kind = \"processes\"\ncommand = [\"importer\", \"run\"]\nenv = { RUST_LOG = \"debug\" }",
    );
    let config = parse(&text).unwrap();
    let Ok(WorkersKind::Processes { command, env, .. }) = config.pools[0].check_runnable() else { panic!() };
    assert_eq!(command, &["importer", "run"]);
    assert_eq!(env["RUST_LOG"], "debug");
}

#[test]
fn containers_are_configured() {
    let with = |workers: &str| {
        let text = FULL.replace("kind = \"asg\"\ngroup = \"penstock-importers\"", workers);
        parse(&text).map(|mut config| config.pools.remove(0))
    };
    let ecs = with("kind = \"ecs\"\nservice = \"importers\"").unwrap();
    let expected = WorkersKind::Ecs { cluster: "default".to_owned(), service: "importers".to_owned() };
    assert_eq!(ecs.workers, Some(expected));
    let kubernetes = with("kind = \"kubernetes\"\ndeployment = \"importers\"").unwrap();
    let expected = WorkersKind::Kubernetes { namespace: None, deployment: "importers".to_owned() };
    assert_eq!(kubernetes.workers, Some(expected));
    for (pool, name, is_built_in) in
        [(ecs, "ecs", cfg!(feature = "ecs")), (kubernetes, "kubernetes", cfg!(feature = "kubernetes"))]
    {
        match pool.check_runnable() {
            Ok(_) => assert!(is_built_in),
            Err(error) => assert!(!is_built_in && error.to_string().contains(&format!("--features {name}"))),
        }
    }
    for (workers, expected) in [
        ("kind = \"ecs\"", "service"),
        ("kind = \"ecs\"\nservice = \"\"", "scaler.toml:22: pool \"importers\": `service`"),
        ("kind = \"ecs\"\nservice = \"a\"\ncluster = \"\"", "`cluster`"),
        ("kind = \"kubernetes\"", "deployment"),
        ("kind = \"kubernetes\"\ndeployment = \"\"", "`deployment`"),
        ("kind = \"kubernetes\"\ndeployment = \"a\"\nnamespace = \"\"", "`namespace`"),
        ("kind = \"kubernetes\"\nservice = \"a\"", "service"),
    ] {
        let error = with(workers).unwrap_err().to_string();
        assert!(error.contains(expected), "{workers}: {error}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = FULL
        .replace("min = 0", "mins = 0")
        .replace("interval_secs = 10", "interval_secs = 0")
        .replace("\"45s\"", "\"soon\"")
        .replace("group =", "groups =")
        .replace("url =", "uri =");
    let problems = parse(&text).unwrap_err().problems;
    let expected = [
        "scaler.toml:2: database.uri: unknown field `uri`",
        "scaler.toml:10: pool.mins: unknown field `mins`",
        "scaler.toml:12: pool \"importers\": `interval_secs` is 0",
        "scaler.toml:16: pool.start_up: \"soon\" is not a duration",
        "scaler.toml:20: pool.workers: unknown field `groups`",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn url_that_is_refused_is_a_mistake_in_the_configuration() {
    let config = parse(&FULL.replace("postgres://penstock", "mysql://u:hunter2")).unwrap();
    let error = config.check_database().unwrap_err().to_string();
    assert!(error.contains("must start with postgres://") && !error.contains("hunter2"), "{error}");
    assert_eq!(parse(FULL).unwrap().check_database(), Ok(()));
    // A URL in another's place may hold a password, too.
    let error = parse(&FULL.replace("https://sqs", "postgres://u:hunter2@sqs")).unwrap_err().to_string();
    assert!(error.contains("entry 1 is no queue URL") && !error.contains("hunter2"), "{error}");
}

#[test]
fn environment_overrides_the_database() {
    let text = "[[pool]]\nname = \"a\"\nbacklog_per_worker = 5\n";
    let with = |name: &'static str, value: &'static str| {
        let environment = move |variable: &str| (variable == name).then(|| value.to_owned());
        Config::parse(text, "scaler.toml", environment).unwrap()
    };
    assert_eq!(with("DATABASE_URL", "postgres://other/db").database.unwrap().place(), "other:5432");
    let error = with("DATABASE_URL_FILE", "/nonexistent/url").check_database().unwrap_err().to_string();
    assert!(error.contains("DATABASE_URL_FILE"), "{error}");
    assert_eq!(with("DATABASE_URL", " ").database, None);
}
