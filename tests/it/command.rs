//! Rows through a program on their way into the table.

use crate::{
    desk::Desk,
    dry_run,
    world::{LIMIT, World, pairs},
};
use anyhow::Result;
use penstock_tests::{aws::Options, wait};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, body text, card text)";

const COUNTS: &str = "SELECT state || coalesce('(' || reason || ')', ''), rows_read, rows_added, rows_written, \
                      rows_merged, rows_filtered, rows_rejected FROM penstock.object_status ORDER BY id";

/// A dataset whose rows go through a program in Python, which gets each row as `row` and prints answers.
fn python(body: &str, settings: &str) -> String {
    let program =
        format!("import json, sys, os, time\nfor line in sys.stdin:\n    row = json.loads(line)\n    {body}\n");
    format!(
        "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\ncommand = [\"python3\", \"-c\", '''{program}''']\n{settings}"
    )
}

/// Returns whether a process of this name runs.
fn runs(marker: &str) -> Result<bool> {
    let found = std::process::Command::new("pgrep").args(["-f", &format!("^{marker}")]).output()?;
    Ok(found.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_adds_drops_and_refuses_rows_of_any_format() -> Result<()> {
    let body = r#"answer = {"penstock_row": row["penstock_row"]}
    if row["body"] == "drop": answer["penstock_filtered"] = True
    elif row["body"] == "bad": answer["penstock_error"] = "no card in it"
    else: answer |= {"id": row["id"], "body": row["body"], "card": row["body"][4:8]}
    print(json.dumps(answer))"#;
    let csv = "id,body\n1,pay 4111 now\n2,drop\n3,bad\n4,\"pay \n4112\"\nx,pay 4113\n";
    let json = "{\"id\":1,\"body\":\"pay 4111 now\"}\n{\"id\":2,\"body\":\"drop\"}\n{\"id\":3,\"body\":\"bad\"}\n\
                {\"id\":4,\"body\":\"pay \\n4112\"}\n{\"id\":\"x\",\"body\":\"pay 4113\"}\n";
    for (name, content) in [("a.csv", csv), ("a.json", json)] {
        let desk = Desk::new(TABLE, &python(body, "")).await?;
        assert_eq!(desk.load(name, content).await?, 0);
        let rows = desk.database.rows("SELECT id, card, body FROM t ORDER BY id").await?;
        assert_eq!(rows, ["1 | 4111 | pay 4111 now", "4 | \n411 | pay \n4112"], "{name}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 5 | 0 | 2 | 0 | 1 | 2"], "{name}");
        assert_eq!(desk.rejects().await?, ["3 command", "5 type id"]);
        let message = "SELECT message FROM penstock.rejects WHERE class = 'command'";
        assert_eq!(desk.database.value(message).await?, "no card in it");
        // The program is asked again, and says what it said.
        let said = desk.succeed(&["rejects", "--replay"]).await?;
        assert!(said.contains("2 still refused: row 3, 5\n0 rejects resolved, 2 left"), "{said}");
        assert_eq!(desk.rejects().await?, ["3 command", "5 type id"]);
        let mended = body.replace("if row[\"body\"] == \"drop\"", "if row[\"id\"] == \"x\"");
        let mended = mended.replace("elif row[\"body\"] == \"bad\"", "elif False");
        desk.configure("**", &python(&mended, ""))?;
        let said = desk.succeed(&["rejects", "--replay"]).await?;
        assert!(said.contains("2 rejects resolved, 0 left"), "{said}");
        assert_eq!(desk.database.value("SELECT string_agg(id::text, ' ' ORDER BY id) FROM t").await?, "1 3 4");
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 5 | 0 | 3 | 0 | 2 | 0"], "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_one_of_whose_answers_is_refused_is_one_reject_whatever_refuses_it() -> Result<()> {
    const TABLES: &str = "CREATE TABLE t (id bigint, line int, q int CONSTRAINT c CHECK (q <> 5), PRIMARY KEY (id, line)); \
         CREATE TABLE divisor (d int); INSERT INTO divisor VALUES (10)";
    const SET: &str = "set = { q = \"input.q + 0 * (10 / (input.q - (SELECT d FROM public.divisor)))\" }";
    let program = |line: &str| {
        let body = format!(
            r#"for place, part in enumerate(row["q"].split()):
        print(json.dumps({{"penstock_row": row["penstock_row"], "id": row["id"], "line": {line}, "q": int(part)}}))"#
        );
        python(&body, "").replace("[\"id\"]\nmax", "[\"id\", \"line\"]\nfan_out = true\nmax")
    };
    let strict = program("\"x\" if part == \"0\" else place");
    let file = "id,q\n1,1 2 3\n2,4 5 6\n3,7 10 8\n4,9 0 9 0\n";
    for mode in ["upsert", "append"] {
        let settings = format!("mode = \"{mode}\"\n{SET}");
        let settings = if mode == "append" { settings.clone() } else { SET.to_owned() };
        let keyed = |dataset: &str| match mode {
            "append" => dataset.replace("key = [\"id\", \"line\"]\n", ""),
            _ => dataset.to_owned(),
        };
        let desk = Desk::new(TABLES, &keyed(&format!("{strict}{settings}"))).await?;
        assert_eq!(desk.load("k.csv", file).await?, 0);
        assert_eq!(desk.rejects().await?, ["2 check", "3 type", "4 type line"], "{mode}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 4 | 2 | 3 | 0 | 0 | 3"], "{mode}");
        assert_eq!(desk.database.value("SELECT string_agg(q::text, ' ' ORDER BY id, line) FROM t").await?, "1 2 3");
        let kept = "SELECT convert_from(payload, 'UTF8') FROM penstock.rejects ORDER BY row_number";
        let given =
            ["{\"id\":\"2\",\"q\":\"4 5 6\"}", "{\"id\":\"3\",\"q\":\"7 10 8\"}", "{\"id\":\"4\",\"q\":\"9 0 9 0\"}"];
        assert_eq!(desk.database.rows(kept).await?, given, "{mode}");
        desk.database.execute("ALTER TABLE t DROP CONSTRAINT c; UPDATE divisor SET d = 1000").await?;
        let said = desk.succeed(&["rejects", "--replay"]).await?;
        assert!(said.contains("2 resolved (6 written, 0 merged); 1 still refused: row 4"), "{said}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 4 | 6 | 9 | 0 | 0 | 1"], "{mode}");
        desk.configure("**", &keyed(&format!("{}{settings}", program("place"))))?;
        desk.succeed(&["rejects", "--replay"]).await?;
        let rows = "1 2 3 4 5 6 7 10 8 9 0 9 0";
        assert_eq!(desk.database.value("SELECT string_agg(q::text, ' ' ORDER BY id, line) FROM t").await?, rows);
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 4 | 9 | 13 | 0 | 0 | 0"], "{mode}");
        assert!(desk.rejects().await?.is_empty());
    }
    // Where nothing stands between the program and the table, and a limit counts rows, not answers.
    let desk = Desk::new(TABLES, &strict.replace("max_rejects = 5", "max_rejects = 2")).await?;
    assert_eq!(desk.load("k.csv", file).await?, 0);
    assert_eq!(desk.rejects().await?, ["2 check", "4 type line"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 4 | 4 | 6 | 0 | 0 | 2"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_the_program_never_saw_goes_through_it_when_it_is_replayed() -> Result<()> {
    let dataset = python(r#"print(json.dumps(row | {"card": "given"}))"#, "");
    let json = "{\"id\":1,\"body\":\"a\"}\n{\"id\":2,\"body\":{\"a\":{\"b\":1}}}\n";
    let desk = Desk::new(TABLE, &format!("{dataset}\n[limits]\ndepth = 2")).await?;
    assert_eq!(desk.load("k.json", json).await?, 0);
    assert_eq!(desk.rejects().await?, ["2 depth"]);
    desk.configure("**", &dataset)?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.database.rows("SELECT id, card FROM t ORDER BY id").await?, ["1 | given", "2 | given"]);
    // A record of a CSV file stays one.
    let desk = Desk::new(TABLE, &dataset).await?;
    assert_eq!(desk.load("k.csv", "id,body\n1,a\n2\n3,c\n").await?, 0);
    assert_eq!(desk.database.value("SELECT string_agg(row_number::text, ' ') FROM penstock.rejects").await?, "2");
    let mend = "UPDATE penstock.reject SET payload = '2,b', payload_length = 3";
    desk.database.execute(mend).await?;
    desk.succeed(&["rejects", "--replay"]).await?;
    let rows = "SELECT id, body, card FROM t ORDER BY id";
    assert_eq!(desk.database.rows(rows).await?, ["1 | a | given", "2 | b | given", "3 | c | given"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_is_tried_and_tested_and_checked_as_it_would_be_run() -> Result<()> {
    let body = r#"answer = {"penstock_row": row["penstock_row"]}
    if row["text"] == "drop": answer["penstock_filtered"] = True
    elif row["text"] == "bad": answer["penstock_error"] = "no card in it"
    else: answer |= {"id": row["id"], "body": row["text"], "extra": 1}
    print(json.dumps(answer))"#;
    let test = "[[dataset.test]]\nname = \"dropped\"\ninput = { id = 1, text = \"drop\" }\nexpect = \"filtered\"\n\
                [[dataset.test]]\nname = \"kept\"\ninput = { id = 1, text = \"a\" }\nexpect = { id = 1, body = \"a\" }";
    let desk = Desk::new(TABLE, &python(body, test)).await?;
    let file = desk.write("k.csv", "id,text\n1,a\n2,drop\n3,bad\n4,b\n5,c\n")?;
    let shown = desk.succeed(&["try", "d", &file, "--rows", "4"]).await?;
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(
        lines,
        [
            "row 1: {\"body\":\"a\",\"id\":1}",
            "row 2: filtered by command",
            "row 3: rejected, class command: no card in it",
            "row 4: {\"body\":\"b\",\"id\":4}",
            "4 rows: 2 written, 1 filtered, 1 rejected; rolled back",
        ]
    );
    desk.succeed(&["test"]).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_may_come_in_any_order_and_a_row_may_become_several() -> Result<()> {
    let program = r#"import json, sys
rows = [json.loads(line) for line in sys.stdin]
for row in reversed(rows):
    for part in row["body"].split():
        print(json.dumps({"penstock_row": row["penstock_row"], "id": int(part), "body": "of " + row["id"]}))
"#;
    let dataset =
        format!("table = \"t\"\nkey = [\"id\"]\nfan_out = true\ncommand = [\"python3\", \"-c\", '''{program}''']");
    let desk = Desk::new(TABLE, &dataset).await?;
    assert_eq!(desk.load("a.csv", "id,body\na,1 2 3\nb,4\nc,5 6\n").await?, 0);
    let rows = "SELECT string_agg(id || ' ' || body, ', ' ORDER BY id) FROM t";
    assert_eq!(desk.database.value(rows).await?, "1 of a, 2 of a, 3 of a, 4 of b, 5 of c, 6 of c");
    assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 3 | 3 | 6 | 0 | 0 | 0"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn output_that_is_not_whole_never_counts() -> Result<()> {
    let answer = r#"print(json.dumps({"penstock_row": row["penstock_row"], "id": row["id"]}))"#;
    for (body, expected) in [
        (format!("if row['id'] != '3': {answer}"), "did not answer row 3"),
        (format!("{answer}; {answer}"), "answered row 1 twice"),
        (answer.replace("row[\"penstock_row\"]", "90000"), "answered row 90000, which it was not given"),
        ("print('no JSON')".into(), "an answer that is not a JSON object with penstock_row"),
        (format!("{answer}; sys.stdout.flush(); sys.exit(0)"), "ended before it had read all rows"),
        (format!("{answer}; sys.stderr.write('SECRET'); sys.exit(3)"), "ended with status 3: SECRET"),
        (format!("{answer}; sys.stdout.flush(); os.kill(os.getpid(), 11)"), "ended by signal 11"),
        ("time.sleep(600)".into(), "neither read nor wrote a byte for 2 s"),
    ] {
        let notice = "[[notify]]\nname = \"n\"\nto = \"arn:aws:sns:eu-west-1:123456789012:n\"\non = [\"failed\"]";
        let idle_timeout = if body.contains("sleep") { "2s" } else { "60s" };
        let desk = Desk::new(TABLE, &python(&body, &format!("idle_timeout = \"{idle_timeout}\"\n{notice}"))).await?;
        // More than a pipe holds.
        let file: String = (1..=5000).map(|id| format!("{id},{}\n", "x".repeat(100))).collect();
        let file = desk.write("a.csv", format!("id,body\n{file}"))?;
        let ended = desk.run(&["load", &file]).await?;
        assert_ne!(ended.status.code(), Some(0), "{expected}");
        let error = "SELECT state || ' ' || reason || ' ' || error FROM penstock.object_status";
        let error = desk.database.value(error).await?;
        assert!(error.starts_with("failed command the command ") && error.contains(expected), "{expected}: {error}");
        assert!(!(ended.stdout + &ended.stderr).contains("SECRET"), "standard error is in the ledger alone");
        let told = "SELECT body ->> 'error' FROM penstock.due_item";
        let told = desk.database.value(told).await?;
        assert!(told.starts_with("the command ") && !told.contains("SECRET"), "{told}");
        assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "0", "{expected}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_refused_or_filtered_gets_no_other_answer() -> Result<()> {
    let answer = r#"print(json.dumps({"penstock_row": row["penstock_row"], "id": row["id"]}))"#;
    for other in [r#""penstock_error": "x""#, r#""penstock_filtered": true"#] {
        let closing = format!(r#"print('{{"penstock_row": %d, {other}}}' % row["penstock_row"])"#);
        for body in [format!("{answer}; {closing}"), format!("{closing}; {answer}")] {
            let desk = Desk::new(TABLE, &python(&body, "fan_out = true")).await?;
            assert_ne!(desk.load("a.csv", "id\n1\n").await?, 0, "{body}");
            let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
            assert!(error.contains("answered row 1, and filtered or refused it"), "{body}: {error}");
        }
    }
    let both = python(answer, "fan_out = true\njoin = \"JOIN public.t AS other ON true\"");
    let refused = Desk::new(TABLE, &both).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
    assert!(refused.contains("is for the join or for the command"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_program_leaves_behind_ends_with_it() -> Result<()> {
    let marker = format!("penstock-left-behind-{}", std::process::id());
    let command = format!("command = [\"bash\", \"-c\", '''(exec -a {marker} sleep 600) & exit 0''']");
    let desk = Desk::new(TABLE, &format!("table = \"t\"\nkey = [\"id\"]\n{command}")).await?;
    assert_ne!(desk.load("a.csv", "id\n1\n").await?, 0);
    assert!(!runs(&marker)?);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_the_programs_group_and_has_its_input_holds_nobody_up() -> Result<()> {
    let marker = format!("penstock-outside-{}", std::process::id());
    let command = format!(
        "idle_timeout = \"2s\"\ncommand = [\"bash\", \"-c\", \
         '''exec 3<&0; setsid bash -c \"exec -a {marker} sleep 60\" <&3 >/dev/null 2>&1 & sleep 0.5''']"
    );
    let desk = Desk::new(TABLE, &format!("table = \"t\"\nkey = [\"id\"]\n{command}")).await?;
    // More than a pipe holds.
    let file: String = (1..=5000).map(|id| format!("{id},{}\n", "x".repeat(100))).collect();
    assert_ne!(desk.load("a.csv", format!("id,body\n{file}")).await?, 0);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    assert!(error.contains("ended and left its input open"), "{error}");
    let ended = std::process::Command::new("pkill").args(["-f", &format!("^{marker}")]).status()?;
    assert!(ended.success(), "it was there");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_a_program_that_never_stops_talking() -> Result<()> {
    let dataset = "[worker]\ndrain_timeout_secs = 1\n[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\n\
                   key = [\"id\"]\ninput_format = \"bytes\"\ncommand = [\"bash\", \"-c\", 'exec -a penstock-talker yes \"\"']\n";
    let marker = format!("penstock-talker-{}", std::process::id());
    let world = World::new(Options::default(), TABLE, &dataset.replace("penstock-talker", &marker)).await?;
    world.pipeline.put("a.json", pairs(&[(1, "x")])).await?;
    let worker = world.worker().expect_line("drain timeout").start()?;
    wait::until("the program", LIMIT, || async { Ok(runs(&marker)?.then_some(())) }).await?;
    worker.terminate(LIMIT).await?;
    wait::until("its end", Duration::from_secs(5), || async { Ok((!runs(&marker)?).then_some(())) }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_reads_bytes_and_knows_its_object_and_no_more_of_the_environment() -> Result<()> {
    let program = "read -r first; echo \"{\\\"id\\\": $first, \\\"body\\\": \\\"$PENSTOCK_DATASET $PENSTOCK_KEY \
                   $GIVEN$HIDDEN$DATABASE_URL\\\"}\"";
    let dataset = format!(
        "table = \"t\"\nkey = [\"id\"]\ninput_format = \"bytes\"\ncommand = [\"sh\", \"-c\", '''{program}''']\n\
         command_env = [\"GIVEN\"]"
    );
    let desk = Desk::new(TABLE, &dataset).await?;
    // It need not read on.
    let file = desk.write("a.own", format!("17\n{}", "y\n".repeat(1 << 20)))?;
    let ended = desk.importer(&["load", &file]).env("GIVEN", "given").env("HIDDEN", "hidden").run(LIMIT).await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(desk.database.rows("SELECT id, body FROM t").await?, [format!("17 | d {file} given")]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_typed_formats_reach_a_program_as_lines_do() -> Result<()> {
    let body = r#"answer = {"penstock_row": row["penstock_row"]}
    print(json.dumps(answer | {"id": row["id"], "body": json.dumps(row), "card": row["value"]}))"#;
    for (name, content) in [("k.avro", dry_run::avro()?), ("k.parquet", dry_run::parquet()?)] {
        let desk = Desk::new(TABLE, &python(body, "")).await?;
        assert_eq!(desk.load(name, content).await?, 0, "{name}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["imported | 3 | 0 | 3 | 0 | 0 | 0"], "{name}");
        // Numbers are numbers, and texts are texts.
        let given = "SELECT id, body::jsonb - 'penstock_object', card FROM t ORDER BY id";
        let expected = [("1", "1"), ("2", "x"), ("3", "3")].map(|(id, value)| {
            format!("{id} | {{\"id\": {id}, \"value\": \"{value}\", \"penstock_row\": {id}}} | {value}")
        });
        assert_eq!(desk.database.rows(given).await?, expected, "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_gets_the_bytes_as_stored_where_it_unpacks_them_itself() -> Result<()> {
    let line = "{\"id\":1,\"body\":\"x\"}\n";
    let packed = zstd::encode_all(line.as_bytes(), 1)?;
    for (compression, program, fits) in
        [("none", "zstd -dc", true), ("none", "cat", false), ("auto", "cat", true), ("auto", "zstd -dc", false)]
    {
        let dataset = format!(
            "table = \"t\"\nkey = [\"id\"]\ninput_format = \"bytes\"\ncompression = \"{compression}\"\n\
             command = [\"sh\", \"-c\", \"{program}\"]"
        );
        let desk = Desk::new(TABLE, &dataset).await?;
        assert_eq!(desk.load("k.json.zst", &packed).await? == 0, fits, "{compression} {program}");
        let rows = desk.database.value("SELECT count(*) FROM t WHERE id = 1 AND body = 'x'").await?;
        assert_eq!(rows == "1", fits, "{compression} {program}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_what_a_program_says_the_end_is_kept() -> Result<()> {
    let body = "sys.stderr.write('BEGIN' + 'ä' * 9000 + 'END'); sys.exit(3)";
    let desk = Desk::new(TABLE, &python(body, "")).await?;
    assert_ne!(desk.load("k.csv", "id\n1\n").await?, 0);
    let error = desk.database.value("SELECT error FROM penstock.object_status").await?;
    let (said_by_us, said) = error.split_once("ended with status 3: ").unwrap_or_default();
    assert_eq!(said_by_us, "the command ");
    assert!(said.ends_with("äEND") && !said.contains("BEGIN") && !said.contains('\u{fffd}'), "{said}");
    assert!((4000..=4096).contains(&said.len()), "{} bytes", said.len());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_s_environment_is_what_the_contract_names() -> Result<()> {
    // As the shell was given it, which adds some of its own.
    let program = r#"printf '{"id": 1, "body": "%s"}' "$(tr '\000' '|' </proc/$$/environ)""#;
    let dataset = format!(
        "[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"t\"\nkey = [\"id\"]\ninput_format = \"bytes\"\n\
         command = [\"sh\", \"-c\", '''{program}''']\n"
    );
    let world = World::new(Options::default(), TABLE, &dataset).await?;
    world.pipeline.put("in/a.json", pairs(&[(1, "x")])).await?;
    let version = "SELECT coalesce(version_id, '') FROM penstock.object_status";
    let worker = world.drainer().env("LANG", "C.UTF-8").env("LC_ALL", "C.UTF-8").env("HIDDEN", "x").start()?;
    worker.finish(LIMIT).await?;
    let variables = world.database.value("SELECT body FROM t").await?;
    let given: BTreeMap<&str, &str> = variables.split('|').filter_map(|variable| variable.split_once('=')).collect();
    let names: Vec<&str> = given.keys().copied().collect();
    let expected = ["HOME", "LANG", "PATH", "PENSTOCK_BUCKET", "PENSTOCK_DATASET", "PENSTOCK_KEY"];
    assert_eq!(names[..expected.len()], expected, "{names:?}");
    assert!(names[expected.len()..].iter().all(|name| *name == "PENSTOCK_VERSION_ID"), "{names:?}");
    let shown = |name: &str| given.get(name).copied().unwrap_or("∅").to_owned();
    assert_eq!(shown("PENSTOCK_VERSION_ID"), world.database.value(version).await?);
    assert_eq!([shown("LANG"), shown("PENSTOCK_DATASET"), shown("PENSTOCK_KEY")], ["C.UTF-8", "t", "in/a.json"]);
    assert_eq!(shown("PENSTOCK_BUCKET"), world.pipeline.bucket);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_asks_for_time_is_run_again_and_one_that_does_not_exist_is_waited_for() -> Result<()> {
    let dataset = |name: &str, command: &str| {
        format!(
            "[[dataset]]\nname = \"{name}\"\nmatch = \"s3://*/{name}/**\"\ntable = \"public.t\"\nkey = [\"id\"]\n\
             command = {command}\n"
        )
    };
    let marker = std::env::temp_dir().join(format!("penstock-later-{}", std::process::id()));
    let later = format!(
        "[\"sh\", \"-c\", '''test -e {0} || {{ touch {0}; exit 75; }}; sed 's/value/body/' ''']",
        marker.display()
    );
    let datasets = dataset("later", &later) + &dataset("missing", "[\"/no/such/program\"]");
    let world = World::new(Options::default(), TABLE, &format!("[worker]\nbrake_secs = 60\n{datasets}")).await?;
    world.pipeline.put("later/a.json", pairs(&[(1, "x"), (2, "y")])).await?;
    world.pipeline.put("missing/a.json", pairs(&[(3, "z")])).await?;
    let worker = world.worker().expect_line("held").expect_line("holding them").start()?;
    wait::until("the rows", LIMIT, || async {
        Ok((world.database.value("SELECT count(*) FROM t").await? == "2").then_some(()))
    })
    .await?;
    wait::until("the brake", LIMIT, || async {
        let held = "SELECT count(*) FROM penstock.object_status WHERE dataset = 'missing' AND state = 'retrying' \
                    AND reason = 'command'";
        Ok((world.database.value(held).await? == "1").then_some(()))
    })
    .await?;
    worker.terminate(LIMIT).await?;
    std::fs::remove_file(marker)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_program_and_what_it_started() -> Result<()> {
    let marker = format!("penstock-sleeper-{}", std::process::id());
    let dataset = format!(
        "[worker]\ndrain_timeout_secs = 1\n[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\ntable = \"public.t\"\n\
         key = [\"id\"]\ncommand = [\"sh\", \"-c\", '''exec -a {marker} sleep 600 & wait''']\n"
    );
    let dataset = dataset.replace("[\"sh\"", "[\"bash\"");
    let world = World::new(Options::default(), TABLE, &dataset).await?;
    world.pipeline.put("a.json", pairs(&[(1, "x")])).await?;
    let worker = world.worker().expect_line("drain timeout").start()?;
    wait::until("the program", LIMIT, || async { Ok(runs(&marker)?.then_some(())) }).await?;
    let begun = Instant::now();
    worker.terminate(LIMIT).await?;
    assert!(begun.elapsed() < Duration::from_secs(30), "it took {:?}", begun.elapsed());
    wait::until("its end", Duration::from_secs(5), || async { Ok((!runs(&marker)?).then_some(())) }).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM t").await?, "0");
    Ok(())
}
