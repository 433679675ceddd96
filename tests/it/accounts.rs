//! Buckets and queues of other accounts, reached by a role; and buckets whose owners let the requester pay.

use crate::world::{LIMIT, PAIRS, PAIRS_TABLE, World, pairs};
use anyhow::Result;
use penstock_tests::{
    aws::{Account, Options, Route},
    process::Program,
    proxy::{Action, Proxy, Rule, Trigger},
};
use serde_json::json;
use std::{fs, sync::Arc, time::Duration};

/// Lets all pass, and counts.
fn count(proxy: &Proxy, pattern: impl AsRef<[u8]>) -> Trigger {
    proxy.add(Rule::when_client_sends(pattern, Action::Delay(Duration::ZERO)).always())
}

async fn world(datasets: &str) -> Result<World> {
    World::new(Options { route: Route::Nowhere, ..Options::default() }, PAIRS_TABLE, datasets).await
}

/// Returns another account on the same emulator, and the ARN of a role of its own.
fn partner(world: &World) -> (Account, String) {
    let account = Account::on(Arc::clone(world.pipeline.account.emulator()));
    let role = format!("arn:aws:iam::{}:role/penstock-reader", account.id());
    (account, role)
}

async fn announce(world: &World, bucket: &str, key: &str) -> Result<()> {
    world.pipeline.send(json!({"bucket": bucket, "key": key}).to_string()).await.map(|_| ())
}

