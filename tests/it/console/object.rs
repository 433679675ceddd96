//! `/objects/ID`: one version's story.

use super::stand::{Stand, object, seen};
use anyhow::Result;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_s_story_names_its_way_its_rows_and_its_rivals() -> Result<()> {
    let seed = object("orders/a.csv", "imported", "", "")
        + "INSERT INTO penstock.object (head_id, etag, size, state, reason, attempts, started_at, finished_at) \
           SELECT id, 'e2', 9, 'superseded', 'older', 2, now(), now() FROM penstock.head; \
           UPDATE penstock.head SET object_id = 1; \
           INSERT INTO penstock.reject (object_id, row_number, class, column_name, message) VALUES (1, 2, 'range', 'n', 'no');"
        + &object("orders/b.csv", "failed", "schema", "no column x");
    let stand = Stand::new(&seed, "").await?;
    let page = seen(&stand.page("/objects/1").await?);
    for words in [
        "s3://landing/orders/a.csv",
        "Imported: its rows stand in the table.",
        "importer rejects --replay s3://landing/orders/a.csv",
        "Put ",
        "Sent to the queue ",
        "First received ",
        "Committed ",
        "From put to commit 9s",
        "read 3 written: they stand in the table 2",
        "They add up.",
        "2 range n not shown: it may quote a value",
        "e2 d superseded older",
        "e1 (this one) d imported stands",
    ] {
        assert!(page.contains(words), "{words}: {page}");
    }
    assert!(!page.contains("unknown: "), "{page}");
    let page = seen(&stand.page("/objects/2").await?);
    for words in
        ["Not imported, for a newer version was there: older", "unknown: it came without a message", "2 attempts"]
    {
        assert!(page.contains(words), "{words}: {page}");
    }
    let page = seen(&stand.page("/objects/3").await?);
    assert!(page.contains("Failed for good: schema.") && page.contains("no column x"), "{page}");
    assert!(page.contains("importer replay --state failed --dataset d --prefix s3://landing/orders/b.csv"), "{page}");
    let json = stand.json("/objects/1.json").await?;
    assert_eq!(json["value"]["entry"]["rows_written"], 2);
    assert_eq!(json["value"]["versions"].as_array().map(Vec::len), Some(2));
    for path in ["/objects/99", "/objects/99.json", "/objects/x", "/objects/"] {
        assert_eq!(stand.ask(path, &[]).await?.status, 404, "{path}");
    }
    Ok(())
}
