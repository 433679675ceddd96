use super::super::testing::{options, read_rows_with, text_columns};
use super::super::{
    Column, CsvOptions, MappingSpec, OnNewField, ShortRows,
    budget::{Budget, Pool},
};
use super::*;
use crate::encode::PgType;
use proptest::prelude::*;

/// What a test says about a file; the table has the text columns a, b, c.
struct File {
    options: ReadOptions,
    columns: Vec<Column>,
    on_new_field: OnNewField,
    batch_bytes: usize,
}

impl Default for File {
    fn default() -> Self {
        Self {
            options: options(),
            columns: text_columns(&["a", "b", "c"]),
            on_new_field: OnNewField::Ignore,
            batch_bytes: 4096,
        }
    }
}

impl File {
    fn read(&self, content: &[u8]) -> Result<Vec<String>, DecodeError> {
        let input = std::io::Cursor::new(content.to_vec());
        let mut reader =
            open(Box::new(input), &content[..content.len().min(100)], self.options.csv.delimiter, &self.options)?;
        read_rows_with(&mut *reader, &self.columns, self.on_new_field, self.batch_bytes)
    }

    #[track_caller]
    fn check(&self, content: impl AsRef<[u8]>, expected: &[&str]) {
        let rows = self.read(content.as_ref()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(rows, expected);
    }

    #[track_caller]
    fn fails(&self, content: impl AsRef<[u8]>, expected: &str) {
        assert_eq!(self.read(content.as_ref()).expect_err("a failure").to_string(), expected);
    }
}

#[track_caller]
fn check(content: &str, expected: &[&str]) {
    File::default().check(content, expected);
}

#[test]
fn fields_are_found_by_the_headers_names() {
    check("c,a,other\n1,2,3\n4,5,6\n", &["2|1", "5|4"]);
    check("\u{feff}a, b ,\"c\"\n1,2,3", &["1|2|3"]);
    check("a,b,\n1,2,3\n", &["1|2"]);
    check("a\n", &[]);
    check("a", &[]);
    check("", &[]);
    check("\n\n", &[]);
    File::default().fails("a,b,a\n", "schema: fields 1 and 3 have one name");
    check("x,a,x\n1,2,3\n", &["2"]);
    File::default().fails("x,y\n", "schema: no field matches a column of the table (2 fields)");
    File::default().fails(
        "a,\"b\n1,2\n",
        "corrupt: the CSV record at line 1 has a quote that is never closed, and its end cannot be determined",
    );
    File::default().fails(b"a,\xFF\n", "corrupt: field 2 of the header: not text in the file's encoding, from byte 0");
}

#[test]
fn quotes_hold_delimiters_newlines_and_quotes() {
    check("a,b\n\"x,y\",\"1\r\n2\"\n\"say \"\"hi\"\"\",\"\"\"\"\n", &["x,y|1\r\n2", "say \"hi\"|\""]);
    check("a,b\nx\"y\",z\"\n", &["x\"y\"|z\""]);
    check("a,b\n \"x\",1\n", &[" \"x\"|1"]);
}

#[test]
fn unquoted_empty_is_null_and_quoted_empty_is_not() {
    check("a,b,c\n,\"\",\n\"\",,x\n", &["∅||∅", "|∅|x"]);
    let mut file = File::default();
    file.options.csv.null = vec!["NA".into(), "\\N".into()];
    file.check("a,b,c\nNA,\"NA\",\\N\nNAN,na,\n", &["∅|NA|∅", "NAN|na|∅"]);
}

#[test]
fn any_line_end_ends_a_record_and_blank_lines_are_none() {
    check("a,b\r\n1,2\r\n3,4", &["1|2", "3|4"]);
    check("a,b\r1,2\r3,4\r", &["1|2", "3|4"]);
    check("\n\na,b\n\n1,2\n\r\n\n3,4\n\n", &["1|2", "3|4"]);
    check("a\n\"\"\n\n1\n", &["", "1"]);
}

#[test]
fn ragged_rows_are_rejected_and_their_neighbours_load() {
    check("a,b\n1,2\n3\n4,5,6\n7,8\n", &["1|2", "2 syntax: 3", "3 syntax: 4,5,6", "7|8"]);
}

#[test]
fn a_torn_record_is_one_reject_where_all_readings_end_it_together() {
    check("a,b\n1,\"x\"y\"z\"\n3,4\n", &["1 syntax: 1,\"x\"y\"z\"", "3|4"]);
    check("a,b\n1,\"say \\\"hi\\\" x\"\n3,4\n", &["1 syntax: 1,\"say \\\"hi\\\" x\"", "3|4"]);
    check("a,b\n1,\"x\ny\",2\n3,4\n", &["1 syntax: 1,\"x\ny\",2", "3|4"]);
}

#[test]
fn a_torn_record_without_a_known_end_fails_the_object() {
    let fails = |content: &str, problem: &str| {
        let unknown = "and its end cannot be determined";
        File::default().fails(content, &format!("corrupt: the CSV record at line 2 has {problem}, {unknown}"));
    };
    let (never, after) = ("a quote that is never closed", "something after a closing quote");
    fails("a,b\n1,\"2\n3,4\n5,6\n", never);
    fails("a,b\n1,\"", never);
    // A line of the text would become a row.
    fails("a,b\n1,\"x\" y\n2,injected\nz\"\n", after);
    fails("a,b\n1,\"x \\\"y\n2,injected\n\\\" z\"\n", after);
    fails("a,b\n1,\"say \\\"hi\\\" \n2,injected\n x\"\n3,4\n", after);
    fails("a,b\n1,\"2\n3,4\n5,\"six\"\n7,8\n", after);
    // Where a backslash escapes, and then where every quote opens or closes, the text goes on, and nowhere else.
    fails("a,b\n1,\"x\\\"y\" \"\n2,injected\nz\"\n", after);
    fails("a,b\n1,\"x\"y\\\"\"\"\n2,injected\nz\"\n", after);
    let width = "the wrong number of fields, over lines";
    fails("a,b\n1,\"2\n3,4\n5,\",six\"\n7,8\n", width);
}

#[test]
fn torn_quotes_cost_linear_time() {
    // Lines that leave a quote open whether one was open before or not, in records of many fields;
    // lines that close no quote; lines whose quotes go on.
    for line in ["x\",\"\"\"\n", "x,\"\"\n", "\"x\"x,\n", "\"\n", "\",\n", "\"\"\",\n"] {
        let content = format!("0,\"torn\n{}", line.repeat(50_000));
        let mut splitter = Splitter::new(content.as_bytes(), usual(), 1 << 20, &Budget::default());
        splitter.expect_fields(5_000);
        while !matches!(splitter.advance(), Ok(Next::End) | Err(_)) {}
        let times = splitter.n_touched as f64 / content.len() as f64;
        assert!(times < 6.0, "{line:?}: looked at {times} times");
    }
}

#[test]
fn torn_records_cost_linear_time() {
    let content = "\"a\"b\"c\"\n".repeat(100_000);
    let mut splitter = Splitter::new(content.as_bytes(), usual(), 1 << 20, &Budget::default());
    let mut n_torn = 0;
    while let Next::Torn { start, end, .. } = splitter.advance().expect("ends that are known") {
        assert_eq!(splitter.bytes(start, end), b"\"a\"b\"c\"");
        n_torn += 1;
    }
    let times = splitter.n_touched as f64 / content.len() as f64;
    assert!(n_torn == 100_000 && times < 6.0, "{n_torn} records, touched {times} times");
}

#[test]
fn a_record_that_is_too_long_is_rejected_and_the_next_is_read() {
    let mut file = File::default();
    file.options.limits.row_bytes = 1000;
    let long = "x".repeat(2_000_000);
    let payload = |start: &str, length: usize| format!("{start}{}", &long[..length]);
    let cut = 64 * 1024 - 2;
    let first = format!("1 row_size: {}", payload("1,", cut));
    file.check(format!("a,b\n1,{long}\n2,y\n"), &[&first, "2|y"]);
    file.check(format!("a,b\n1,{long}"), &[&first]);
    let quoted = format!("1 row_size: {}", payload("1,\"", cut - 1));
    file.check(format!("a,b\n1,\"{long}\"\n2,y\n"), &[&quoted, "2|y"]);
    let short = format!("1 row_size: {}", payload("1,", 999));
    file.check(format!("a,b\n1,{}\n2,y\n", &long[..999]), &[&short, "2|y"]);
    file.check(format!("a,b\n1,{}\n", &long[..998]), &[&payload("1|", 998)]);
    file.fails(&long, "limits: the header is longer than 1000 bytes");
}

#[test]
fn memory_is_reserved_for_a_long_record() {
    let mut file = File::default();
    file.options.limits.row_bytes = 8 << 20;
    file.options.limits.budget = Budget::new(1 << 20, Pool::new(0, 1));
    let error = file.read(format!("a,b\n1,{}\n", "x".repeat(2 << 20)).as_bytes()).expect_err("too long");
    assert!(error.to_string().starts_with("limits: a CSV record takes "), "{error}");
}

#[test]
fn the_names_in_a_header_are_bounded_and_reserved_for_as_long_as_they_are_kept() {
    let mut file = File::default();
    file.options.limits.row_bytes = 8 << 20;
    let content = |length: usize| format!("a,{}\n1,2\n", "n".repeat(length));
    file.check(content(1_000_000), &["1"]);
    file.fails(content(1 << 20), "limits: the header has 1048578 bytes, 1048576 are allowed");
    let budget = Budget::new(2 << 20, Pool::new(0, 1));
    file.options.limits.budget = budget.clone();
    let open = |content: String| open(Box::new(std::io::Cursor::new(content)), &[], b',', &file.options);
    let reader = open(content(100_000)).expect("it fits");
    budget.reserve("another", (2 << 20) - 800_000).expect_err("the names take it");
    drop(reader);
    budget.reserve("another", 2 << 20).expect("they are gone");
    let error = open(content(300_000)).err().expect("a limit").to_string();
    assert!(error.starts_with("limits: the CSV header takes "), "{error}");
}

#[test]
fn a_message_quotes_no_more_than_the_start_of_a_name() {
    let spec = MappingSpec {
        columns: &text_columns(&["a"]),
        rename: &Default::default(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Reject,
        extras_column: None,
        key: &[],
    };
    let content = format!("a,{}\n1,2\n", "é".repeat(100_000));
    let options = options();
    let mut reader = open(Box::new(std::io::Cursor::new(content)), &[], b',', &options).expect("CSV");
    let mapping = Arc::new(Mapping::new(reader.fields(), &spec).expect("a mapping"));
    reader.set_mapping(Arc::clone(&mapping));
    let mut batch = Batch::default();
    reader.fill(&mut batch, 4096).expect("rows");
    assert_eq!(batch.rejects[0].message, format!("no column for field \"{}\"", "é".repeat(40)));
    // So do the rows of the other formats with a schema.
    let Fields::Named(fields) = reader.fields() else { panic!("there is a header") };
    let mut rows = NamedRows::new(&mapping, fields.iter().map(|field| field.name.as_str()), &options.limits);
    let spans = [0, 2].map(|start| splitter::Span { start, end: start + 1, is_quoted: false, has_escapes: false });
    let readings = FieldReadings::new(&CsvOptions::default());
    let cells = Cells { record: b"1,2", is_usual: false, spans: &spans, readings: &readings, dialect: &usual() };
    rows.push(&cells, &mut batch);
    assert_eq!(batch.rejects[1].message, format!("no column takes field \"{}\"", "é".repeat(40)));
}

#[test]
fn names_that_every_row_repeats_are_held_against_the_rows() {
    let spec = MappingSpec {
        columns: &[Column { name: "extra".into(), pg_type: PgType::Jsonb, not_null: false, has_default: false }],
        rename: &Default::default(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Extras,
        extras_column: Some("extra"),
        key: &[],
    };
    let read = |name_bytes: usize| {
        let content = format!("{}\n{}", "n".repeat(name_bytes), "1\n".repeat(100));
        let mut reader = open(Box::new(std::io::Cursor::new(content)), &[], b',', &options()).expect("CSV");
        reader.set_mapping(Arc::new(Mapping::new(reader.fields(), &spec).expect("a mapping")));
        let mut batch = Batch::default();
        while reader.fill(&mut batch, 4096)? {
            batch.clear();
        }
        Ok::<_, DecodeError>(())
    };
    read(1000).expect("a hundred rows of a kilobyte");
    let error = read(100_000).expect_err("ten megabytes").to_string();
    assert!(error.starts_with("limits: ") && error.ends_with(" of CSV"), "{error}");
}

#[test]
fn a_record_that_is_too_long_ends_where_its_quotes_say() {
    let mut file = File::default();
    file.options.limits.row_bytes = 1000;
    let lines = "2,injected\n".repeat(200_000);
    let rows = file.read(format!("a,b\n1,\"long\n{lines}\"\n3,4\n").as_bytes()).unwrap();
    assert_eq!((rows.len(), rows[1].as_str()), (2, "3|4"));
    assert!(rows[0].starts_with("1 row_size: 1,\"long\n"));
    let torn = format!("a,b\n1,\"long\n{lines}");
    assert!(file.read(torn.as_bytes()).unwrap_err().to_string().starts_with("corrupt: the CSV record at line 2 has"));
}

#[test]
fn what_is_no_text_is_rejected_where_a_column_takes_it() {
    let file = File::default();
    file.check(b"a,b,x\n1,\xFF,z\n3,4,\xFF\n5,a\0b,\n", &["1 text b: 1,\u{FFFD},z", "3|4", "3 text b: 5,a\0b,"]);
}

#[test]
fn a_bom_or_the_label_says_the_encoding() {
    let utf16 = |text: &str| -> Vec<u8> {
        "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect()
    };
    let mut file = File::default();
    file.check(utf16("a,b\nä,😀\n"), &["ä|😀"]);
    let big_endian: Vec<u8> = utf16("a,b\n1,2\n").chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
    file.check(big_endian, &["1|2"]);
    let mut lone = utf16("a,b\nx,y\n3,4\n");
    lone[10..12].copy_from_slice(&0xD800u16.to_le_bytes());
    file.check(lone, &["1 text a: \u{FFFD},y", "3|4"]);
    let long: String = (0..50_000).map(|n| format!("{n},é\n")).collect();
    let rows = file.read(&utf16(&format!("a,b\n{long}"))).unwrap();
    assert_eq!((rows.len(), rows[49_999].as_str()), (50_000, "49999|é"));
    file.options.csv.encoding = "latin1".into();
    file.check(b"a,b\n\xE4,\x80\n", &["ä|€"]);
    file.check("\u{feff}a,b\nä,2\n", &["ä|2"]);
    file.options.csv.encoding = "klingon".into();
    file.fails("a\n", "schema: \"klingon\" is no encoding the WHATWG standard names");
}

#[test]
fn without_a_header_fields_are_the_columns_in_order() {
    let mut file = File::default();
    file.options.csv.header = false;
    file.check("1,2,3\n4,5,6\n", &["1|2|3", "4|5|6"]);
    file.check("1,2\n3\n", &["1|2", "2 syntax: 3"]);
    file.check("\"x\"y\"z\",1\n1,2\n", &["1 syntax: \"x\"y\"z\",1", "1|2"]);
    file.check("", &[]);
    file.fails("1,2,3,4\n", "schema: the file has 4 fields and no header, the table 3 columns");
    file.fails("\"x\"y\"z\"\n".repeat(101), "corrupt: no record in 100 can be read");
}

#[test]
fn new_fields_go_where_the_dataset_says() {
    let mut file = File { on_new_field: OnNewField::Reject, ..File::default() };
    file.check("a,new\n1,2\n", &["1 new_field: 1,2"]);
    file.on_new_field = OnNewField::Extras;
    file.columns[2].pg_type = PgType::Jsonb;
    file.check("a,n\"1,n2\n1,\"x\"\"\n\",\n", &["1|\u{1}{\"n\\\"1\":\"x\\\"\\n\",\"n2\":null}"]);
}

#[test]
fn small_batches_carry_the_same_rows() {
    let content: String = (0..3000).map(|n| format!("{n},\"{}\n\"\n{n}\n", "x".repeat(n % 700))).collect();
    let content = format!("a,b\n{content}");
    let read = |batch_bytes| File { batch_bytes, ..File::default() }.read(content.as_bytes()).unwrap();
    let whole = read(usize::MAX);
    assert_eq!(whole.len(), 6000);
    assert_eq!(read(1), whole);
    assert_eq!(read(10_000), whole);
}

fn usual() -> Dialect {
    Dialect::new(b',', &CsvOptions::default())
}

/// A file in a dialect of its own.
fn in_dialect(change: impl Fn(&mut CsvOptions)) -> File {
    let mut file = File::default();
    change(&mut file.options.csv);
    file
}

#[test]
fn an_escape_takes_the_meaning_of_what_follows() {
    let file = in_dialect(|csv| csv.escape = Some(b'\\'));
    file.check("a,b\n1,\"say \\\"hi\\\", ok\"\n2,\"C:\\dir\"\n", &["1|say \"hi\", ok", "2|C:\\dir"]);
    file.check("a,b\n1,x\\,y\n2,x\\\ny\n3,\\\\\n", &["1|x,y", "2|x\ny", "3|\\"]);
    file.check("a,b\n1,\"\"\"x\"\n2,\\\"y\n3,\"z\\\\\"\n", &["1|\"x", "2|\"y", "3|z\\"]);
    file.check("a,b\n1,\\", &["1|\\"]);
    file.fails(
        "a,b\n1,\"x\\\"\n",
        "corrupt: the CSV record at line 2 has a quote that is never closed, and its end cannot be determined",
    );
    // A text over lines is text, and what is torn is one reject or the object's failure as ever.
    file.check("a,b\n1,\"x \\\"y\n2,injected\n\\\" z\"\n3,4\n", &["1|x \"y\n2,injected\n\" z", "3|4"]);
    file.check("a,b\n1,\"x\"y\"\\\"z\"\n3,4\n", &["1 syntax: 1,\"x\"y\"\\\"z\"", "3|4"]);
    let null = in_dialect(|csv| (csv.escape, csv.null) = (Some(b'\\'), vec!["\\N".into()]));
    null.check("a,b\n\\N,\\\\N\n", &["∅|\\N"]);
}

#[test]
fn an_escaped_text_is_the_same_in_whatever_pieces_it_comes() {
    let mut file = in_dialect(|csv| (csv.escape, csv.header) = (Some(b'\\'), false));
    file.columns = text_columns(&["a", "b"]);
    let record = "x\\,y,\"\\\"z\\\"\"\n";
    let rows = file.read(record.repeat(60_000).as_bytes()).expect("rows");
    assert!(rows.len() == 60_000 && rows.iter().all(|row| row == "x,y|\"z\""));
    // The escape is the last byte of what is read at once.
    let long = "x".repeat(256 * 1024 - 1);
    let rows = file.read(format!("{long}\\,y,z\n").as_bytes()).expect("a row");
    assert_eq!(rows, [format!("{long},y|z")]);
}

#[test]
fn comments_and_the_first_lines_are_no_records() {
    let file = in_dialect(|csv| csv.comment = Some(b'#'));
    file.check("# made by x, \"y\na,b\n1,2\n#3,4\r\n\n5,#6\n\"#7\",8\n#", &["1|2", "5|#6", "#7|8"]);
    file.check(format!("#{}\na,b\n1,2\n", "x".repeat(3 << 20)), &["1|2"]);
    let file = in_dialect(|csv| csv.skip_lines = 2);
    file.check("report, \"of\r\n\r\na,b\n1,2\n", &["1|2"]);
    file.check("x\ry\ra,b\r1,2\r", &["1|2"]);
    file.check("x\r\ny\r\na,b\r\n1,2\r\n", &["1|2"]);
    file.check("a,b\n1,2", &[]);
    file.check(format!("{}\r\n\na,b\n1,2\n", "x".repeat(256 * 1024 - 1)), &["1|2"]);
}

#[test]
fn without_a_quote_it_is_a_character_like_others() {
    let file = in_dialect(|csv| csv.quote = None);
    file.check("a,b\n\"1,2\"\n5\" pipe,\"\n", &["\"1|2\"", "5\" pipe|\""]);
}

#[test]
fn short_rows_end_in_nulls_where_the_dialect_says_so() {
    let file = in_dialect(|csv| csv.short_rows = ShortRows::Null);
    file.check("a,b,c\n1\n2,\"x\ny\"\n3,4,5\n6,7,8,9\n", &["1|∅|∅", "2|x\ny|∅", "3|4|5", "4 syntax: 6,7,8,9"]);
}

#[test]
fn a_trailing_delimiter_is_no_field() {
    let file = in_dialect(|csv| csv.trailing_delimiter = true);
    file.check(
        "a,b\n1,2,\n3,\n4,5\n6,7,8\n9,0,\"\"\n",
        &["1|2", "3|∅", "4|5", "4 syntax: 6,7,8", "5 syntax: 9,0,\"\""],
    );
    file.check("a,b,\n1,2,\n3,4\n", &["1|2", "3|4"]);
    let mut file = in_dialect(|csv| (csv.trailing_delimiter, csv.header) = (true, false));
    file.columns = text_columns(&["a", "b"]);
    file.check("1,2,\n3,4,\n", &["1|2", "3|4"]);
}

#[test]
fn columns_have_null_texts_of_their_own_and_quotes_may_hold_them() {
    let mut file = in_dialect(|csv| csv.null = vec!["NA".into()]);
    file.options.csv.null_by_column = [("b".into(), vec!["-".into()])].into();
    file.check("a,b\nNA,NA\n-,-\n\"NA\",\"-\"\n", &["∅|NA", "-|∅", "NA|-"]);
    file.options.csv.null_quoted = true;
    file.check("a,b\n\"NA\",\"-\"\n\"\",x\n", &["∅|∅", "∅|x"]);
}

#[test]
fn numbers_have_a_comma_only_in_columns_of_numbers() {
    let mut file = in_dialect(|csv| (csv.decimal_comma, csv.delimiter) = (true, b';'));
    file.columns[1].pg_type = PgType::Int4;
    file.check("a;b\n1,5;1.2\nx;1.234,5\n", &["1 type b: 1,5;1.2", "2 type b: x;1.234,5"]);
    file.columns[1].pg_type = PgType::Text(None);
    file.check("a;b\n1.234,5;1.2\n", &["1.234,5|1.2"]);
}

/// Bytes that are nearly CSV.
fn nearly_csv() -> impl Strategy<Value = Vec<u8>> {
    let pieces = ["a", "b,", "\"", "\"\"", "\"x\"", ",", "\n", "\r\n", "\r", "1,2\n", "x,\"y\nz\"\n", "é", "\u{feff}"];
    prop::collection::vec(
        prop_oneof![
            8 => prop::sample::select(pieces.to_vec()).prop_map(|piece| piece.as_bytes().to_vec()),
            1 => prop::collection::vec(any::<u8>(), 0..4),
        ],
        0..60,
    )
    .prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_as_csv_is_read_back(
        rows in prop::collection::vec((prop::option::of("[^\0]{0,12}"), prop::option::of("[a,\"\r\n]{0,12}")), 0..20),
        line_end in prop::sample::select(vec!["\n", "\r\n", "\r"]),
    ) {
        let field = |field: &Option<String>| match field {
            Some(text) => format!("\"{}\"", text.replace('"', "\"\"")),
            None => String::new(),
        };
        let shown = |field: &Option<String>| field.clone().unwrap_or_else(|| "∅".into());
        let lines: String = rows.iter().map(|(a, b)| format!("{},{}{line_end}", field(a), field(b))).collect();
        let expected: Vec<String> = rows.iter().map(|(a, b)| format!("{}|{}", shown(a), shown(b))).collect();
        prop_assert_eq!(File::default().read(format!("a,b{line_end}{lines}").as_bytes()).unwrap(), expected);
    }

    #[test]
    fn any_bytes_are_rows_and_rejects_without_gaps(content in nearly_csv(), header in any::<bool>(), row_bytes in 1..40usize) {
        let mut file = File::default();
        file.options.csv.header = header;
        let content = if header { [b"a,b\n", &content[..]].concat() } else { content };
        // A torn quote fails the object, and without a header so may the first record.
        let is_stated = |read: Result<_, DecodeError>| match read {
            Ok(_) | Err(DecodeError::Corrupt(_)) => true,
            Err(DecodeError::Schema(_)) => !header,
            Err(_) => row_bytes < 3,
        };
        prop_assert!(is_stated(file.read(&content)));
        file.options.limits.row_bytes = row_bytes;
        prop_assert!(is_stated(file.read(&content)));
    }

    #[test]
    fn a_line_of_a_quoted_text_never_becomes_a_row(
        pieces in prop::collection::vec(
            prop::sample::select(vec!["x", " \"x", "\\\"x", "\"\"", "\n666,row\n", "\r\n666,\"row\n", ",y"]), 0..8)
    ) {
        let content = format!("a,b\n1,2\n3,\"{}\"\n7,8\n", pieces.concat());
        let rows = File::default().read(content.as_bytes()).unwrap_or_default();
        prop_assert!(!rows.iter().any(|row| row.starts_with("666|")), "{content}: {rows:?}");
    }
}