#[tokio::test(flavor = "multi_thread")]
async fn buckets_of_another_account_are_read_and_tagged_with_one_session_of_its_role() -> Result<()> {
    let world = world(&format!("{PAIRS}after_load = \"tag\"\n")).await?;
    let (partner, role) = partner(&world);
    let buckets = ["one", "two"].map(|name| format!("partner-{name}-{}", partner.id()));
    let mut config = fs::read_to_string(world.config())?;
    let mut reach = |bucket: &str, role: &str, id: &str| {
        config += &format!("[[bucket]]\nname = \"{bucket}\"\nrole_arn = \"{role}\"\nexternal_id = \"{id}\"\n");
    };
    for bucket in &buckets {
        partner.create_bucket(bucket, false).await?;
        reach(bucket, &role, "partner-7");
    }
    // Whose bucket none of the others' sessions may read.
    let (another, theirs) = self::partner(&world);
    let third = format!("partner-three-{}", another.id());
    another.create_bucket(&third, false).await?;
    reach(&third, &theirs, "partner-8");
    fs::write(world.config(), config)?;
    assert!(partner.s3.head_bucket().bucket(&third).send().await.is_err(), "it is another partner's");
    another.put(&third, "pairs/third", pairs(&[(1, "another partner's")])).await?;
    announce(&world, &third, "pairs/third").await?;
    world.pipeline.put("pairs/own", pairs(&[(0, "own")])).await?;
    announce(&world, &world.pipeline.bucket, "pairs/own").await?;
    for n in 1..=10 {
        for (place, bucket) in buckets.iter().enumerate() {
            let key = format!("pairs/{n}");
            partner.put(bucket, &key, pairs(&[(n * 10 + i64::try_from(place)?, "partner's")])).await?;
            announce(&world, bucket, &key).await?;
        }
    }
    assert!(world.pipeline.account.s3.head_bucket().bucket(&buckets[0]).send().await.is_err(), "it is the partner's");
    let sts = world.aws_proxy().await?;
    let asked = count(&sts, "Action=AssumeRole");
    let [as_told, as_told_else] = ["partner-7", "partner-8"].map(|id| count(&sts, format!("ExternalId={id}")));
    world.through_aws(world.drainer(), "STS", &sts).start()?.finish(LIMIT).await?;
    assert_eq!(world.database.value("SELECT count(*) FROM pairs").await?, "22");
    assert_eq!((asked.count(), as_told.count(), as_told_else.count()), (2, 1, 1));
    assert_eq!(world.database.value("SELECT count(*) FROM penstock.due").await?, "0");
    let tagged = partner.s3.get_object_tagging().bucket(&buckets[1]).key("pairs/3").send().await?;
    assert_eq!(tagged.tag_set.len(), 1);

    // Commands reach them, too.
    let loaded = world.command("load").arg(format!("s3://{}/pairs/", buckets[0])).run(LIMIT).await?;
    assert!(loaded.status.success(), "{}{}", loaded.stdout, loaded.stderr);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_is_refused_fails_its_buckets_objects_by_name_and_holds_up_no_others() -> Result<()> {
    let world = world("").await?;
    let (partner, role) = partner(&world);
    let bucket = format!("partner-{}", partner.id());
    partner.create_bucket(&bucket, false).await?;
    partner.put(&bucket, "pairs/1", pairs(&[(1, "x")])).await?;
    let theirs = PAIRS.replace("\"pairs\"", "\"theirs\"").replace("s3://*/", &format!("s3://{bucket}/"));
    let access = format!("[[bucket]]\nname = \"{bucket}\"\nrole_arn = \"{role}\"\n[worker]\nbrake_secs = 0\n");
    fs::write(world.config(), fs::read_to_string(world.config())? + &theirs + PAIRS + &access)?;
    let sts = world.aws_proxy().await?;
    let said =
        "<ErrorResponse><Error><Code>AccessDenied</Code><Message>not authorized</Message></Error></ErrorResponse>";
    let answer = format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{said}", said.len());
    sts.add(Rule::when_client_sends("Action=AssumeRole", Action::Answer(answer.into_bytes())).always());
    world.pipeline.put("pairs/2", pairs(&[(2, "own")])).await?;
    announce(&world, &bucket, "pairs/1").await?;
    announce(&world, &world.pipeline.bucket, "pairs/2").await?;
    let worker = world.through_aws(world.drainer(), "STS", &sts).expect_line("object failed");
    let worker = worker.expect_line("objects fail for a cause").start()?;
    worker.finish(LIMIT).await?;
    let rows = "SELECT dataset, state, reason, error FROM penstock.object_status ORDER BY dataset DESC";
    let rows = world.database.rows(rows).await?;
    let why = format!(
        "s3://{bucket}/pairs/1: role {role} (without an external id) cannot be assumed: AccessDenied: not authorized"
    );
    assert!(rows[0].starts_with("theirs | failed | access | ") && rows[0].ends_with(&why), "{rows:?}");
    assert!(rows[1].starts_with("pairs | imported"), "{rows:?}");
    let checked = world.through_aws(world.command("check"), "STS", &sts).run(LIMIT).await?;
    let expected = format!("wrong: dataset theirs: bucket {bucket}: ");
    assert!(checked.stdout.contains(&expected) && checked.stdout.contains("cannot be assumed"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("no s3:ListBucket"), "{}", checked.stdout);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_of_another_account_are_served_sent_to_and_counted_by_its_role() -> Result<()> {
    let world = world(PAIRS).await?;
    world.database.execute("CREATE TABLE copy (id bigint PRIMARY KEY, value text)").await?;
    let (partner, role) = partner(&world);
    let theirs = partner.pipeline(Options { route: Route::Nowhere, ..Options::default() }).await?;
    let access = format!("role_arn = \"{role}\"\nexternal_id = \"partner-7\"\n");
    let config = fs::read_to_string(world.config())?.replace("[queue]", "[[queue]]\nname = \"live\"");
    let slow = format!(
        "[[queue]]\nname = \"slow\"\nurl = \"{}\"\nwait_secs = 1\n{access}[[dataset]]\nname = \"copy\"\nafter = \"pairs\"\n\
         queue = \"slow\"\ntable = \"public.copy\"\nkey = [\"id\"]\n",
        theirs.queue_url
    );
    fs::write(world.config(), format!("{config}\n{slow}"))?;
    anyhow::ensure!(world.command("migrate").run(LIMIT).await?.status.success());
    let sts = world.aws_proxy().await?;
    let asked = count(&sts, "ExternalId=partner-7");
    world.pipeline.put("pairs/1", pairs(&[(1, "x")])).await?;
    announce(&world, &world.pipeline.bucket, "pairs/1").await?;
    world.through_aws(world.drainer(), "STS", &sts).start()?.finish(LIMIT).await?;
    theirs.wait_for_visible(1, LIMIT).await?;
    assert_eq!(asked.count(), 1, "to send");

    let scaler = format!(
        "[[pool]]\nname = \"slow\"\nqueue_urls = [\"{}\"]\nbacklog_per_worker = 10\n{access}[pool.workers]\nkind = \"dry_run\"\n",
        theirs.queue_url
    );
    let path = world.config().with_file_name("scaler.toml");
    fs::write(&path, format!("[database]\nurl = \"{}\"\n{scaler}", world.database.url()))?;
    let scaler = |command: &str| {
        let scaler = Program::new("scaler").arg(command).arg("--config").arg(&path);
        world.through_aws(scaler.envs(world.pipeline.account.variables()), "STS", &sts)
    };
    let check = scaler("check").run(LIMIT).await?;
    assert!(check.stdout.contains("pool slow: 1 visible"), "{}{}", check.stdout, check.stderr);
    assert_eq!(asked.count(), 2, "to count");
    // What no importer sent is sent by the scaler, as the role of the pool with that queue.
    let left = format!(
        "SELECT penstock.send_on('pairs', NULL, '{{\"bucket\": \"{}\", \"key\": \"pairs/1\"}}')",
        world.pipeline.bucket
    );
    world.database.execute(&left).await?;
    let once = scaler("once").run(LIMIT).await?;
    assert!(once.status.success(), "{}", once.stderr);
    theirs.wait_for_visible(2, LIMIT).await?;
    assert_eq!(asked.count(), 4, "to count and to send");

    let drainer = world.drainer().args(["--queue", "slow"]);
    world.through_aws(drainer, "STS", &sts).start()?.finish(LIMIT).await?;
    assert_eq!(world.database.rows("SELECT id, value FROM copy").await?, ["1 | x"]);
    assert_eq!(asked.count(), 5, "to receive");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_to_a_bucket_that_lets_the_requester_pay_says_that_we_do_and_no_other_does() -> Result<()> {
    let world = world(&format!("{PAIRS}after_load = \"tag\"\n")).await?;
    let bucket = world.pipeline.bucket.clone();
    for n in 0..3 {
        world.pipeline.put(&format!("pairs/{n}"), pairs(&[(n, "x")])).await?;
    }
    let store = world.aws_proxy().await?;
    let (asked, paid) = (count(&store, format!(" /{bucket}")), count(&store, "x-amz-request-payer: requester"));
    let load = async || {
        for command in [world.command("load").arg(format!("s3://{bucket}/pairs/")), world.command("due")] {
            let ended = world.through_aws(command, "S3", &store).run(LIMIT).await?;
            anyhow::ensure!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
        }
        anyhow::Ok(())
    };
    load().await?;
    let (n_asked, n_paid) = (asked.count(), paid.count());
    assert!(n_asked >= 10 && n_paid == 0, "{n_paid} of {n_asked}");
    let pays = format!("[[bucket]]\nname = \"{bucket}\"\nrequester_pays = true\n");
    fs::write(world.config(), fs::read_to_string(world.config())? + &pays)?;
    for n in 3..6 {
        world.pipeline.put(&format!("pairs/{n}"), pairs(&[(n, "x")])).await?;
    }
    load().await?;
    let (asked, paid) = (asked.count() - n_asked, paid.count());
    assert!(asked >= 10 && paid == asked, "{paid} of {asked}");
    Ok(())
}
