use super::*;

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, "importer.toml", |_| None)
}

/// Checks the problems of a text; an empty list means that it is fine.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let problems = parse(text).err().map(|error| error.problems).unwrap_or_default();
    assert_eq!(problems, expected, "{text}");
}

/// A dataset with some lines of its own, which start on line 5.
fn dataset(lines: &str) -> String {
    format!("[[dataset]]\nname = \"d\"\nmatch = \"s3://b/**\"\ntable = \"t\"\n{lines}")
}

const DESIGN: &str = r#"
[database]
url = "postgres://penstock@localhost/warehouse"
[queue]
url = "https://sqs.eu-west-1.amazonaws.com/123456789012/imports"
wait_secs = 20
visibility_timeout_secs = 60
[worker]
concurrency = 4
memory_mib = 128
drain_timeout_secs = 110
unrouted = "dead-letter"
skip = ["**/_SUCCESS", "**/_temporary/**", "**/.*", "**/*.crc", "**/*_$folder$", "**/"]
[limits]
row_mib = 16
depth = 64
expansion_ratio = 200
expansion_free_mib = 1024
[http]
listen = "127.0.0.1:9464"
[[dataset]]
name = "telemetry"
match = "s3://enriched/telemetry/dt={dt}/**"
format = "auto"
compression = "auto"
table = "public.telemetry"
mode = "upsert"
key = ["id"]
newer = "updated_at"
rename = { "userId" = "user_id" }
on_new_field = "ignore"
extras_column = "extra"
max_rejects = "1%"
on_delete = "keep"
[dataset.csv]
header = true
delimiter = ","
quote = '"'
null = []
encoding = "utf-8"
"#;

#[test]
fn the_documented_file_is_accepted_and_states_the_defaults() {
    let stated = parse(DESIGN).expect("the documented file is fine");
    let minimal = parse(
        r#"
        [database]
        url = "postgres://penstock@localhost/warehouse"
        [queue]
        url = "https://sqs.eu-west-1.amazonaws.com/123456789012/imports"
        [[dataset]]
        name = "telemetry"
        match = "s3://enriched/telemetry/dt={dt}/**"
        table = "public.telemetry"
        key = ["id"]
        newer = "updated_at"
        rename = { "userId" = "user_id" }
        extras_column = "extra"
        "#,
    )
    .expect("the minimal file is fine");
    assert_eq!(format!("{stated:?}"), format!("{minimal:?}"));
    assert_eq!(stated.datasets[0].max_rejects.to_string(), "1%");
}

#[test]
fn numbers_out_of_range_name_line_field_and_range() {
    for (text, expected) in [
        ("[queue]\nwait_secs = 21", "importer.toml:2: queue.wait_secs: 21 is not between 0 and 20"),
        (
            "[queue]\nvisibility_timeout_secs = 43201",
            "importer.toml:2: queue.visibility_timeout_secs: 43201 is not between 2 and 43200",
        ),
        (
            "[queue]\n\nvisibility_timeout_secs = 1",
            "importer.toml:3: queue.visibility_timeout_secs: 1 is not between 2 and 43200",
        ),
        ("[worker]\nconcurrency = 0", "importer.toml:2: worker.concurrency: 0 is not between 1 and 256"),
        ("worker = { concurrency = 0 }", "importer.toml:1: worker.concurrency: 0 is not between 1 and 256"),
        ("[limits]\ndepth = 0", "importer.toml:2: limits.depth: 0 is not between 1 and 1000"),
        ("[limits]\nrow_mib = 200", "importer.toml:2: limits.row_mib: must not exceed worker.memory_mib"),
    ] {
        check(text, &[expected]);
    }
    check(
        "[worker]\nmemory_mib = 1",
        &[
            "importer.toml:2: worker.memory_mib: 1 is not between 16 and 1048576",
            "importer.toml: limits.row_mib: must not exceed worker.memory_mib",
        ],
    );
}

