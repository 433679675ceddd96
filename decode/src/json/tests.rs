use super::*;
use crate::{
    Column, MAX_PAYLOAD_BYTES, MappingSpec, OnNewField,
    encode::PgType,
    trial::{BrokenStream, Memory, Read, column, options, read, text_column},
};
use proptest::prelude::*;
use std::io::{BufReader, Cursor};

#[test]
fn values_arrive_as_they_were_written() {
    let rows = lines(r#"{"a":9007199254740993,"b":1.10,"c":"x\u00e9\n","d":true}"#, "a b c d");
    assert_eq!(rows.rows, ["1 | 9007199254740993 | 1.10 | xé\n | true"]);
    let rows = lines(r#"{"a":null,"b":{"k":[1, 2]},"c":[ ],"d":1e5}"#, "a b c d");
    assert_eq!(rows.rows, [r#"1 | ~ | {"k":[1, 2]} | [ ] | 1e5"#]);
}

#[test]
fn jsonb_takes_any_value_and_null_is_null() {
    let text = "{\"j\":\"s\"}\n{\"j\":1.0}\n{\"j\":null}\n{}\n{\"j\":{\"a\":1}}";
    let found = read_with(text, Format::Ndjson, &[column("j", PgType::Jsonb)], OnNewField::Ignore);
    assert_eq!(found.rows, ["1 | \"s\"", "2 | 1.0", "3 | ~", "4 | ~", "5 | {\"a\":1}"]);
}

#[test]
fn blank_lines_are_no_rows_and_the_last_line_needs_no_end() {
    let found = lines("\u{feff}{\"a\":1}\r\n\n \t\r\n{\"a\":2}\n\n{\"a\":3}", "a");
    assert_eq!(found.rows, ["1 | 1", "2 | 2", "3 | 3"]);
    assert_eq!(lines("", "a").rows, [""; 0]);
    assert_eq!(lines("\n \n", "a").rows, [""; 0]);
}

#[test]
fn a_bad_line_is_a_reject_and_the_rows_around_it_load() {
    let text =
        "{\"a\":1}\n{\"a\":\n[1]\n{\"a\":2}x\n{\"a\":01}\n{\"a\":NaN}\n{\"a\":Infinity}\n7\n{\"a\":1e999}\n{\"a\":3}\n";
    let found = lines(text, "a");
    assert_eq!(found.rows, ["1 | 1", "9 | 1e999", "10 | 3"]);
    let rejects: Vec<_> = (2..9).map(|row| format!("{row} syntax")).collect();
    assert_eq!(found.rejects, rejects);
    assert_eq!(found.payloads[0], (b"{\"a\":".to_vec(), 5));
    assert_eq!(found.messages[0], "expected a value at byte 6");
}

#[test]
fn a_line_that_is_too_long_is_a_reject_with_its_start_and_true_length() {
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(3 << 20));
    let found = lines(format!("{{\"a\":1}}\n{long}\n{{\"a\":2}}\n{long}"), "a");
    assert_eq!(found.rows, ["1 | 1", "3 | 2"]);
    assert_eq!(found.rejects, ["2 row_size", "4 row_size"]);
    for (payload, length) in &found.payloads {
        assert_eq!((payload.as_slice(), *length), (&long.as_bytes()[..MAX_PAYLOAD_BYTES], long.len() as u64));
    }
    let just_fits = format!("{{\"a\":\"{}\"}}", "x".repeat((1 << 20) - 8));
    assert_eq!(lines(&just_fits, "a").rows.len(), 1);
}

#[test]
fn deep_nesting_is_a_reject_wherever_it_stands() {
    let nested = |depth: usize| format!("{{\"a\":1,\"b\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
    let found = lines([nested(63), nested(64), nested(200_000), nested(1)].join("\n"), "a");
    assert_eq!(found.rows, ["1 | 1", "4 | 1"]);
    assert_eq!(found.rejects, ["2 depth", "3 depth"]);
}

#[test]
fn what_is_no_text_is_a_reject_only_where_it_is_used() {
    let text: &[u8] = b"{\"a\":\"\xff\"}\n{\"b\":\"\xff\\ud800\",\"a\":1}\n{\"a\":\"\\ud800\"}\n{\"a\":\"\\u0000\"}\n{\"a\":\"\xff\",\"a\":2}\n{\"\xff\":1}\n{\"\\ud800\":1}\n{\"a\":[\"\xff\"]}";
    let found = lines(text, "a");
    assert_eq!(found.rows, ["2 | 1", "5 | 2"]);
    assert_eq!(found.rejects, ["1 text a", "3 text a", "4 text a", "6 text", "7 text", "8 text a"]);
}

#[test]
fn of_a_field_named_twice_the_last_value_stays() {
    let found = lines("{\"a\":1,\"a\":2}\n{\"a\":1,\"\\u0061\":3}\n{\"a\":1,\"a\":null}", "a");
    assert_eq!(found.rows, ["1 | 2", "2 | 3", "3 | ~"]);
}

#[test]
fn fields_may_come_in_any_order_and_be_missing() {
    let text = "{\"a\":1,\"b\":2,\"c\":3}\n{\"c\":3,\"a\":1}\n{\"b\":2}\n{\"a\":1,\"b\":2,\"c\":3}\n{\"x\":0,\"c\":3,\"b\":2}\n{}";
    let found = lines(text, "a b c");
    assert_eq!(
        found.rows,
        ["1 | 1 | 2 | 3", "2 | 1 | ~ | 3", "3 | ~ | 2 | ~", "4 | 1 | 2 | 3", "5 | ~ | 2 | 3", "6 | ~ | ~ | ~"]
    );
    assert_eq!(found.new_fields, [Field { name: "x".into(), nested: false }]);
}

#[test]
fn an_object_that_shares_no_field_with_the_table_fails() {
    let fails = |text: &str| {
        let Err(error) = document(text, "a") else { panic!("{text}: it was read") };
        assert_eq!(error.to_string(), "schema: no field matches a column of the table", "{text}");
    };
    fails("{\"x\":1}\n{\"y\":2}\n");
    fails("[{\"x\":1},{}]");
    fails("{\"x\":1}\nno row\n");
    // One row among others may be of defaults, and what cannot be read shows nothing.
    assert_eq!(lines("{\"x\":1}\n{\"a\":2}\n", "a").rows, ["1 | ~", "2 | 2"]);
    assert_eq!(lines("no row\n", "a").rejects, ["1 syntax"]);
    // Where no row is good anyway, the rejects say why.
    let mut key = text_column("a");
    key.not_null = true;
    let found = read_with("{\"x\":[{\"a\":1}]}\n", Format::Auto, &[key], OnNewField::Ignore);
    assert_eq!(found.rejects, ["1 not_null a"]);
}

#[test]
fn rows_that_share_a_line_load_whatever_is_declared() {
    let long = "{\"a\":1}".repeat(1 << 18);
    for declared in [Format::Auto, Format::Ndjson, Format::Json] {
        let rows = |text: &str| read_with(text, declared, &[text_column("a")], OnNewField::Ignore).rows;
        assert_eq!(rows("{\"a\":1}{\"a\":2} {\"a\":3}"), ["1 | 1", "2 | 2", "3 | 3"], "{declared:?}");
        assert_eq!(rows("{\"a\":1}\n{\"a\":2}{\"a\":3}\n"), ["1 | 1", "2 | 2", "3 | 3"], "{declared:?}");
        assert_eq!(rows(&long).len(), 1 << 18, "{declared:?}");
    }
    let found = lines("{\"a\":1}{\"a\":\n{\"a\":2}\n", "a");
    assert_eq!((found.rows, found.rejects), (vec!["2 | 2".to_owned()], vec!["1 syntax".to_owned()]));
}

#[test]
fn carriage_returns_alone_end_lines_too() {
    for declared in [Format::Auto, Format::Ndjson] {
        let found =
            read_with("{\"a\":1}\r{\"a\":\r\r{\"a\":2}\r{\"a\":3}", declared, &[text_column("a")], OnNewField::Ignore);
        assert_eq!(found.rows, ["1 | 1", "3 | 2", "4 | 3"], "{declared:?}");
        assert_eq!(found.rejects, ["2 syntax"], "{declared:?}");
    }
}

#[test]
fn a_document_is_one_whatever_its_name() {
    for text in [
        "{\n  \"a\": 1\n}\n{\n  \"a\": 2\n}\n",
        "{ \"a\": 1,\r\n \"x\": [\r\n1]}\r\n{\"a\":2}",
        "[\n  {\"a\": 1},\n  {\"a\": 2}\n]\n",
        "[{\"a\":1},{\"a\":2}]",
        "{\"x\": {\n  \"y\": 1}, \"a\": 1}\n{\"a\":2}\n",
    ] {
        assert_eq!(lines(text, "a").rows, ["1 | 1", "2 | 2"], "{text}");
    }
    // A torn line is no document.
    let found = lines("{\"a\":1,\n{\"a\":2}\n", "a");
    assert_eq!((found.rows, found.rejects), (vec!["2 | 2".to_owned()], vec!["1 syntax".to_owned()]));
    assert_eq!(lines("[1]\n{\"a\":2}\n", "a").rejects, ["1 syntax"]);
}

fn placed(rows: Option<&str>, fields: &[(&str, &str)]) -> ReadOptions {
    let pointer = |text: &str| text.parse::<Pointer>().expect("a pointer");
    let fields = fields.iter().map(|(name, place)| ((*name).to_owned(), pointer(place))).collect();
    ReadOptions { json: JsonOptions { rows: rows.map(pointer), fields }, ..options() }
}

fn rows_at(text: &str, rows: &str) -> Result<Vec<String>, DecodeError> {
    let input = Box::new(Cursor::new(text.to_owned()));
    let opened = open(input, Format::Ndjson, &placed(Some(rows), &[]));
    let found = read(opened, &[text_column("a")], OnNewField::Ignore)?;
    Ok(found.rows.into_iter().chain(found.rejects).collect())
}

#[test]
fn rows_are_found_where_a_pointer_says() {
    let long = format!("{{\"x\":\"{}\",\"rows\":[{{\"a\":1}}]}}", "]}".repeat(2 << 20));
    for (text, rows) in [
        ("{\"v\":[{\"rows\":[9]}],\"rows\":[{\"a\":1},{\"a\":2}],\"z\":{\"rows\":3}}", "/rows"),
        ("{\"rows\":[{\"a\":1}]}\n\n{\"rows\":[]}{\"rows\": null, \"n\":1}{\"rows\":[{\"a\":2}]}", "/rows"),
        ("{\"x\":{\"y/~z\":[[1,\"],\"],[{\"a\":1},{\"a\":2}]],\"q\":[\"}\"]}}\n", "/x/y~1~0z/1"),
        ("{\"\\u0072ows\" : [ {\"a\":1} , {\"a\":2} ] }", "/rows"),
    ] {
        assert_eq!(rows_at(text, rows).expect(text), ["1 | 1", "2 | 2"], "{text}");
    }
    assert_eq!(rows_at(&long, "/rows").expect("rows"), ["1 | 1"]);
    assert_eq!(rows_at("{\"r\":[{\"a\":1},{\"a\" 2},7]}", "/r").expect("rows"), ["1 | 1", "2 syntax", "3 syntax"]);
    assert_eq!(rows_at("", "/r").expect("nothing"), [""; 0]);
    for (text, problem) in [
        ("{\"r\":[{\"a\":1}]}{\"x\":1}", "nothing at \"/r\" in a JSON document"),
        ("{\"r\":{\"a\":1}}", "no array at \"/r\" in a JSON document"),
        ("[1]", "nothing at \"/r\" in a JSON document"),
        ("{\"r\":[{\"a\":1}]", "JSON document ends early"),
        ("{\"r\":[{\"a\":1}", "JSON array ends early"),
        ("{\"x\":[1", "JSON document ends early"),
        ("{\"x\" 1}", "a JSON member's name without a colon after it"),
    ] {
        assert_eq!(rows_at(text, "/r").expect_err(text).to_string(), format!("corrupt: {problem}"), "{text}");
    }
    for pointer in ["", "r", "/a~2", "/~"] {
        assert!(pointer.parse::<Pointer>().is_err(), "{pointer}");
    }
}

#[test]
fn a_field_may_be_a_nested_members() {
    let fields = placed(None, &[("a", "/user/name"), ("b", "/tags/1"), ("c", "/user/at/0")]);
    let text = "{\"user\":{\"name\":1,\"name\":\"x\\ty\",\"at\":[{\"k\":1}]},\"tags\":[1,2.50],\"a\":0}\n\
                {\"user\":7,\"tags\":[1],\"a\":\"own\"}\n{\"\\u0075ser\":{\"name\":null},\"a\":3}";
    let columns: Vec<_> = ["a", "b", "c"].map(text_column).into();
    let opened = open(Box::new(Cursor::new(text)), Format::Auto, &fields);
    let found = read(opened, &columns, OnNewField::Ignore).expect("rows");
    assert_eq!(found.rows, ["1 | x\ty | 2.50 | {\"k\":1}", "2 | own | ~ | ~", "3 | ~ | ~ | ~"]);
    let columns = [text_column("b"), column("extra", PgType::Jsonb)];
    let opened = open(Box::new(Cursor::new("{\"user\":{\"name\":1}}")), Format::Auto, &fields);
    let found = read(opened, &columns, OnNewField::Extras).expect("rows");
    assert_eq!(found.rows, ["1 | ~ | {\"user\":{\"name\":1},\"a\":1}"]);
}

#[test]
fn seen_columns_are_those_that_some_row_had() {
    let found = lines("{\"a\":1}\n{\"c\":null,\"x\":1}", "a b c");
    assert_eq!(found.seen, [true, false, true]);
}

#[test]
fn extras_are_collected_as_written() {
    let columns = [text_column("a"), column("extra", PgType::Jsonb)];
    let text = "{\"x\\u0079\":1.10,\"a\":1,\"z\":{\"q\":[]},\"extra\":2}\n{\"a\":2}";
    let found = read_with(text, Format::Ndjson, &columns, OnNewField::Extras);
    assert_eq!(found.rows, [r#"1 | 1 | {"x\u0079":1.10,"z":{"q":[]},"extra":2}"#, "2 | 2 | ~"]);
    assert_eq!(found.seen, [true, true]);
    let nested = |name: &str, nested| Field { name: name.into(), nested };
    assert_eq!(found.new_fields, [nested("xy", false), nested("z", true), nested("extra", false)]);
}

#[test]
fn a_new_field_rejects_its_row_where_that_is_wanted() {
    let found = read_with("{\"a\":1,\"x\":2}\n{\"a\":2}", Format::Ndjson, &[text_column("a")], OnNewField::Reject);
    assert_eq!(found.rows, ["2 | 2"]);
    assert_eq!(
        (found.rejects, found.messages),
        (vec!["1 new_field".into()], vec!["no column takes field \"x\"".into()])
    );
}

#[test]
fn new_fields_are_bounded_whatever_the_rows_bring() {
    let text: String = (0..10_000).map(|i| format!("{{\"f{i}\":1,\"a\":{i}}}\n")).collect();
    let found = lines(&text, "a");
    assert_eq!(found.rows.len(), 10_000);
    assert_eq!(found.rows[9_999], "10000 | 9999");
    assert_eq!(found.new_fields.len(), 50);
}

#[test]
fn a_document_is_an_array_or_objects() {
    for text in [
        "[{\"a\":1},{\"a\":2}]",
        "\u{feff} [ {\"a\":1}\n,\n{\"a\":2} ] \n",
        "[{\"a\":1}]\n[{\"a\":2}]",
        "{\"a\":1}{\"a\":2}",
        "{\n \"a\":1\n}\n{\n \"a\":2\n}",
        "{\"a\":1}\n{\"a\":2}",
    ] {
        assert_eq!(document(text, "a").expect(text).rows, ["1 | 1", "2 | 2"], "{text}");
    }
    assert_eq!(document("[]", "a").expect("an array").rows, [""; 0]);
    assert_eq!(document("{\n\"a\":\n{\"b\":1}\n}", "a").expect("an object").rows, ["1 | {\"b\":1}"]);
}

#[test]
fn a_malformed_element_is_a_reject() {
    let deep = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let long = format!("{{\"a\":\"{}\"}}", "]}".repeat(1 << 20));
    let text = format!("[{{\"a\":1}},{{\"a\" 2}},7,\"s,]\",[{{}}],{deep},{long},{{\"a\":[}}],{{\"a\":8}}]");
    let found = document(&text, "a").expect("a framed array");
    assert_eq!(found.rows, ["1 | 1", "9 | 8"]);
    assert_eq!(found.rejects, ["2 syntax", "3 syntax", "4 syntax", "5 syntax", "6 depth", "7 row_size", "8 syntax"]);
    assert_eq!(found.payloads[5].1, long.len() as u64);
}

#[test]
fn a_document_that_ends_early_or_comes_apart_is_corrupt() {
    for text in [
        "[{\"a\":1},{\"a\":2}",
        "[{\"a\":1},",
        "[{\"a\":1},{\"a\":",
        "[",
        "[{\"a\":1} {\"a\":2}]",
        "[{\"a\":1},]",
        "[,]",
        "[{\"a\":1}] x",
        "{\"a\":\n{\"b\":1}",
        "hello",
    ] {
        assert!(matches!(document(text, "a"), Err(DecodeError::Corrupt(_))), "{text}");
    }
}

#[test]
fn lines_called_json_stay_lines_when_one_is_bad() {
    for text in [
        "{\"a\":1}\n{\"a\":\n{\"a\":3}",
        "{\"a\":1}x\n{\"a\":2}\n{\"a\":3}",
        "{\"a\":\"1\n{\"a\":2}\n{\"a\":3}",
        "{\"a\":1\n{\"a\":2}\n{\"a\":3}",
        "{\"a\":01}\n{\"a\":2}\n{\"a\":3}",
    ] {
        let found = document(text, "a").expect(text);
        assert_eq!((found.rows.len(), found.rejects.len()), (2, 1), "{text}");
    }
    let long = format!("{{\"a\":\"{}", "x".repeat(2 << 20));
    let found = document(&format!("{long}\n{{\"a\":2}}"), "a").expect("lines");
    assert_eq!((found.rows, found.rejects), (vec!["2 | 2".into()], vec!["1 row_size".into()]));
}

#[test]
fn an_object_with_bytes_that_are_no_text_loses_one_row() {
    let bytes = b"{\"a\":1}\n{\"a\":\"\xff\"}\n{\"a\":3}\n".to_vec();
    for format in [Format::Auto, Format::Json, Format::Ndjson] {
        let options = ReadOptions { format, ..options() };
        let reader = crate::open(Arc::new(Memory::new(bytes.clone())), &options);
        let found = read(reader, &[text_column("a")], OnNewField::Ignore).expect("lines");
        assert_eq!((found.rows.len(), found.rejects), (2, vec!["2 text a".to_owned()]), "{format:?}");
    }
}

/// Spark's own file, where it is at hand.
#[test]
fn sparks_lines_are_read() {
    let Some(data) = std::env::var_os("PENSTOCK_DATA") else { return };
    let folder = std::path::Path::new(&data).join("spark/json_gz");
    let mut n_rows = 0;
    for file in std::fs::read_dir(folder).expect("the folder").flatten() {
        if file.path().extension().is_some_and(|extension| extension == "gz") {
            let bytes = std::fs::read(file.path()).expect("a file");
            let options = ReadOptions { format: Format::Json, ..options() };
            let columns = [column("event_id", PgType::Int8), column("meta", PgType::Jsonb), text_column("observed_at")];
            let reader = crate::open(Arc::new(Memory::new(bytes)), &options);
            let found = read(reader, &columns, OnNewField::Ignore).expect("a file of Spark's");
            assert_eq!((found.rejects, found.seen), (Vec::<String>::new(), vec![true; 3]));
            n_rows += found.rows.len();
        }
    }
    assert!(n_rows > 0);
}

#[test]
fn a_store_that_fails_is_not_a_corrupt_object() {
    for (text, declared) in
        [("{\"a\":1}\n{\"a\"", Format::Ndjson), ("[{\"a\":1},{", Format::Json), ("{\"a\"", Format::Json)]
    {
        let input = BufReader::new(BrokenStream(Cursor::new(text.into())));
        let found = read(open(Box::new(input), declared, &options()), &[text_column("a")], OnNewField::Ignore);
        assert!(matches!(found, Err(DecodeError::Source(_))), "{text}: {found:?}");
    }
}

#[test]
fn batches_end_when_they_are_full_of_rejects() {
    let text = format!("{}\n", "x".repeat(1000)).repeat(100);
    let mut reader = open(Box::new(Cursor::new(text)), Format::Ndjson, &options()).expect("NDJSON");
    let mut batch = Batch::default();
    assert!(reader.fill(&mut batch, 10_000).expect("rejects"));
    assert!(batch.n_read < 12);
}

#[test]
fn batches_end_within_a_line_that_rows_share() {
    for row in ["{\"a\":1} ", "{\"a\":\"\\u0000\"}"] {
        let text = format!("{{\"a\":1}}\n{}\r\n{{\"a\":2}}", row.repeat(10_000));
        let mut reader = open(Box::new(Cursor::new(text)), Format::Ndjson, &options()).expect("NDJSON");
        let columns = [text_column("a")];
        let spec = MappingSpec {
            columns: &columns,
            rename: &Default::default(),
            captures: &[],
            types: &Default::default(),
            on_new_field: OnNewField::Ignore,
            extras_column: None,
            key: &[],
        };
        reader.set_mapping(Arc::new(Mapping::new(reader.fields(), &spec).expect("a mapping")));
        let mut n_rows = 0;
        loop {
            let mut batch = Batch::default();
            let more = reader.fill(&mut batch, 4096).expect("rows");
            assert!(batch.size() < 8192, "{} bytes at once", batch.size());
            n_rows += batch.n_read;
            if !more {
                break;
            }
        }
        assert_eq!(n_rows, 10_002);
    }
}

proptest! {
    #[test]
    fn any_bytes_come_to_an_end(bytes: Vec<u8>, declared in prop_oneof![Just(Format::Json), Just(Format::Ndjson)]) {
        let _ = read(open(Box::new(Cursor::new(bytes)), declared, &options()), &[text_column("a")], OnNewField::Extras);
    }

    #[test]
    fn any_json_like_text_comes_to_an_end(text in r#"[\[\]{}",:\\\n a0é]{0,60}"#) {
        for declared in [Format::Json, Format::Ndjson] {
            let input = Box::new(Cursor::new(text.clone().into_bytes()));
            let _ = read(open(input, declared, &options()), &[text_column("a")], OnNewField::Ignore);
        }
    }

    #[test]
    fn lines_document_and_array_say_the_same(values in prop::collection::vec(any::<(i64, String)>(), 1..20)) {
        let rows: Vec<_> = values.iter().map(|(a, b)| serde_json::json!({"a": a, "b": b}).to_string()).collect();
        let expected: Vec<_> = values.iter().enumerate().filter(|(_, (_, b))| !b.contains('\0'))
            .map(|(row, (a, b))| format!("{} | {a} | {b}", row + 1)).collect();
        for text in [rows.join("\n"), format!("[{}]", rows.join(",")), rows.concat()] {
            prop_assert_eq!(&document(&text, "a b").expect("JSON").rows, &expected);
        }
    }
}

fn lines(text: impl AsRef<[u8]>, columns: &str) -> Read {
    let columns: Vec<_> = columns.split(' ').map(text_column).collect();
    read_with(text, Format::Ndjson, &columns, OnNewField::Ignore)
}

fn document(text: &str, columns: &str) -> Result<Read, DecodeError> {
    let columns: Vec<_> = columns.split(' ').map(text_column).collect();
    read(open(Box::new(Cursor::new(text.to_owned())), Format::Json, &options()), &columns, OnNewField::Ignore)
}

fn read_with(text: impl AsRef<[u8]>, declared: Format, columns: &[Column], on_new_field: OnNewField) -> Read {
    let input = Box::new(Cursor::new(text.as_ref().to_vec()));
    read(open(input, declared, &options()), columns, on_new_field).expect("lines are never corrupt")
}
