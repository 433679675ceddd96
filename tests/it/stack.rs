//! The stack itself: what the other stories rely on.

use anyhow::Result;
use penstock_tests::{
    aws::{Account, Depth, Options, Route},
    postgres::{self, Postgres},
    proxy::{Action, Proxy, Rule, http_answer},
    wait,
};
use serde_json::Value;
use sqlx::{Connection as _, Executor as _, PgConnection};
use std::{sync::Arc, time::Duration};

const LIMIT: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_becomes_a_message_on_every_route() -> Result<()> {
    for route in [Route::Sns, Route::SnsRaw, Route::Direct, Route::EventBridge] {
        let pipeline = Account::new().await?.pipeline(Options { route, ..Options::default() }).await?;
        pipeline.purge().await?;
        let stored = pipeline.put("a b/c+d.ndjson", "{}\n").await?;
        pipeline.wait_for_visible(1, LIMIT).await?;
        let messages = pipeline.take_all().await?;
        assert_eq!(messages.len(), 1, "{route:?}");
        let (key, etag) = match route {
            Route::Sns => record(&serde_json::from_str::<Value>(text(&parse(&messages[0].body)["Message"]))?),
            Route::SnsRaw | Route::Direct => record(&parse(&messages[0].body)),
            Route::EventBridge | Route::Nowhere => {
                let object = &parse(&messages[0].body)["detail"]["object"];
                (text(&object["key"]).to_owned(), text(&object["etag"]).to_owned())
            }
        };
        let encoded = if route == Route::EventBridge { "a b/c+d.ndjson" } else { "a+b/c%2Bd.ndjson" };
        assert_eq!((key.as_str(), &etag), (encoded, &stored.etag), "{route:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_received_too_often_is_a_dead_letter() -> Result<()> {
    let options =
        Options { route: Route::Nowhere, visibility_timeout_secs: 0, max_receive_count: Some(2), ..Options::default() };
    let pipeline = Account::new().await?.pipeline(options).await?;
    pipeline.send("poison").await?;
    wait::until("a dead letter", LIMIT, || async {
        pipeline.account.sqs.receive_message().queue_url(&pipeline.queue_url).send().await?;
        Ok((pipeline.dead_letter_depth().await?.visible == 1).then_some(()))
    })
    .await?;
    assert_eq!(pipeline.depth().await?, Depth::default());
    let letters = pipeline.take_dead_letters().await?;
    assert_eq!(letters.iter().map(|letter| letter.body.as_str()).collect::<Vec<_>>(), ["poison"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_do_not_see_each_other() -> Result<()> {
    let (one, other) = (Account::new().await?, Account::new().await?);
    let (one, other) = (one.pipeline(Options::default()).await?, other.pipeline(Options::default()).await?);
    one.purge().await?;
    other.purge().await?;
    one.put("k", "one").await?;
    one.wait_for_visible(1, LIMIT).await?;
    assert_eq!(other.depth().await?, Depth::default());
    let listed = other.account.s3.list_objects_v2().bucket(&other.bucket).send().await?;
    assert!(listed.contents().is_empty());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_have_ids_and_deletes_send_events() -> Result<()> {
    let options = Options { route: Route::Direct, versioned: true, ..Options::default() };
    let pipeline = Account::new().await?.pipeline(options).await?;
    pipeline.purge().await?;
    let (first, second) = (pipeline.put("k", "1").await?, pipeline.put("k", "2").await?);
    assert!(first.version_id.is_some() && first.version_id != second.version_id);
    pipeline.delete("k").await?;
    pipeline.wait_for_visible(3, LIMIT).await?;
    let mut names: Vec<_> = pipeline
        .take_all()
        .await?
        .iter()
        .map(|message| text(&parse(&message.body)["Records"][0]["eventName"]).to_owned())
        .collect();
    names.sort();
    assert_eq!(names, ["ObjectCreated:Put", "ObjectCreated:Put", "ObjectRemoved:DeleteMarkerCreated"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_are_apart_and_rows_read_as_text() -> Result<()> {
    let postgres = Postgres::shared()?;
    let (one, other) = (postgres.create_database().await?, postgres.create_database().await?);
    one.execute("CREATE TABLE t (a int, b text); INSERT INTO t VALUES (1, 'x'), (2, NULL)").await?;
    assert_eq!(one.rows("SELECT * FROM t ORDER BY a").await?, ["1 | x", "2 | ∅"]);
    assert_eq!(other.value("SELECT to_regclass('t') IS NULL AS gone").await?, "true");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_keeps_committed_rows_and_loses_open_ones() -> Result<()> {
    let postgres = Arc::new(Postgres::start(postgres::Options { durable: true, ..Default::default() })?);
    let database = postgres.create_database().await?;
    database.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1)").await?;
    let mut open = database.connect().await?;
    open.execute("BEGIN").await?;
    open.execute("INSERT INTO t VALUES (2)").await?;
    postgres.crash_and_restart()?;
    assert!(open.execute("COMMIT").await.is_err());
    assert_eq!(database.rows("SELECT a FROM t").await?, ["1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_holds_the_answer_to_a_commit_that_happened() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    database.execute("CREATE TABLE t (a int)").await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let trigger = proxy.add(Rule::when_client_sends("COMMIT", Action::HoldAnswer));
    let mut connection = PgConnection::connect(&database.url_through(proxy.address())).await?;
    let commit = tokio::spawn(async move {
        connection.execute("BEGIN").await?;
        connection.execute("INSERT INTO t VALUES (1)").await?;
        connection.execute("COMMIT").await
    });
    trigger.fired(1, LIMIT).await?;
    wait::until("the commit", LIMIT, || async {
        Ok((database.rows("SELECT a FROM t").await?.len() == 1).then_some(()))
    })
    .await?;
    assert!(!commit.is_finished());
    trigger.release();
    commit.await??;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_cuts_before_a_commit_happens() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    database.execute("CREATE TABLE t (a int)").await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    proxy.add(Rule::when_client_sends("COMMIT", Action::CutRequest));
    let mut connection = PgConnection::connect(&database.url_through(proxy.address())).await?;
    connection.execute("BEGIN").await?;
    connection.execute("INSERT INTO t VALUES (1)").await?;
    assert!(connection.execute("COMMIT").await.is_err());
    assert_eq!(database.rows("SELECT a FROM t").await?, [""; 0]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_holds_a_delete_and_answers_for_s3() -> Result<()> {
    let account = Account::new().await?;
    let pipeline = account.pipeline(Options { route: Route::Nowhere, ..Options::default() }).await?;
    pipeline.put("k", "body").await?;
    pipeline.send("m").await?;
    let proxy = Proxy::start(penstock_tests::http::authority(account.emulator().endpoint())?).await?;
    let held = proxy.add(Rule::when_client_sends("AmazonSQS.DeleteMessage", Action::HoldRequest));
    let busy = proxy.add(
        Rule::when_client_sends(format!("GET /{}/k", pipeline.bucket), Action::Answer(http_answer(503, "Slow Down")))
            .times(2),
    );
    let sqs = account.sqs.config().to_builder().endpoint_url(proxy.endpoint()).build();
    let sqs = aws_sdk_sqs::Client::from_conf(sqs);
    let received = sqs.receive_message().queue_url(&pipeline.queue_url).send().await?;
    let handle = received.messages()[0].receipt_handle().unwrap_or_default().to_owned();
    let url = pipeline.queue_url.clone();
    let delete = tokio::spawn(async move { sqs.delete_message().queue_url(url).receipt_handle(handle).send().await });
    held.fired(1, LIMIT).await?;
    assert_eq!(pipeline.depth().await?.in_flight, 1);
    held.release();
    delete.await??;
    assert_eq!(pipeline.depth().await?, Depth::default());

    // The SDK tries three times, and the third gets the object.
    let s3 = account.s3.config().to_builder().endpoint_url(proxy.endpoint()).build();
    let object = aws_sdk_s3::Client::from_conf(s3).get_object().bucket(&pipeline.bucket).key("k").send().await?;
    assert_eq!(object.body.collect().await?.to_vec(), b"body");
    assert_eq!(busy.count(), 2);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_proxy_cuts_a_body_short() -> Result<()> {
    let account = Account::new().await?;
    let pipeline = account.pipeline(Options { route: Route::Nowhere, ..Options::default() }).await?;
    pipeline.put("k", vec![b'x'; 1_000_000]).await?;
    let proxy = Proxy::start(penstock_tests::http::authority(account.emulator().endpoint())?).await?;
    proxy.add(Rule::when_client_sends(format!("GET /{}/k", pipeline.bucket), Action::CutAnswer(500_000)));
    let s3 = account.s3.config().to_builder().endpoint_url(proxy.endpoint()).build();
    let object = aws_sdk_s3::Client::from_conf(s3).get_object().bucket(&pipeline.bucket).key("k").send().await?;
    assert!(object.body.collect().await.is_err());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shut_proxy_refuses_until_it_is_opened() -> Result<()> {
    let database = Postgres::shared()?.create_database().await?;
    let proxy = Proxy::start(database.postgres().host_and_port()).await?;
    let url = database.url_through(proxy.address());
    let mut before = PgConnection::connect(&url).await?;
    proxy.shut();
    assert!(before.execute("SELECT 1").await.is_err());
    assert!(PgConnection::connect(&url).await.is_err());
    proxy.open();
    PgConnection::connect(&url).await?.execute("SELECT 1").await?;
    Ok(())
}

fn parse(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_default()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn record(event: &Value) -> (String, String) {
    let object = &event["Records"][0]["s3"]["object"];
    (text(&object["key"]).to_owned(), text(&object["eTag"]).to_owned())
}
