//! What producers and others write is shown as what it is.

use super::stand::{Stand, decided, object, seen};
use anyhow::Result;
use penstock_tests::database::literal;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// Markup, what leaves an attribute, what turns the direction, what a terminal acts on, and the longest key.
fn names() -> Vec<String> {
    [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'; rm -rf ~ #",
        "\u{202e}txt.exe",
        "a\u{1b}[2Jb",
        "\u{2066}x",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["k".repeat(1024)])
    .collect()
}

/// Puts each name wherever others choose one.
pub fn seed() -> String {
    let mut seed = String::new();
    for (n, name) in names().iter().enumerate() {
        let text = literal(name);
        seed += &object(name, "failed", "schema", name);
        seed += &format!("UPDATE penstock.head SET dataset = left({text}, 63) WHERE key = {text};");
        seed += &format!(
            "UPDATE penstock.object SET reason = {text}, worker = {text}, version_id = {text}, etag = {text}, \
            sequencer = {text}, queue_url = {text}, technique = {text}, recipe = {text}, after = {text}, finished_at = clock_timestamp() \
            WHERE head_id = (SELECT id FROM penstock.head WHERE key = {text});"
        );
        seed += &format!(
            "INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, payload, payload_length) \
            SELECT id, 1, {text}, {text}, {text}, convert_to({text}, 'UTF8'), 9 FROM penstock.object WHERE etag = {text};"
        );
        seed += &format!(
            "INSERT INTO penstock.workers (id, host, pid, version, state, slots, heartbeat_at, visibility_timeout_secs, started_at) \
            VALUES ({text}, {text}, 1, {text}, 'idle', 1, now() - interval '1 hour', 30, now());"
        );
        seed += &format!(
            "INSERT INTO penstock.due_item (kind, target, body, attempts, error) VALUES ('notify', {text}, '{{}}', 1, {text});"
        );
        seed += &format!(
            "INSERT INTO penstock.dataset_minute SELECT left({text}, 63), date_trunc('minute', now()) - interval '2 min', 1, 1, 1, 1, 1, 1, 1, \
                1, 1, 1, now(); \
            INSERT INTO penstock.step (dataset, after, queue) VALUES ({text}, ARRAY[left({text}, 63)], {text}); \
            INSERT INTO penstock.awaited (dataset, field, lookup, schema_name, relation, column_name, fillers) \
                VALUES (left({text}, 63), {text}, {text}, 's', 'r', 'c', ARRAY[{text}]); \
            INSERT INTO penstock.waiting_object (head_id, object_id, since, until, given_up, pointer) \
                SELECT head_id, id, now(), now(), '{{}}', '{{}}' FROM penstock.object WHERE etag = {text}; \
            INSERT INTO penstock.waiting_key (head_id, awaited_id, value_type, again_at) \
                SELECT o.head_id, a.id, 'text', now() FROM penstock.object o, penstock.awaited a WHERE (o.etag, a.field) = ({text}, {text});"
        );
        seed += &decided(&format!("pool{n}"), 1, "deadline", "{}");
        seed += &format!(
            "UPDATE penstock.decisions SET pool = {text}, reason = {text}, explain = {text}, outcome = {text}, applied = false \
            WHERE pool = 'pool{n}'; UPDATE penstock.pool_state SET pool = {text}, leader = {text} WHERE pool = 'pool{n}';"
        );
    }
    seed
}

/// Returns the pages that show them.
pub async fn paths(stand: &Stand) -> Result<Vec<String>> {
    let ids = stand.database.rows("SELECT id FROM penstock.object ORDER BY id").await?;
    let mut paths = vec!["/".to_owned(), "/objects".to_owned(), "/rejects".to_owned(), "/due".to_owned()];
    paths.extend(ids.iter().map(|id| format!("/objects/{id}")));
    for name in names() {
        let encoded = |name: &str| utf8_percent_encode(name, NON_ALPHANUMERIC).to_string();
        paths.push(format!("/datasets/{}", encoded(&name.chars().take(63).collect::<String>())));
        let name = encoded(&name);
        paths.push(format!("/pools/{name}"));
        paths
            .extend([format!("/?pool={name}"), format!("/objects?prefix=landing/{name}&dataset={name}&reason={name}")]);
        paths.push(format!("/rejects?dataset={name}&class={name}&column={name}"));
    }
    // Most names of datasets are as short as they may be.
    paths.dedup();
    Ok(paths)
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_all_kinds_are_shown_as_text_wherever_they_come_from() -> Result<()> {
    let stand = Stand::new(&seed(), "show_values = true").await?;
    for path in paths(&stand).await? {
        let page = stand.page(&path).await?;
        // In a field stands what was asked for, as it is: nothing is around it there.
        let mut parts = page.split(" value=\"");
        let first = parts.next().unwrap_or_default().to_owned();
        let around = parts.fold(first, |text, part| text + part.split_once('"').map_or("", |(_, rest)| rest));
        for raw in ["<script>alert", "<img", "\u{202e}", "\u{2066}", "\u{1b}"] {
            assert!(!around.contains(raw), "{path} has {raw:?}");
        }
        assert!(!page.contains("<script>alert") && !page.contains("<img"), "{path}");
        // What stands in quotes belongs to the attribute before it.
        let tags = page.split('<').filter_map(|tag| tag.split('>').next());
        let names = tags.map(|tag| tag.split('"').step_by(2).collect::<String>());
        let odd: Vec<String> = names.filter(|names| names.contains("onerror")).collect();
        assert!(odd.is_empty(), "{path}: {odd:?}");
        let (place, query) =
            path.split_once('?').map_or((path.as_str(), String::new()), |(place, query)| (place, format!("?{query}")));
        stand.json(&format!("{place}.json{query}")).await?;
    }
    let page = seen(&stand.page("/").await?);
    assert!(page.contains("<script>alert(1)</script>") && page.contains("\\u{202e}txt.exe"), "{page}");
    // Commands stay one line that a shell takes apart as it is meant.
    assert!(
        page.contains("'s3://landing/'\\''; rm -rf ~ #'") && page.contains("$'s3://landing/\\xe2\\x80\\xaetxt.exe'"),
        "{page}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_in_rows_is_shown_where_the_configuration_allows_it_only() -> Result<()> {
    let seed = object("a", "imported", "", "")
        + &object("b", "failed", "command", "the command a.py failed: hunter2")
        + "INSERT INTO penstock.reject (object_id, row_number, class, column_name, message, payload, payload_length) \
           SELECT id, 7, 'range', 'n', 'invalid input: \"hunter2\"', 'hunter2', 7 FROM penstock.object WHERE state = 'imported';";
    for (settings, shown) in [("", false), ("show_values = true", true)] {
        let stand = Stand::new(&seed, settings).await?;
        for path in ["/", "/.json", "/objects/1", "/objects/1.json", "/objects/2", "/objects/2.json"] {
            assert_eq!(stand.page(path).await?.contains("hunter2"), shown, "{path} {settings}");
        }
        assert!(seen(&stand.page("/").await?).contains("1 row rejected d range in column n"));
    }
    Ok(())
}
