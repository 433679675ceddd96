//! What is searched for and listed: objects, rejects, what is due, a dataset, a pool.

use super::stand::{Stand, decided, object, seen};
use anyhow::{Context as _, Result};
use serde_json::Value;

/// 250 objects `orders/001` to `orders/250`, seen a minute apart, every tenth of them failed, and one of another dataset.
const OBJECTS: &str = "INSERT INTO penstock.head (dataset, bucket, key) \
        SELECT 'orders', 'landing', 'orders/' || lpad(n::text, 3, '0') FROM generate_series(1, 250) n; \
    INSERT INTO penstock.object (head_id, etag, state, reason, first_seen_at, finished_at) \
        SELECT id, 'e', CASE WHEN id % 10 = 0 THEN 'failed' ELSE 'skipped' END, CASE WHEN id % 10 = 0 THEN 'schema' ELSE 'empty' END, \
            now() - interval '250 min' + id * interval '1 min', now() FROM penstock.head ORDER BY id; \
    INSERT INTO penstock.head (dataset, bucket, key) VALUES ('other', 'landing', 'other/1'); \
    INSERT INTO penstock.object (head_id, etag, state) SELECT max(id), 'e', 'importing' FROM penstock.head;";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_found_by_every_field_and_page_by_page() -> Result<()> {
    let stand = Stand::new(OBJECTS, "").await?;
    for (query, n, first) in [
        ("", 251, "other/1"),
        ("?prefix=s3://landing/orders/", 250, "orders/001"),
        ("?prefix=landing/orders/02", 10, "orders/020"),
        ("?prefix=landing/orders/02&state=failed", 1, "orders/020"),
        ("?dataset=other", 1, "other/1"),
        ("?state=failed", 25, "orders/250"),
        ("?state=importing", 1, "other/1"),
        ("?reason=empty&dataset=orders", 225, "orders/249"),
        ("?state=failed&since=100m&until=49m", 5, "orders/200"),
        ("?since=10m&dataset=orders", 9, "orders/250"),
        ("?prefix=landing/orders/&until=240m", 10, "orders/001"),
    ] {
        let (mut found, mut next) = (Vec::new(), format!("/objects.json{query}"));
        loop {
            let json = stand.json(&next).await?;
            let page = json["value"]["found"].as_array().context("a page")?.clone();
            assert!(page.len() <= 100, "{query}");
            found.extend(page.iter().map(|entry| entry["key"].as_str().unwrap_or_default().to_owned()));
            match json["next"].as_str() {
                Some(address) => next = address.to_owned(),
                None => break,
            }
        }
        assert!(
            (found.len() as i64 - n).abs() <= i64::from(query.contains("since") || query.contains("until")),
            "{query}: {}",
            found.len()
        );
        assert!(found[0] == first || query.contains("since"), "{query}: {}", found[0]);
        let mut apart = found.clone();
        apart.sort();
        apart.dedup();
        assert_eq!(apart.len(), found.len(), "{query}: none twice");
    }
    let page = stand.page("/objects?prefix=s3://landing/orders/&dataset=orders").await?;
    let text = seen(&page);
    assert!(text.contains("100 entries") && text.contains("s3://landing/orders/001 orders skipped empty"), "{text}");
    assert!(page.contains("rel=\"next\"") && page.contains("value=\"s3://landing/orders/\""));
    let wrong = stand.ask("/objects?since=yesterday", &[]).await?;
    assert!(wrong.status == 400 && wrong.body.contains("since: "), "{}", wrong.body);
    assert!(seen(&stand.page("/objects?dataset=none").await?).contains("There is none."));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_one_key_stay_together_and_none_is_left_out() -> Result<()> {
    let many = "INSERT INTO penstock.head (dataset, bucket, key) SELECT 'd', 'b', 'k' || n FROM generate_series(1, 4) n; \
        INSERT INTO penstock.object (head_id, etag, state) SELECT h.id, 'e' || n, 'superseded' \
        FROM penstock.head h, generate_series(1, 40) n;";
    let stand = Stand::new(many, "").await?;
    let (mut n, mut next) = (0, "/objects.json?prefix=b/k".to_owned());
    loop {
        let json = stand.json(&next).await?;
        n += json["value"]["found"].as_array().map_or(0, Vec::len);
        match json["next"].as_str() {
            Some(address) => next = address.to_owned(),
            None => break,
        }
    }
    assert_eq!(n, 160);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rejects_are_listed_by_what_is_wrong_and_then_row_by_row() -> Result<()> {
    let seed = object("a.csv", "imported", "", "")
        + "INSERT INTO penstock.reject (object_id, row_number, class, column_name, message) \
           SELECT 1, n, CASE WHEN n % 2 = 0 THEN 'range' ELSE 'constraint' END, CASE WHEN n % 2 = 0 THEN 'n' END, \
               'violates check constraint \"positive\"' FROM generate_series(1, 20) n;";
    let stand = Stand::new(&seed, "").await?;
    let page = seen(&stand.page("/rejects").await?);
    for words in
        ["d range n 10", "d constraint – 10", "constraint positive", "s3://landing/a.csv", "importer rejects --replay"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let page = seen(&stand.page("/rejects?dataset=d&class=range&column=n").await?);
    assert!(
        page.contains("Of d range in column n") && page.contains("s3://landing/a.csv 2 constraint positive"),
        "{page}"
    );
    let json = stand.json("/rejects.json?dataset=d&class=constraint").await?;
    assert_eq!(json["rows"]["value"].as_array().map(Vec::len), Some(5), "of one object");
    let empty = Stand::new("", "").await?;
    assert!(seen(&empty.page("/rejects").await?).contains("None."));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_due_says_what_refuses() -> Result<()> {
    let seed = "INSERT INTO penstock.notification (name, target, events) VALUES ('ops', 'arn:aws:sns:eu-west-1:1:ops', '{failed}'); \
        INSERT INTO penstock.due_item (kind, target, event, body, attempts, error) \
            SELECT 'notify', 'ops', 'failed', '{}', 3, 'AuthorizationError' FROM generate_series(1, 130); \
        INSERT INTO penstock.due_item (at, kind, target, body) VALUES (now() + interval '1 hour', 'step', 'lines', '{}'); \
        INSERT INTO penstock.recheck_item (lookup) VALUES ('public.site.id');";
    let stand = Stand::new(seed, "").await?;
    let page = stand.page("/due").await?;
    let text = seen(&page);
    for words in [
        "ops arn:aws:sns:eu-west-1:1:ops notify 130 130 130",
        "AuthorizationError",
        "lines step 1 0 0",
        "public.site.id recheck 1",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let next =
        page.split("rel=\"next\" href=\"").nth(1).and_then(|rest| rest.split('"').next()).context("a next page")?;
    let second = stand.json(&next.replace("/due?", "/due.json?")).await?;
    assert_eq!(second["value"]["items"].as_array().map(Vec::len), Some(31));
    let problems = stand.json("/now.json").await?["problems"]["value"].clone();
    let unsent = problems.as_array().and_then(|all| all.iter().find(|problem| problem["kind"] == "unsent")).cloned();
    assert_eq!(unsent.map(|problem| problem["n"].clone()), Some(Value::from(130)));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dataset_is_drawn_with_what_became_of_its_objects_and_who_waits_for_whom() -> Result<()> {
    let seed = object("a.csv", "failed", "schema", "no column x")
        + "INSERT INTO penstock.dataset_minute SELECT 'd', date_trunc('minute', now()) - n * interval '1 min', 10, 1, 2, 0, 3, 500, 7, 9000, \
               1.5, 4.5, now() FROM generate_series(1, 50) n; \
           INSERT INTO penstock.step (dataset, after, queue) VALUES ('lines', '{d}', 'slow'); \
           INSERT INTO penstock.awaited (dataset, field, lookup, schema_name, relation, column_name, fillers) \
               VALUES ('d', 'site', 'public.site.id', 'public', 'public.site', 'id', '{sites}');";
    let stand = Stand::new(&seed, "").await?;
    let page = stand.page("/datasets/d?span=1h").await?;
    let text = seen(&page);
    for words in [
        "500 objects imported, 150 failed, 25,000 rows written, 350 rejected",
        "1 object failed d schema",
        "lines follows d , by queue slow",
        "d awaits keys of field site in public.site.id , which sites fill: 0 keys wait now",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(page.matches("<rect").count() > 100, "bars");
    let json = stand.json("/datasets/d.json?span=1h").await?;
    assert_eq!(json["value"]["intervals"].as_array().map(Vec::len), Some(50));
    let none = stand.ask("/datasets/none", &[]).await?;
    assert!(none.status == 404 && seen(&none.body).contains("Nothing of it is known."), "{}", none.body);
    assert_eq!(stand.ask("/datasets/none.json", &[]).await?.status, 404);
    // Of this one there is only an object, which came without a queue.
    stand.database.execute("INSERT INTO penstock.head (dataset, bucket, key) VALUES ('old', 'b', 'k')").await?;
    assert_eq!(stand.ask("/datasets/old", &[]).await?.status, 200);
    let now = stand.json("/now.json").await?;
    assert_eq!(now["datasets"]["value"][0]["lag_p95"], 4.5);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_s_decisions_guards_and_workers_are_shown() -> Result<()> {
    let inputs = r#"{"pool": {"starting": 1, "idle": 0, "busy": 2, "draining": 0}, "queue": {"visible": 7, "in_flight": 2}, "want": 20,
        "start_up_secs": 45, "job_secs": 2.5, "arrivals_per_sec": 0.5,
        "bounds": [{"guard": "growth_gate", "reason": "growth_gate", "at_most": 16, "why": "beyond the proven 16"}]}"#;
    let seed = decided("importers", 3, "deadline", inputs).replace("now(),", "now() - interval '1 min',")
        + &decided("importers", 16, "growth_gate", inputs)
        + "INSERT INTO penstock.workers (id, host, pid, version, state, slots, in_flight, heartbeat_at, visibility_timeout_secs, started_at, \
               first_receive_at) VALUES ('w-1', 'box', 1, '0.1.0', 'busy', 4, 3, now(), 30, now() - interval '1 hour', \
               now() - interval '1 hour' + interval '42 s');";
    let stand = Stand::new(&seed, "").await?;
    let text = seen(&stand.page("/pools/importers?span=1h").await?);
    for words in [
        "The policy alone would have 20 workers. A start takes 45s, an object 2.5s in its slot; 30 come in a minute.",
        "growth_gate – 16 beyond the proven 16",
        "16 growth_gate Because of growth_gate.",
        "3 deadline Because of deadline.",
        "w-1 box busy 3 of 4",
        "42s 0.1.0",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(stand.json("/pools/importers.json").await?["pool"]["value"]["decisions"].is_array());
    let none = stand.ask("/pools/none", &[]).await?;
    assert!(none.status == 404 && seen(&none.body).contains("No scaler has decided for it."), "{}", none.body);
    Ok(())
}