#[test]
fn wrong_types_and_unknown_fields_name_line_and_field() {
    for (text, expected) in [
        ("[queue]\nwait_secs = \"x\"", "importer.toml:2: queue.wait_secs: invalid type: string \"x\", expected u32"),
        ("[queue]\nwait_secs = -1", "importer.toml:2: queue.wait_secs: invalid value: integer `-1`, expected u32"),
        (
            "[queue]\nwait_sec = 1",
            "importer.toml:2: queue.wait_sec: unknown field `wait_sec`, expected one of `name`, `url`, `wait_secs`, `visibility_timeout_secs`, `dead_letter_url`",
        ),
        (
            "[que]",
            "importer.toml:1: que: unknown field `que`, expected one of `database`, `queue`, `bucket`, `worker`, `instance`, `limits`, `http`, `dataset`",
        ),
        ("[[dataset]]\nname = \"d\"\nmatch = \"**\"", "importer.toml:1: dataset: missing field `table`"),
        (
            &dataset("mode = \"insert\"\n"),
            "importer.toml:5: dataset.mode: unknown variant `insert`, expected one of `upsert`, `replace`, `append`",
        ),
        (
            &dataset("key = [\"id\"]\nmax_rejects = \"101%\"\n"),
            "importer.toml:6: dataset.max_rejects: invalid value: string \"101%\", expected a number of rows (0 or more) or a percentage from \"0%\" to \"100%\"",
        ),
        ("[queue]\nwait_secs = ", "importer.toml:2: "),
    ] {
        let problems = parse(text).expect_err(text).problems;
        assert_eq!(problems.len(), 1, "{text}");
        assert!(problems[0].starts_with(expected), "{text}: {problems:?}");
    }
}

#[test]
fn all_mistakes_are_named_at_once() {
    let text = "[queue]\nwait_sec = 1\n[worker]\nconcurrency = 0\nmemory = 1\n[[dataset]]\nname = \"d\"\nmatch = 1\n\
                table = \"t\"\n[[dataset]]\nname = \"e\"\nmatch = \"**\"\ntable = \"t\"\nkey = 1\n";
    let problems = parse(text).expect_err("wrong").problems;
    let expected = [
        "importer.toml:2: queue.wait_sec: unknown field `wait_sec`",
        "importer.toml:4: worker.concurrency: 0 is not between 1 and 256",
        "importer.toml:5: worker.memory: unknown field `memory`",
        "importer.toml:6: dataset \"d\": key: is required",
        "importer.toml:8: dataset.match: invalid type: integer `1`, expected a string",
        "importer.toml:14: dataset.key: invalid type: integer `1`, expected a sequence",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem}");
    }
}

#[test]
fn datasets_that_make_no_sense_say_why() {
    for (lines, expected) in [
        ("", "importer.toml:1: dataset \"d\": key: is required for mode = \"upsert\": the columns that identify a row"),
        ("key = [\"a\", \"a\"]", "importer.toml:5: dataset \"d\": key: \"a\" is empty or named twice"),
        (
            "mode = \"replace\"\nnewer = \"at\"",
            "importer.toml:6: dataset \"d\": newer: is for mode = \"upsert\": no other mode compares rows",
        ),
        (
            "mode = \"append\"\non_new_field = \"extras\"",
            "importer.toml:1: dataset \"d\": extras_column: is required for on_new_field = \"extras\": the jsonb column that takes them",
        ),
        (
            "mode = \"append\"\nrename = { a = \"x\", b = \"x\" }",
            "importer.toml:6: dataset \"d\": rename: \"a\" and \"b\" both go to column \"x\"",
        ),
        (
            "mode = \"append\"\n[dataset.csv]\ndelimiter = \"€\"",
            "importer.toml:7: dataset \"d\": csv.delimiter: '€' is not a single byte that can stand within a line",
        ),
        (
            "mode = \"append\"\n[dataset.csv]\nquote = \",\"",
            "importer.toml:7: dataset \"d\": csv.quote: must differ from csv.delimiter",
        ),
        (
            "mode = \"append\"\nwhere = \"true\"\nrole = \" \"",
            "importer.toml:7: dataset \"d\": role: must be a role's name",
        ),
        (
            "mode = \"append\"\nrole = \"r\"",
            "importer.toml:6: dataset \"d\": role: is for the SQL of a transform (join, where, set, input, awaits), and there is none",
        ),
        (
            "mode = \"append\"\n[dataset.csv]\nencoding = \"utf-9\"",
            "importer.toml:7: dataset \"d\": csv.encoding: \"utf-9\" is not a WHATWG encoding label, like \"utf-8\" or \"windows-1252\"",
        ),
    ] {
        check(&dataset(lines), &[expected]);
    }
    check(&dataset("mode = \"replace\"\n"), &[]);
    let two = format!("{}{}", dataset("mode = \"append\"\n"), dataset("mode = \"append\"\n"));
    check(&two, &["importer.toml:7: dataset \"d\": name: is used by another dataset"]);
}

