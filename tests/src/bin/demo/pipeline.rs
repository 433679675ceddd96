//! `make demo PIPELINE=1`: the chain of steps in `examples/pipeline`, whose metadata comes late.

use crate::{Stage, pool::Pool, report, watch::Progress};
use anyhow::{Context as _, Result, ensure};
use penstock_tests::{
    database::literal,
    example::{Example, Pace, Upload},
    process::Program,
};
use serde_json::{Value, json};
use sqlx::Row as _;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Of posts; a dozen others have sites and accounts.
const OBJECTS: u64 = 16;

/// What takes hours and days elsewhere.
const PACE: Pace = Pace { again: "10s", give_up: "45s" };

/// How long the slow program thinks about each post.
const PAUSE_MS: u64 = 100;

/// When what comes late comes, after the rest.
const LATE: [Duration; 2] = [Duration::from_secs(8), Duration::from_secs(16)];

const INTERVAL: Duration = Duration::from_millis(500);

/// After that something is wrong.
const LIMIT: Duration = Duration::from_secs(240);

/// Samples in a character of the pools' sizes: two seconds.
const SAMPLES_A_DIGIT: usize = 4;

/// What runs, what waits, and what is to be sent now.
const MOMENT: &str = "SELECT
    (SELECT count(*) FROM penstock.workers WHERE queue_url = $1),
    (SELECT count(*) FROM penstock.workers WHERE queue_url = $2),
    (SELECT count(*) FROM penstock.object_status WHERE state IN ('importing', 'retrying')),
    (SELECT count(*) FROM penstock.due WHERE at <= now()),
    (SELECT count(DISTINCT key) FROM penstock.waiting)";

const PICTURE: &str = "
sites ──────┐
accounts ───┤ awaited by, and joined with
            ▼
posts ──► posts ──┬──► post_lines       a row for each line of an order
                  ├──► post_cards       cards.py
                  └──► post_languages   language.py, slow: with a queue and a pool of its own
";

const WAITING: &str = "SELECT key, lookup, value, since::text FROM penstock.waiting";

/// What waited, by object and awaited column, `$waits` being all that was seen in `penstock.waiting`.
const COMPLETED: &str = r#"WITH began AS (
    SELECT min(first_seen_at) AS at FROM penstock.object_status
),
waited AS (
    SELECT * FROM jsonb_to_recordset($waits::jsonb) AS w (key text, lookup text, value text, since timestamptz)
),
named AS (
    SELECT 'public.site.site_id' AS lookup, site_id::text AS value, 'sites/' || from_file AS key FROM public.site
    UNION ALL
    SELECT 'public.account.user_id', user_id::text, 'accounts/' || from_file FROM public.account
),
stands AS (
    SELECT o.key, o.imported_at FROM penstock.head h JOIN penstock.object_status o ON o.id = h.object_id
    WHERE h.dataset IN ('posts', 'sites', 'accounts')
),
by_object AS (
    SELECT w.key, w.lookup, min(w.since) AS since, max(found.imported_at) AS arrived_at,
           bool_and(found.imported_at IS NOT NULL) AS have_arrived, max(whole.imported_at) AS complete_at,
           string_agg(w.value, ' ' ORDER BY w.value::int) AS keys
    FROM waited w
    JOIN stands whole ON whole.key = w.key
    LEFT JOIN named n ON (n.lookup, n.value) = (w.lookup, w.value)
    LEFT JOIN stands found ON found.key = n.key
    GROUP BY 1, 2
)
SELECT substring(key FROM '[^/]+$') AS object,
       split_part(lookup, '.', 3) AS "waited for",
       CASE WHEN length(keys) > 24 THEN left(keys, 23) || '…' ELSE keys END AS keys,
       to_char(extract(epoch FROM since - at), '990.0" s"') AS since,
       CASE WHEN have_arrived THEN to_char(extract(epoch FROM arrived_at - at), '990.0" s"') ELSE 'never' END AS arrived,
       CASE WHEN bool_and(have_arrived) OVER (PARTITION BY key)
            THEN to_char(extract(epoch FROM complete_at - since), '990.0" s"') ELSE 'gave up' END AS "complete after"
