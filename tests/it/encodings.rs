//! Databases that are not UTF-8: what their encoding cannot hold costs the row that has it, and nothing else.

use crate::desk::Desk;
use anyhow::Result;

const TABLE: &str = "CREATE TABLE t (id int PRIMARY KEY, v text, w varchar(3))";

#[tokio::test(flavor = "multi_thread")]
async fn a_character_the_databases_encoding_lacks_is_a_reject_with_its_row() -> Result<()> {
    for technique in ["auto", "staged", "direct"] {
        let desk = Desk::in_encoding("LATIN1", TABLE, &dataset("key = [\"id\"]", technique)).await?;
        assert_eq!(desk.load("k.csv", "id,v,w\n1,é,a\n2,5 €,b\n3,c,c\n4,d,€\n").await?, 0, "{technique}");
        assert_eq!(desk.rejects().await?, ["2 text v", "4 text w"], "{technique}");
        assert_eq!(desk.ledger().await?, ["imported 4 = 2 + 0 + 2"], "{technique}");
        let rows = desk.database.rows("SELECT * FROM t ORDER BY id").await?;
        assert_eq!(rows, ["1 | é | a", "3 | c | c"], "{technique}");
        let payloads = "SELECT encode(payload, 'hex') FROM penstock.rejects ORDER BY row_number";
        assert_eq!(desk.database.rows(payloads).await?, [hex("2,5 €,b"), hex("4,d,€")], "{technique}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn such_characters_are_rejects_of_every_format_mode_and_type() -> Result<()> {
    let table = "CREATE TABLE t (id int, v text, doc jsonb, tags text[], mood citext)";
    let table = format!("CREATE EXTENSION IF NOT EXISTS citext; {table}");
    let line = |id, rest: &str| format!("{{\"id\":{id},{rest}}}\n");
    let file = [
        line(1, r#""v":"a","doc":{"a":"é"},"tags":["é"],"mood":"é""#),
        line(2, r#""v":"€""#),
        line(3, r#""doc":{"€":1}"#),
        line(4, r#""doc":{"a":"\u20ac"}"#),
        line(5, r#""tags":["a","€"]"#),
        line(6, r#""mood":"€""#),
    ];
    for encoding in ["LATIN1", "WIN1251", "EUC_JP"] {
        let file = if encoding == "LATIN1" { file.concat() } else { file.concat().replace('é', "e") };
        let euro = i32::from(encoding == "WIN1251"); // Which has the sign, so nothing is wrong with it there.
        let desk = Desk::in_encoding(encoding, &table, &dataset("mode = \"append\"", "auto")).await?;
        assert_eq!(desk.load("k.ndjson", file).await?, 0, "{encoding}");
        let n_rejects = if euro == 1 { 0 } else { 5 };
        let counts = format!("imported 6 = {} + 0 + {n_rejects}", 6 - n_rejects);
        assert_eq!(desk.ledger().await?, [counts], "{encoding}: {:?}", desk.rejects().await?);
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_is_too_long_in_the_databases_bytes_is_a_reject() -> Result<()> {
    let desk = Desk::in_encoding("SQL_ASCII", TABLE, &dataset("key = [\"id\"]", "auto")).await?;
    assert_eq!(desk.load("k.csv", "id,v,w\n1,€,a\n2,b,éé\n3,c,é\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 length w"]);
    assert_eq!(desk.ledger().await?, ["imported 3 = 2 + 0 + 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_rows_lose_those_few_and_more_than_allowed_fail_the_object() -> Result<()> {
    let rows = |bad: &[u32]| {
        let row = |id: u32| format!("{id},{},a\n", if bad.contains(&id) { "€" } else { "e" });
        format!("id,v,w\n{}", (1..=10_000).map(row).collect::<String>())
    };
    let desk = Desk::in_encoding("LATIN1", TABLE, &dataset("key = [\"id\"]", "auto")).await?;
    assert_eq!(desk.load("k.csv", rows(&[1, 2, 5000, 10_000])).await?, 0);
    assert_eq!(desk.rejects().await?, ["1 text v", "2 text v", "5000 text v", "10000 text v"]);
    assert_eq!(desk.database.value("SELECT count(*) FROM t").await?, "9996");
    let all: Vec<u32> = (1..=10_000).collect();
    assert_eq!(desk.load("l.csv", rows(&all)).await?, 3);
    assert_eq!(desk.ledger().await?, ["imported 10000 = 9996 + 0 + 4", "failed(too_many_rejects)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_said_of_a_file_in_characters_the_database_lacks_is_stored_all_the_same() -> Result<()> {
    let desk = Desk::in_encoding("LATIN1", TABLE, &dataset("key = [\"id\"]", "auto")).await?;
    // The message of a reject that decoding finds quotes the value, and the header has the sign.
    assert_eq!(desk.load("k.csv", "id,v,w,€\n1,a,a,1\n€,b,b,2\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 type id"]);
    assert_eq!(desk.load("l.csv", "€,€\n1,2\n").await?, 3);
    assert_eq!(desk.ledger().await?, ["imported 2 = 1 + 0 + 1", "failed(schema)"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn such_rejects_get_a_second_chance_and_still_do_not_fit() -> Result<()> {
    let desk = Desk::in_encoding("LATIN1", TABLE, &dataset("key = [\"id\"]", "auto")).await?;
    assert_eq!(desk.load("k.csv", "id,v,w\n1,a,a\n2,€,b\nx,c,c\n4,d,abcd\n").await?, 0);
    assert_eq!(desk.rejects().await?, ["2 text v", "3 type id", "4 length w"]);
    desk.database.execute("ALTER TABLE t ALTER w TYPE varchar(4)").await?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.rejects().await?, ["2 text v", "3 type id"]);
    assert_eq!(desk.database.rows("SELECT * FROM t ORDER BY id").await?, ["1 | a | a", "4 | d | abcd"]);
    Ok(())
}

fn dataset(how: &str, technique: &str) -> String {
    format!("table = \"t\"\n{how}\nmax_rejects = 5\ntechnique = \"{technique}\"")
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}