#[test]
fn bad_globs_are_found_where_they_stand() {
    check(
        "[[dataset]]\nname = \"d\"\ntable = \"t\"\nmode = \"append\"\nmatch = \"s3://b/{\"",
        &["importer.toml:5: dataset \"d\": match: bad pattern \"s3://b/{\": { without }; write \\{ for the character"],
    );
    check(
        "[worker]\nskip = [\n  \"a\",\n  \"{b}\",\n]",
        &["importer.toml:4: worker.skip: bad pattern \"{b}\": a skip pattern captures nothing; use * or \\{"],
    );
}

#[test]
fn examples_of_places_and_notations_are_shown() {
    let dataset =
        |lines: &str| format!("[[dataset]]\nname = \"d\"\nmatch = \"**\"\ntable = \"t\"\nkey = [\"id\"]\n{lines}");
    let is_none = "is no JSON Pointer, like /Records or /user/name";
    check(&dataset("rows = \"Records\""), &[&format!("importer.toml:6: dataset.rows: \"Records\" {is_none}")]);
    check(&dataset("fields = { v = \"v\" }"), &[&format!("importer.toml:6: dataset.fields: v: \"v\" {is_none}")]);
    check(
        &dataset("[dataset.types]\nat = \"epoc_ms\""),
        &[
            "importer.toml:6: dataset.types: at: \"epoc_ms\" is neither a format like %d.%m.%Y nor one of epoch_s, epoch_ms, \
           epoch_us, epoch_ns",
        ],
    );
}

#[test]
fn fifo_queues_and_urls_that_are_none_are_refused() {
    check(
        "[queue]\nurl = \"https://sqs/1/q.fifo\"",
        &["importer.toml:2: queue.url: FIFO queues are refused; use a standard queue"],
    );
    let shape = "must be the queue's URL, like https://sqs.eu-west-1.amazonaws.com/123456789012/imports";
    check("[queue]\nurl = \"imports\"", &[&format!("importer.toml:2: queue.url: {shape}")]);
    check("[queue]\ndead_letter_url = \"https://sqs\"", &[&format!("importer.toml:2: queue.dead_letter_url: {shape}")]);
    check(
        "[http]\nlisten = \"9464\"",
        &["importer.toml:2: http.listen: must be host:port, like 127.0.0.1:9464, or empty to turn it off"],
    );
    check("[http]\nlisten = \"\"", &[]);
}

#[test]
fn the_environment_overrides_the_file_and_is_named_in_errors() {
    let environment = |name: &str| match name {
        "DATABASE_URL" => Some("postgres://other/db".to_owned()),
        "DATABASE_URL_FILE" => Some("/run/secrets/url\n".to_owned()),
        "QUEUE_URL" => Some("http://127.0.0.1:1/1/q".to_owned()),
        _ => None,
    };
    let config = Config::parse(DESIGN, "importer.toml", environment).expect("fine");
    assert_eq!(config.database.url.expect("set").expose(), "postgres://other/db");
    assert_eq!(config.database.url_file, Some("/run/secrets/url".into()));
    assert_eq!(config.queue.url.as_deref(), Some("http://127.0.0.1:1/1/q"));

    let error = Config::parse(DESIGN, "importer.toml", |name| (name == "QUEUE_URL").then(|| "http://h/q.fifo".into()));
    assert_eq!(error.expect_err("refused").problems, ["QUEUE_URL: FIFO queues are refused; use a standard queue"]);

    let config = Config::parse(DESIGN, "importer.toml", |_| Some(" ".into())).expect("empty variables count as unset");
    assert!(config.queue.url.expect("set").contains("amazonaws"));
}