FROM by_object, began ORDER BY key, lookup"#;

/// How many importers each pool has at one moment.
type Sample = [u64; 2];

/// Runs the example; returns whether the tables equal the model.
pub async fn demo(stage: &Stage) -> Result<bool> {
    let example = Example::set(&stage.database, &stage.pipeline, &stage.scratch, 1, OBJECTS).await?;
    let config = stage.scratch.write("importer.toml", example.importer_config(&stage.database, PACE)?)?;
    let logs = stage.scratch.path();
    let scaler = example.scaler_config(&stage.database, &config, PAUSE_MS, logs)?;
    let scaler = stage.scratch.write("scaler.toml", scaler)?;
    let migrate = Program::new("importer").arg("migrate").arg("--config").arg(&config);
    let migrated = migrate.envs(stage.pipeline.account.variables()).run(LIMIT).await?;
    ensure!(migrated.status.success(), "importer migrate:\n{}", migrated.stderr);

    report::step("the pipeline: examples/pipeline/importer.toml");
    report::indented(PICTURE);

    report::step("starting the scaler: both queues are empty, so there is no importer at all");
    let pool = Pool::start(&scaler, &stage.pipeline)?;

    let uploads = example.uploads()?;
    report::step(&format!(
        "uploading {} objects; some sites come {} s after the posts that name them, some accounts {} s",
        uploads.len(),
        LATE[0].as_secs(),
        LATE[1].as_secs()
    ));
    let ((), (samples, waits)) = tokio::try_join!(upload(&example, &uploads), watch(stage, &example, &pool))?;
    pool.stop().await?;

    report::step("what waited for what (penstock.waiting), in seconds since the first upload");
    report::print_table(stage, &COMPLETED.replace("$waits", &literal(&waits.to_string()))).await?;
    report::step(&format!("importers in each pool, every {} s", SAMPLES_A_DIGIT / 2));
    for (index, name) in ["live", "slow"].into_iter().enumerate() {
        println!("  {name}  {}", digits(samples.iter().map(|sample| sample[index])));
    }
    report::step("the notices that came; the configuration asks for one in 15 minutes of each event and dataset");
    notices(&example).await?;

    let comparison = example.comparison()?;
    report::step("the tables beside the model in Python (examples/pipeline/model.py)");
    report::print_table(stage, &comparison).await?;
    let differing = format!("SELECT coalesce(sum(too_many + missing), 0) FROM ({comparison}) compared");
    let differing = stage.database.value(&differing).await?;
    println!("\n  {}", if differing == "0" { "equal, row by row" } else { "NOT EQUAL" });
    Ok(differing == "0")
}

/// Puts the objects into the bucket: first all but what comes late, which is the newer versions and the second day's sites
/// and accounts.
async fn upload(example: &Example, uploads: &[Upload]) -> Result<()> {
    let began = Instant::now();
    let is_overwritten = |key: &str| uploads.iter().any(|upload| upload.is_overwritten && upload.key == key);
    let phase = |upload: &Upload| match upload.key.as_str() {
        key if key.starts_with("accounts/2026-06-02") => 2,
        key if key.starts_with("sites/2026-06-02") || is_overwritten(key) && !upload.is_overwritten => 1,
        _ => 0,
    };
    // What is there in time comes first.
    let (metadata, posts): (Vec<_>, Vec<_>) = uploads.iter().partition(|upload| !upload.key.starts_with("posts/"));
    let in_order = [metadata, posts].concat();
    for number in 0..=LATE.len() {
        if let Some(late) = number.checked_sub(1).map(|index| LATE[index]) {
            tokio::time::sleep(late.saturating_sub(began.elapsed())).await;
        }
        for upload in in_order.iter().filter(|upload| phase(upload) == number) {
            example.live.put_file(&upload.key, &upload.file).await?;
        }
    }
    Ok(())
}

