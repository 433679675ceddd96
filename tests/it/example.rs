//! `examples/pipeline`: posts that name sites and accounts, which come in any order.

use crate::world::{LIMIT, World};
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    aws::Options,
    example::{Example, Pace, Upload},
    repository,
    scratch::Scratch,
    wait,
};
use serde_json::Value;
use std::{fs, time::Duration};

/// Posts' objects; there are a dozen of others.
const OBJECTS: u64 = 5;

const PACE: Pace = Pace { again: "2s", give_up: "1d" };

/// Nothing is on its way: neither in a queue, nor to be sent, nor to be loaded again but for what never arrives.
const AT_REST: &str = "SELECT (SELECT count(*) FROM penstock.object_status WHERE state IN ('importing', 'retrying')),
    (SELECT count(*) FROM penstock.due WHERE at <= now()),
    (SELECT string_agg(key || ' ' || lookup || ' ' || value, ', ') FROM penstock.waiting)";

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_equal_the_model_whatever_arrives_first() -> Result<()> {
    futures_util::future::try_join_all((1..=3).map(check)).await?;
    Ok(())
}

/// Lets the objects of a seed arrive in an order of that seed.
async fn check(seed: u64) -> Result<()> {
    let world = World::new(Options::default(), "", "").await?;
    let scratch = Scratch::new("example")?;
    let example = Example::set(&world.database, &world.pipeline, &scratch, seed, OBJECTS).await?;
    fs::write(world.config(), example.importer_config(&world.database, PACE)?)?;
    let program = |program: penstock_tests::process::Program| {
        program.in_directory(repository()).expect_line("object failed").start()
    };
    let workers = [program(world.worker())?, program(world.worker().args(["--queue", "slow"]))?];

    let mut random = fastrand::Rng::with_seed(seed);
    let uploads = in_some_order(example.uploads()?, &mut random);
    for (at, upload) in uploads.iter().enumerate() {
        world.pipeline.put_file(&upload.key, &upload.file).await?;
        if random.u8(..4) == 0 {
            // Announced once more.
            let key = &uploads[random.usize(..=at)].key;
            let pointer = serde_json::json!({"bucket": world.pipeline.bucket, "key": key});
            world.pipeline.send(pointer.to_string()).await?;
        }
        tokio::time::sleep(Duration::from_millis(random.u64(..200))).await;
    }

    let comparison = example.comparison()?;
    let differing = format!("SELECT * FROM ({comparison}) compared WHERE too_many + missing > 0");
    let stray = "0 | 0 | posts/dt=2026-06-02/stray.ndjson public.site.site_id 99";
    let ended = wait::until("the tables to equal the model", LIMIT / 2, || async {
        let at_rest = world.database.rows(AT_REST).await? == [stray]
            && example.live.depth().await? == Default::default()
            && example.slow.depth().await? == Default::default();
        Ok((at_rest && world.database.rows(&differing).await?.is_empty()).then_some(()))
    });
    if let Err(error) = ended.await {
        let differing = world.database.rows(&differing).await?.join("\n");
        let at_rest = world.database.rows(AT_REST).await?;
        return Err(error.context(format!("seed {seed}: {at_rest:?}\n{differing}")));
    }
    let n_rows: u64 =
        world.database.value("SELECT count(*) FROM public.post_complete WHERE card <> ''").await?.parse()?;
    ensure!(n_rows > 0, "seed {seed}: there is nothing to compare");

    // One a dataset and event in fifteen minutes.
    let notices = example.notices.take_all().await?.into_iter().map(|notice| {
        let notice: Value = serde_json::from_str(&notice.body).context("a notice")?;
        let text = |name: &str| notice[name].as_str().unwrap_or_default().to_owned();
        Ok(format!("{} {}", text("event"), text("dataset")))
    });
    let mut notices = notices.collect::<Result<Vec<_>>>()?;
    notices.sort();
    let rejected = ["post_cards", "post_languages", "post_lines", "posts"].map(|name| format!("rejected {name}"));
    assert_eq!(notices, [&["failed posts".to_owned()], &rejected[..]].concat(), "seed {seed}");
    for worker in workers {
        worker.terminate(LIMIT).await?;
    }
    Ok(())
}

/// Shuffles the uploads; of one object's versions the newest still comes last.
fn in_some_order(mut uploads: Vec<Upload>, random: &mut fastrand::Rng) -> Vec<Upload> {
    random.shuffle(&mut uploads);
    for at in 0..uploads.len() {
        let earlier = |later: &Upload| later.is_overwritten && later.key == uploads[at].key;
        if let Some(after) = uploads[at..].iter().position(earlier) {
            uploads.swap(at, at + after);
        }
    }
    uploads
}