#[test]
fn secrets_are_neither_printed_nor_quoted_in_errors() {
    let config = parse("[database]\nurl = \"postgres://u:hunter2@localhost/db\"").expect("fine");
    assert!(format!("{config:?}").contains("[redacted]"));
    assert!(!format!("{config:?}").contains("hunter2"));
    for text in [
        "[database]\nurl = \"postgres://u:hunter2@localhost:port/db\"",
        "[database]\nurl = \"postgres://u:hunter2@localhost/db?pasword=hunter2\"",
        "[database]\nurl = \"postgres://u:hunter2@localhost/db",
        "[database]\nurl = \"mysql://u:hunter2@localhost/db\"",
        "[database]\nurl = [\"hunter2\"]",
        "[database]\nurl = \"postgres://u:hunter2@localhost/db?sslmode=hunter2\"",
    ] {
        let error = parse(text).expect_err(text);
        assert!(!error.to_string().contains("hunter2"), "{error}");
        assert!(error.to_string().starts_with("importer.toml:2: "), "{error}");
    }
}

#[test]
fn what_a_command_needs_is_asked_for_by_name() {
    let config = parse("").expect("an empty file is fine");
    let all = Needs { database: true, queue: true, datasets: true };
    let error = config.require(all, "importer.toml").expect_err("all is missing");
    let problems = error.problems.join("\n");
    for expected in ["database.url", "DATABASE_URL_FILE", "queue.url", "QUEUE_URL", "[[dataset]]"] {
        assert!(problems.contains(expected), "{expected}: {problems}");
    }
    assert_eq!(config.require(Needs::default(), "importer.toml"), Ok(()));
    assert_eq!(parse(DESIGN).expect("fine").require(all, "importer.toml"), Ok(()));
}

#[test]
fn read_options_carry_the_dataset_and_the_limits() {
    let text = dataset("mode = \"append\"\nformat = \"csv\"\n[dataset.csv]\ndelimiter = \"\\t\"\nnull = [\"NA\"]\n");
    let config = parse(&text).expect("fine");
    let options = config.datasets[0].read_options(&config.limits, 7);
    assert_eq!((options.csv.delimiter, options.csv.null), (b'\t', vec!["NA".to_owned()]));
    assert_eq!((options.limits.row_bytes, options.limits.buffer_bytes), (16 << 20, 7));
}

#[test]
fn a_tag_is_what_s3_takes_and_has_a_default() {
    let tag = |lines: &str| format!("{}key = [\"id\"]\n{lines}", dataset(""));
    let config = parse(&tag("after_load = \"tag\"\n")).expect("fine");
    let loaded = config.datasets[0].loaded_tag().expect("a tag");
    assert_eq!((loaded.key.as_str(), loaded.value.as_str()), ("penstock", "loaded"));
    assert_eq!(parse(&tag("")).expect("fine").datasets[0].loaded_tag(), None);
    check(&tag("after_load = \"tag\"\ntag = { key = \"Zustand äöü/1\", value = \"\" }\n"), &[]);
    check(&tag("tag = { key = \"a\" }\n"), &["importer.toml:6: dataset \"d\": tag: is for after_load = \"tag\""]);
    for (written, expected) in [
        ("key = \"\"", "tag.key: must be 1 to 128 letters, digits, spaces and + - = . _ : / @"),
        ("key = \"a*\"", "tag.key: must be 1 to 128 letters, digits, spaces and + - = . _ : / @"),
        ("key = \"AWS:x\"", "tag.key: must not begin with aws:, which is AWS's own"),
        ("value = \"a\\nb\"", "tag.value: must be at most 256 letters, digits, spaces and + - = . _ : / @"),
    ] {
        let problems =
            parse(&tag(&format!("after_load = \"tag\"\ntag = {{ {written} }}\n"))).expect_err(written).problems;
        assert!(problems.len() == 1 && problems[0].ends_with(expected), "{problems:?}");
    }
}
