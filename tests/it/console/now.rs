//! `/`: the first questions.

use super::stand::{LIMIT, Stand, decided, object, seen};
use anyhow::{Context as _, Result};
use penstock_tests::{postgres::Postgres, proxy::Proxy, wait};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
};

const LATE: &str = r#"{"pool": {"starting": 0, "idle": 1, "busy": 7, "draining": 0}, "age_secs": 1500, "promised_secs": 900,
    "queue": {"visible": 12345, "in_flight": 80, "delayed": 0}, "arrivals_per_sec": 2.5,
    "sink": {"healthy": true, "commit_secs": 0.004}, "bounds": [{"guard": "max", "at_most": 8}, {"guard": "min", "at_least": 0}]}"#;

#[tokio::test(flavor = "multi_thread")]
async fn the_first_screen_says_that_data_is_late_what_is_broken_and_what_mends_it() -> Result<()> {
    let mut seed = decided("importers", 8, "max", LATE);
    for n in 0..3 {
        seed += &object(&format!("orders/{n}.csv"), "failed", "schema", "column \"x\" is missing");
    }
    seed += &object("held.csv", "retrying", "timeout", "canceling statement");
    seed += "INSERT INTO penstock.head (dataset, bucket, key) SELECT 'many', 'b', n FROM generate_series(1, 1500) n; \
             INSERT INTO penstock.object (head_id, state, reason, finished_at) \
             SELECT id, 'failed', 'corrupt', now() FROM penstock.head WHERE dataset = 'many';";
    let stand = Stand::new(&seed, "").await?;
    let page = seen(&stand.page("/").await?);
    for words in [
        "Data is late by 10m",
        "The oldest message of pool importers has waited 25m; promised is 15m.",
        "Late, and at its maximum: pool importers max",
        "importer run --until-empty",
        "3 objects failed d schema",
        "importer replay --state failed --dataset d",
        "1,000+ objects failed many corrupt",
        "1 object is tried again d timeout",
        "importer status --state retrying --dataset d",
        "messages waiting 12,345",
        "at most 8",
        "Because of max.",
        "A commit takes 4ms",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(page.find("Late, and at its maximum") < page.find("objects failed"), "the most urgent first");
    let json = stand.json("/.json?span=1h").await?;
    assert_eq!(json["late"]["answer"], "late");
    assert_eq!(json["over_time"]["span"], "1h");
    let problems = json["problems"]["value"].as_array().context("problems")?;
    assert!(problems[0]["kind"] == "at_max" && problems[0]["since"].is_string(), "{}", problems[0]);
    let of = |reason: &str| problems.iter().find(|problem| problem["reason"] == reason).cloned().unwrap_or_default();
    assert_eq!((&of("schema")["n"], &of("schema")["more"]), (&3.into(), &false.into()));
    assert_eq!(of("corrupt")["more"], true);
    assert_eq!(stand.json("/now.json").await?["late"], json["late"]);
    stand.console.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_in_time_is_drawn_and_nothing_is_broken() -> Result<()> {
    let inputs = LATE.replace("1500", "12");
    let seed = (0..50).map(|n| {
        format!(
            "INSERT INTO penstock.decisions (pool, at, desired, reason, explain, inputs, applied) \
             VALUES ('importers', now() - interval '{n} minutes', {}, 'deadline', 'x', '{inputs}', true);",
            n % 9
        )
    });
    let seed = seed.collect::<String>() + &decided("importers", 4, "deadline", &inputs);
    let stand = Stand::new(&seed, "").await?;
    let page = stand.page("/?span=1h").await?;
    let text = seen(&page);
    assert!(text.contains("Nothing is late"), "{text}");
    assert!(text.contains("What is broken? Nothing."), "{text}");
    assert!(page.matches("<polyline").count() >= 8 && text.contains("at most 12425 messages in the queue"), "{text}");
    // Titles and parts that scripts, tests and links go by.
    for id in ["late", "broken", "able", "limit", "changed", "over-time"] {
        assert!(page.contains(&format!("<section id=\"{id}\" aria-labelledby=\"{id}-title\">")), "{id}");
        assert!(page.contains(&format!("id=\"{id}-title\"")), "{id}");
    }
    assert!(page.contains("<noscript><meta http-equiv=\"refresh\"") && page.contains("<html lang=\"en\">"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_pool_is_said_to_be_with_what_ends_it_until_it_is_over() -> Result<()> {
    let pause = |until: &str| {
        format!("UPDATE penstock.pool_state SET pause_size = 2, pause_until = {until}, paused_by = 'ann on host<1>'")
    };
    let seed = decided("importers", 2, "paused", LATE) + &pause("now() + interval '1 hour'");
    let stand = Stand::new(&seed, "").await?;
    for path in ["/", "/pools/importers"] {
        let page = seen(&stand.page(path).await?);
        assert!(page.contains("Paused at 2 until") && page.contains("by ann on host<1>"), "{path}: {page}");
        assert!(page.contains("scaler resume --pool importers"), "{path}: {page}");
    }
    let json = stand.json("/now.json").await?;
    assert_eq!(json["pools"]["value"][0]["pause"]["at"], 2, "{json}");
    let late = &json["problems"]["value"][0];
    assert_eq!((&late["kind"], &late["reason"]), (&"late".into(), &"paused".into()), "{late}");
    stand.database.execute(&pause("now()")).await?;
    wait::until("the pause to be over", LIMIT, || async {
        let pages = [seen(&stand.page("/").await?), seen(&stand.page("/pools/importers").await?)];
        Ok(pages.iter().all(|page| !page.contains("Paused at")).then_some(()))
    })
    .await?;
    stand.console.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_ledger_is_no_failure_and_a_missing_one_says_what_to_do() -> Result<()> {
    let stand = Stand::new("", "").await?;
    let page = seen(&stand.page("/").await?);
    for words in
        ["Unknown whether data is late", "No scaler has decided here", "What is broken? Nothing.", "There is no pool"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let database = Postgres::shared()?.create_database().await?;
    let url = database.url();
    let stand = Stand::on(database, &url, "").await?;
    let page = seen(&stand.page("/").await?);
    assert!(page.contains("the schema penstock is missing, or older than this program: `importer migrate`"), "{page}");
    // What needs no schema is shown.
    assert!(page.contains("Server Postgres 1"), "{page}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_database_is_said_with_what_was_seen_last_and_is_found_again() -> Result<()> {
    let database = Postgres::shared()?.create_database_with_ledger().await?;
    database.execute(&decided("importers", 4, "deadline", &LATE.replace("1500", "12"))).await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let url = database.url_through(proxy.address());
    let stand = Stand::on(database, &url, "").await?;
    assert!(seen(&stand.page("/").await?).contains("Nothing is late"));
    proxy.shut();
    let lost = wait::until("the page to say so", LIMIT, || async {
        let page = seen(&stand.page("/").await?);
        Ok(page.contains("Unknown whether data is late").then_some(page))
    })
    .await?;
    for words in ["Postgres cannot be reached", "Before that: nothing is late", "Last seen", "messages waiting 12,345"]
    {
        assert!(lost.contains(words), "{words}: {lost}");
    }
    assert_eq!(stand.ask("/healthz", &[]).await?.status, 200);
    let first = stand.json("/now.json").await?["problems"]["value"][0].clone();
    assert!(first["kind"] == "no_database" && first["since"].is_string(), "{first}");
    proxy.open();
    wait::until("the database to be found again", LIMIT, || async {
        Ok(seen(&stand.page("/").await?).contains("Nothing is late").then_some(()))
    })
    .await?;
    stand.console.terminate(LIMIT).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_importers_wait_for_is_named_with_who_holds_it() -> Result<()> {
    let stand = Stand::new("CREATE TABLE orders (id int)", "").await?;
    let mut holder = stand.database.connect().await?;
    sqlx::raw_sql("SET application_name = 'report'; BEGIN; LOCK TABLE orders").execute(&mut holder).await?;
    let mut waiter = stand.database.connect().await?;
    sqlx::raw_sql("SET application_name = 'penstock importer 1'").execute(&mut waiter).await?;
    let waiting = async {
        sqlx::raw_sql("SELECT * FROM public.orders").execute(&mut waiter).await.context("the lock is not let go")
    };
    let naming = async {
        let problem = wait::until("the lock to be named", LIMIT, || async {
            let json = stand.json("/now.json").await?;
            let problems = json["problems"]["value"].as_array().cloned().unwrap_or_default();
            Ok(problems.into_iter().find(|problem| problem["kind"] == "locked"))
        });
        let problem = problem.await?;
        assert_eq!((&problem["of"], &problem["n"]), (&Value::from("public.orders"), &1.into()), "{problem}");
        assert!(problem["said"].as_str().is_some_and(|said| said.contains("report")), "{problem}");
        // The command it shows mends it.
        let command = problem["command"].as_str().context("a command")?;
        stand.database.execute(command.split('\'').nth(1).context("a statement")?).await
    };
    tokio::try_join!(waiting, naming)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_change_are_sent_to_who_looks() -> Result<()> {
    let stand = Stand::new("", "").await?;
    let authority = stand.url.trim_start_matches("http://").to_owned();
    let stream = TcpStream::connect(&authority).await?;
    let (reading, mut writing) = stream.into_split();
    let head = format!("GET /now/stream?span=6h HTTP/1.1\r\nHost: {authority}\r\n\r\n");
    writing.write_all(head.as_bytes()).await?;
    let mut lines = BufReader::new(reading).lines();
    let mut part = async |id: &str, words: &str| {
        let next = async {
            while let Some(line) = lines.next_line().await? {
                let Some(json) = line.strip_prefix("data: ") else { continue };
                let part: Value = serde_json::from_str(json)?;
                if part["id"] == id && part["html"].as_str().is_some_and(|html| html.contains(words)) {
                    return Ok(());
                }
            }
            anyhow::bail!("the stream ended")
        };
        tokio::time::timeout(LIMIT, next).await.with_context(|| format!("{id} with {words}"))?
    };
    part("late", "No scaler has decided").await?;
    part("broken", "Nothing.").await?;
    stand.database.execute(&object("a", "failed", "schema", "no")).await?;
    part("broken", "object failed").await?;
    drop(writing);
    stand.console.terminate(LIMIT).await
}