/// Watches until nothing is on its way and no importer is left; returns the samples, and all that waited.
async fn watch(stage: &Stage, example: &Example, pool: &Pool) -> Result<(Vec<Sample>, Value)> {
    let (began, mut progress, mut samples) = (Instant::now(), Progress::new(), Vec::new());
    let mut waits = BTreeMap::new();
    let mut connection = stage.database.connect().await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        pool.check()?;
        let (live, slow) = (example.live.depth().await?, example.slow.depth().await?);
        let moment = sqlx::query(MOMENT).bind(&example.live.queue_url).bind(&example.slow.queue_url);
        let moment = moment.fetch_one(&mut connection).await?;
        let numbers = (0..5).map(|column| Ok(moment.try_get::<i64, _>(column)?.unsigned_abs()));
        let [n_live, n_slow, n_unsettled, n_due, n_waiting] = numbers.collect::<Result<Vec<u64>>>()?[..] else {
            anyhow::bail!("a moment has five numbers");
        };
        for row in sqlx::query(WAITING).fetch_all(&mut connection).await? {
            let (key, lookup, value): (String, String, Option<String>) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            let since: String = row.try_get(3)?;
            // The newer version of an object waits for itself.
            waits.insert((key, lookup, value), since);
        }
        samples.push([n_live, n_slow]);
        let depth = live.visible + live.in_flight + slow.visible + slow.in_flight;
        progress.show(format!(
            "  {:5.1} s  live: queue {:3}, importers {n_live}   slow: queue {:3}, importers {n_slow}   objects that wait for keys: {n_waiting}",
            began.elapsed().as_secs_f64(),
            live.visible + live.in_flight,
            slow.visible + slow.in_flight,
        ))?;
        let is_uploaded = began.elapsed() > LATE[1] + INTERVAL;
        if is_uploaded && depth + n_live + n_slow + n_unsettled + n_due + n_waiting == 0 {
            progress.end();
            break;
        }
        ensure!(began.elapsed() < LIMIT, "after {} s something is still on its way", LIMIT.as_secs());
    }
    let waits = waits
        .into_iter()
        .map(|((key, lookup, value), since)| json!({"key": key, "lookup": lookup, "value": value, "since": since}));
    Ok((samples, waits.collect()))
}

/// Prints the notices in the order in which they came.
async fn notices(example: &Example) -> Result<()> {
    for notice in example.notices.take_all().await? {
        let notice: Value = serde_json::from_str(&notice.body).context("a notice")?;
        let text = |name: &str| notice[name].as_str().unwrap_or_default();
        let more = match (text("reason"), notice["counts"]["rejected"].as_u64(), &notice["lookups"]) {
            ("", _, Value::Array(lookups)) => format!("waited in vain for {}", lookups[0].as_str().unwrap_or_default()),
            ("", Some(rejected), _) => format!("bad rows: {rejected}"),
            (reason, ..) => reason.to_owned(),
        };
        println!("  {:8}  {:14}  {}: {more}", text("event"), text("dataset"), text("key"));
        println!("            {}", text("do"));
    }
    Ok(())
}

/// Returns the largest number of each two seconds as a digit, `·` for none.
fn digits(numbers: impl Iterator<Item = u64>) -> String {
    let numbers: Vec<u64> = numbers.collect();
    let largest = numbers.chunks(SAMPLES_A_DIGIT).map(|chunk| chunk.iter().copied().max().unwrap_or(0));
    largest.map(|number| char::from_digit(number.min(9) as u32, 10).filter(|_| number > 0).unwrap_or('·')).collect()
}

#[cfg(test)]
mod tests {
    use super::digits;

    #[test]
    fn a_digit_is_the_most_of_two_seconds() {
        assert_eq!(digits([0, 0, 0, 0, 1, 2, 1, 0, 12].into_iter()), "·29");
    }
}
