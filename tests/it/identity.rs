//! Who asks AWS, from where, and through what: credentials, regions, proxies.

use crate::{
    outages::{EXPIRED_JSON, EXPIRED_XML, expired},
    world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs},
};
use anyhow::{Context as _, Result};
use penstock_tests::{
    aws::{Depth, Options},
    fake::Sts,
    process::Program,
    proxy::{Action, Rule},
    scratch::Scratch,
    wait,
};
use serde_json::json;
use std::{path::PathBuf, time::Duration};
use tokio::try_join;

/// A change on disk is seen within half a minute, and what was held is tried again after as long.
const SOON: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_replaced_on_disk_are_used_without_a_restart() -> Result<()> {
    let files = Files::new().await?;
    let profile = |token: &str| {
        let id = &files.key_id;
        format!("[default]\naws_access_key_id = {id}\naws_secret_access_key = x\naws_session_token = {token}\n")
    };
    files.scratch.write("credentials", profile("OLD"))?;
    files.replaced(files.worker(), When::Refused, || files.scratch.write("credentials", profile("NEW"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_of_a_process_are_asked_for_anew_before_they_end_and_when_they_are_refused() -> Result<()> {
    try_join!(of_a_process(60, When::TheyEnd), of_a_process(3600, When::Refused))?;
    Ok(())
}

async fn of_a_process(lasts_secs: i64, when: When) -> Result<()> {
    let files = Files::new().await?;
    let printed = |token: &str| {
        let end = chrono::Utc::now() + chrono::Duration::seconds(lasts_secs);
        let (id, end) = (&files.key_id, end.to_rfc3339());
        json!({"Version": 1, "AccessKeyId": id, "SecretAccessKey": "x", "SessionToken": token, "Expiration": end})
            .to_string()
    };
    let file = files.scratch.write("printed.json", printed("OLD"))?;
    files.scratch.write("config", format!("[default]\ncredential_process = cat {}\n", file.display()))?;
    files.replaced(files.worker(), when, || files.scratch.write("printed.json", printed("NEW"))).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_identity_that_is_replaced_on_disk_is_used_before_its_credentials_end_and_when_they_are_refused()
-> Result<()> {
    try_join!(of_a_web_identity(60, When::TheyEnd), of_a_web_identity(3600, When::Refused))?;
    Ok(())
}

async fn of_a_web_identity(lasts_secs: i64, when: When) -> Result<()> {
    let files = Files::new().await?;
    let sts = Sts::start(&files.key_id, lasts_secs).await?;
    let file = files.scratch.write("token", "OLD")?;
    let worker = files.worker().envs(sts.variables()).env("AWS_WEB_IDENTITY_TOKEN_FILE", file.display().to_string());
    files.replaced(worker, when, || files.scratch.write("token", "NEW")).await?;
    let tokens = sts.tokens();
    let n_old = tokens.iter().take_while(|token| *token == "OLD").count();
    assert!(n_old > 0 && n_old < tokens.len(), "{tokens:?}");
    assert!(tokens[n_old..].iter().all(|token| token == "NEW"), "{tokens:?}");
    Ok(())
}

/// When credentials are no longer good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// AWS refuses them.
    Refused,
    /// They name their end, which is near.
    TheyEnd,
}

/// A worker's credentials on disk, and nowhere else.
struct Files {
    world: World,
    scratch: Scratch,
    /// The emulator tells accounts apart by the key's id, so it is the token that changes.
    key_id: String,
}

impl Files {
    async fn new() -> Result<Self> {
        let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
        let key_id = world.pipeline.account.id().to_owned();
        let scratch = Scratch::new("credentials")?;
        for name in ["config", "credentials"] {
            scratch.write(name, "")?;
        }
        Ok(Self { world, scratch, key_id })
    }

    fn worker(&self) -> Program {
        let file = |name: &str| self.scratch.path().join(name).display().to_string();
        self.world
            .worker()
            .env("AWS_ACCESS_KEY_ID", "")
            .env("AWS_SECRET_ACCESS_KEY", "")
            .env("AWS_SHARED_CREDENTIALS_FILE", file("credentials"))
            .env("AWS_CONFIG_FILE", file("config"))
    }

    /// Expects a worker whose session token is `OLD` to go on with what `replace` writes, whose is `NEW`.
    async fn replaced(&self, program: Program, when: When, replace: impl Fn() -> Result<PathBuf>) -> Result<()> {
        let world = &self.world;
        let (queue, store) = (world.aws_proxy().await?, world.aws_proxy().await?);
        let program = world.through_aws(world.through_aws(program, "SQS", &queue), "S3", &store);
        let (lines, is_refused) = match when {
            When::Refused => (vec!["receive failed", "could not", "held"], true),
            When::TheyEnd => (Vec::new(), false),
        };
        let worker = lines.into_iter().fold(program, |program, line| program.expect_line(line)).start()?;
        world.pipeline.put("pairs/1", pairs(&[(1, "old")])).await?;
        wait_for_pairs(world, &["1=old"]).await?;
        if is_refused {
            let refuse =
                |answer: Vec<u8>| Rule::when_client_sends("x-amz-security-token: OLD", Action::Answer(answer)).always();
            store.add(refuse(expired("application/xml", EXPIRED_XML)));
            let refused = queue.add(refuse(expired("application/x-amz-json-1.0", EXPIRED_JSON)));
            refused.fired(1, LIMIT).await?;
        }
        let renewed = queue.add(Rule::when_client_sends("x-amz-security-token: NEW", Action::Delay(Duration::ZERO)));
        replace()?;
        renewed.fired(1, SOON).await.with_context(|| worker.stderr())?;
        world.pipeline.put("pairs/2", pairs(&[(2, "new")])).await?;
        wait_for_pairs(world, &["1=old", "2=new"]).await.with_context(|| worker.stderr())?;
        worker.terminate(LIMIT).await
    }
}

async fn wait_for_pairs(world: &World, expected: &[&str]) -> Result<()> {
    wait::until("the imports", SOON, || async { Ok((world.pairs().await? == expected).then_some(())) }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_another_region_is_spoken_to_in_its_own() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.aws_proxy().await?;
    let told = proxy.add(Rule::when_client_sends("/us-east-1/s3/", Action::Delay(Duration::ZERO)).always());
    for i in 0..10 {
        world.pipeline.put(&format!("pairs/{i}"), pairs(&[(i, "a")])).await?;
    }
    // The bucket is in another, and the emulator answers requests that are signed for this one with a redirect.
    let uri = format!("s3://{}/pairs/", world.pipeline.bucket);
    let load = world.command("load").arg(uri).env("AWS_REGION", "us-east-1");
    let ended = world.through_aws(load, "S3", &proxy).run(LIMIT).await?;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert_eq!(world.pairs().await?.len(), 10);
    assert!((1..=2).contains(&told.count()), "told {} times where the bucket is", told.count());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_the_store_refuses_fails_with_the_stores_words_and_its_neighbour_is_imported() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, &format!("[worker]\nbrake_secs = 0\n{PAIRS}")).await?;
    let proxy = world.aws_proxy().await?;
    let body = "<Error><Code>KMS.DisabledException</Code><Message>the key is disabled</Message></Error>";
    let length = body.len();
    let refusal = format!(
        "HTTP/1.1 400 Bad Request\r\nContent-Type: application/xml\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    );
    proxy.add(Rule::when_client_sends("/pairs/refused", Action::Answer(refusal.into_bytes())).always());
    let bucket = &world.pipeline.bucket;
    world.pipeline.put("pairs/refused", pairs(&[(1, "a")])).await?;
    world.pipeline.put("pairs/good", pairs(&[(2, "b")])).await?;
    // An ETag that no header can carry, claimed by a producer.
    world
        .pipeline
        .send(format!("{{\"bucket\":\"{bucket}\",\"key\":\"pairs/x\",\"etag\":\"a\\u0001b\",\"size\":9}}"))
        .await?;
    let worker = world.through_aws(world.drainer(), "S3", &proxy).expect_line("failed").start()?;
    worker.finish(LIMIT).await?;
    assert_eq!(world.pairs().await?, ["2=b"]);
    let errors = world
        .database
        .rows("SELECT key, reason, error FROM penstock.object_status WHERE state = 'failed' ORDER BY key")
        .await?;
    assert_eq!(errors.len(), 2, "{errors:?}");
    assert!(errors[0].contains("KMS.DisabledException: the key is disabled"), "{errors:?}");
    assert!(errors[1].contains("pairs/x | refused"), "{errors:?}");
    assert_eq!(world.pipeline.dead_letter_depth().await?, Depth { visible: 2, ..Depth::default() });
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_bucket_that_is_not_there_is_not_taken_for_one_that_is_gone() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, &format!("[worker]\nbrake_secs = 0\n{PAIRS}")).await?;
    // Neither says which version, so a HEAD asks, whose answer has no words.
    let missing = format!("{}-is-not-there", world.pipeline.bucket);
    for bucket in [&missing, &world.pipeline.bucket] {
        world.pipeline.send(format!("{{\"bucket\":\"{bucket}\",\"key\":\"pairs/a\"}}")).await?;
    }
    let worker = world.drainer().expect_line("failed").expect_line("gone").start()?;
    worker.finish(LIMIT).await?;
    let ended = "SELECT bucket = $$BUCKET$$, state, reason FROM penstock.object_status ORDER BY 1";
    let ended = world.database.rows(&ended.replace("BUCKET", &missing)).await?;
    assert_eq!(ended, ["false | gone | ∅", "true | failed | no_bucket"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn proxies_and_certificate_authorities_are_those_of_the_environment() -> Result<()> {
    let world = World::new(Options::default(), PAIRS_TABLE, PAIRS).await?;
    let proxy = world.aws_proxy().await?;
    let asked = proxy.add(Rule::when_client_sends("POST http://sqs.example.invalid/", Action::CutRequest).always());
    let through = |program: Program| {
        program.env("AWS_ENDPOINT_URL_SQS", "http://sqs.example.invalid").env("HTTP_PROXY", proxy.endpoint())
    };
    through(world.command("check")).run(LIMIT).await?;
    let n_asked = asked.count();
    assert!(n_asked > 0, "the proxy was not asked");
    through(world.command("check")).env("NO_PROXY", "example.invalid").run(LIMIT).await?;
    assert_eq!(asked.count(), n_asked, "the proxy was asked although NO_PROXY says not to");
    let ended = world.command("check").env("AWS_CA_BUNDLE", "/nonexistent/bundle.pem").run(LIMIT).await?;
    assert!(
        !ended.status.success() && ended.stderr.contains("AWS_CA_BUNDLE /nonexistent/bundle.pem"),
        "{}",
        ended.stderr
    );
    // As in an image without any.
    let bare = world.command("check").env("SSL_CERT_FILE", "/dev/null").env("SSL_CERT_DIR", "/nonexistent");
    let ended = bare.expect_line("native root").expect_line("panicked").run(LIMIT).await?;
    assert!(
        !ended.status.success() && ended.stderr.contains("this machine trusts no certificate authority"),
        "{}",
        ended.stderr
    );
    Ok(())
}
