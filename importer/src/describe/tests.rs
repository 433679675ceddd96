use super::*;
use crate::config::Config;
use decode::encode::PgType;
use flate2::{Compression, write::GzEncoder};
use std::io::Write as _;

/// An object in memory with an address.
struct Named {
    bytes: bytes::Bytes,
    name: &'static str,
}

impl Source for Named {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn name(&self) -> &str {
        self.name
    }

    fn stream(&self) -> std::io::Result<Box<dyn std::io::Read + Send>> {
        Ok(Box::new(std::io::Cursor::new(self.bytes.clone())))
    }

    fn read_at(&self, offset: u64, len: usize) -> std::io::Result<bytes::Bytes> {
        let start = usize::try_from(offset).expect("test objects fit into memory");
        Ok(self.bytes.slice(start..start + len))
    }
}

fn described(address: &'static str, content: impl Into<bytes::Bytes>) -> Result<Description, DecodeError> {
    let options = Options {
        extent: Extent { rows: 10_000, bytes: 1 << 24 },
        limits: crate::config::Limits::default().for_decoding(4 << 20),
        name: None,
    };
    let source: Arc<dyn Source> = Arc::new(Named { bytes: content.into(), name: address });
    describe(&source, address, &options)
}

/// Returns the columns as `name type`.
#[track_caller]
fn columns(address: &'static str, content: impl Into<bytes::Bytes>) -> Vec<String> {
    let found = described(address, content).expect("a description");
    found.columns.iter().map(|column| format!("{} {}", column.name, types::name(&column.sql_type))).collect()
}

#[track_caller]
fn check(address: &'static str, content: &str, sql: &str, toml: &str) {
    let found = described(address, content.as_bytes().to_vec()).expect("a description");
    assert_eq!(found.table_sql(), sql);
    assert_eq!(found.dataset_toml(), toml);
    Config::parse(&found.dataset_toml(), "importer.toml", |_| None).expect("a configuration");
}

#[test]
fn lines_of_json_become_a_table_with_a_key_and_a_place_for_new_fields() {
    check(
        "s3://landing/orders/dt=2026-01-31/part-0.ndjson",
        concat!(
            r#"{"id":1,"updatedAt":"2026-01-31T00:00:00Z","total":10.50,"tags":["a"],"who":{"n":1},"order":null}"#,
            "\n",
            r#"{"id":2,"updatedAt":"2026-01-31T00:00:01Z","total":7,"tags":[],"who":{}}"#,
        ),
        "\
-- From all 2 rows of the sample.
CREATE TABLE public.orders (
    id bigint,
    \"updatedAt\" timestamptz,
    total numeric,
    tags text[],
    who jsonb,
    \"order\" text,  -- only NULL so far; text holds any scalar
    dt date,  -- from the path
    extra jsonb,  -- fields that have no column of their own
    PRIMARY KEY (id)  -- unique in 2 rows
);
",
        "\
[[dataset]]
name = \"orders\"
match = \"s3://landing/orders/dt={dt}/**\"
table = \"public.orders\"
key = [\"id\"]  # unique and never NULL in 2 rows
newer = \"updatedAt\"  # a row only gives way to one that is not older
on_new_field = \"extras\"  # fields that come later are kept, too
extras_column = \"extra\"
",
    );
}

#[test]
fn csv_without_a_key_becomes_a_table_whose_rows_belong_to_their_object() {
    check(
        "/data/shops/shops.csv",
        "code;name;opened;staff\nDE;NA;2026-01-31;NA\nFR;Paris;2026-02-01;12\n",
        "\
-- From all 2 rows of the sample.
CREATE TABLE public.shops (
    code text,
    name text,
    opened date,
    staff bigint,  -- NA read as NULL
    penstock_object bigint  -- which object a row came from; mode = \"replace\" needs it
);
CREATE INDEX ON public.shops (penstock_object);
",
        "\
[[dataset]]
name = \"shops\"
match = \"/data/shops/shops.csv\"
# match = \"s3://BUCKET/shops/shops.csv\"  # once such files lie in a bucket
table = \"public.shops\"
mode = \"replace\"  # no key was found: the rows belong to their object, and its next version replaces them
# key = [\"code\"]  # instead of mode, with a unique index; unique in 2 rows
# on_new_field = \"add_column\"  # without it fields that come later are left out

[dataset.csv]
delimiter = \";\"
null = [\"NA\"]  # reads NA in name as NULL, too
",
    );
}

#[test]
fn a_csv_file_s_dialect_is_found_out() {
    let dialect = |content: &[u8]| {
        let found = described("/d/x.csv", content.to_vec()).expect("a description");
        let csv = &found.read.csv;
        (char::from(csv.delimiter), csv.header, csv.encoding.clone(), found.columns.len(), found.n_rejected)
    };
    let usual = |delimiter, header, columns| (delimiter, header, "utf-8".to_owned(), columns, 0);
    assert_eq!(dialect(b"a,b\n1,2\n"), usual(',', true, 2));
    assert_eq!(dialect(b"a;b\n1,5;2\n"), usual(';', true, 2));
    assert_eq!(dialect(b"a\tb c\n1\tx, y\n"), usual('\t', true, 2));
    assert_eq!(dialect(b"a|b\n"), usual('|', true, 2));
    assert_eq!(dialect(b"a\n1\n"), usual(',', true, 1));
    assert_eq!(dialect(b"1,x,2026-01-31\n2,y,2026-02-01\n"), usual(',', false, 3));
    assert_eq!(dialect(b"1,1,x\n2,3,y\n"), usual(',', false, 3));
    let one_wide = [&b"id,a\n1,x,y\n"[..], &b"2,x\n".repeat(8)].concat();
    assert_eq!(dialect(&one_wide), (',', true, "utf-8".to_owned(), 2, 1));
    assert_eq!(dialect(b"id,name\n1,M\xfcller\n"), (',', true, "windows-1252".to_owned(), 2, 0));
    assert_eq!(dialect("id,name\n1,Müller\n".as_bytes()), usual(',', true, 2));
}

#[test]
fn a_file_whose_rows_are_torn_is_not_one_column() {
    let found = described("/d/x.csv", "id,a,b\n1,\"say \"hi\" \",x\n2,plain,y\n".as_bytes().to_vec());
    let found = found.expect("a description");
    assert_eq!((found.read.csv.delimiter, found.columns.len()), (b',', 3));
    assert!(found.is_broken || found.n_rejected == 1, "{}", found.table_sql());
    let found = described("/d/x.csv", "id,a,b\n1,plain,x\n2,\"q \"z\" , \",w\n".as_bytes().to_vec());
    let found = found.expect("a description");
    assert_eq!((found.read.csv.delimiter, found.columns.len()), (b',', 3));
}

#[test]
fn a_dialect_that_a_sample_shows_is_proposed_and_loads() {
    let proposed = |content: &str| {
        let found = described("/d/x.csv", content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        let config = Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let read = config.datasets[0].read_options(&config.limits, 1 << 20);
        assert_eq!(read.csv, found.read.csv, "{toml}");
        let dialect = toml.split("[dataset.csv]\n").nth(1).unwrap_or_default().replace('\n', "; ");
        (dialect, found.columns.len(), found.n_rows, found.n_rejected)
    };
    let said = |dialect: &str, columns, rows| (dialect.to_owned(), columns, rows, 0);
    let backslashes = "id,a,b\n1,\"say \\\"hi\\\", ok\",x\n2,plain,y\n";
    assert_eq!(proposed(backslashes), said("escape = \"\\\\\"  # stands before quotes within fields; ", 3, 2));
    let late = "id,a,b\n1,plain,x\n2,\"q \\\"z\\\"\",w\n";
    assert_eq!(proposed(late), said("escape = \"\\\\\"  # stands before quotes within fields; ", 3, 2));
    assert_eq!(
        proposed("# exported 2026-01-01\nid,a,b\n1,x,y\n"),
        said("comment = \"#\"  # lines that begin so are no rows; ", 3, 1)
    );
    assert_eq!(
        proposed("#x, y\nid;a;b\n1;x;y\n"),
        said("delimiter = \";\"; comment = \"#\"  # lines that begin so are no rows; ", 3, 1)
    );
    assert_eq!(proposed("sep=;\nid;a\n1;x\n"), said("delimiter = \";\"; skip_lines = 1; ", 2, 1));
    assert_eq!(proposed("sep=,\nid,a,b\n1,x,y\n"), said("skip_lines = 1; ", 3, 1));
    assert_eq!(
        proposed("id|a\n1|x|\n2|y|\n"),
        said("delimiter = \"|\"; trailing_delimiter = true  # a delimiter follows the last field; ", 2, 2)
    );
}

#[test]
fn values_of_other_countries_have_their_types() {
    let found = described("/d/x.csv", "id;n;m;day\n1;1.234,50;7;02.01.2026\n2;-;1.000;\n".as_bytes().to_vec());
    let found = found.expect("a description");
    let columns: Vec<_> = found.columns.iter().map(|c| format!("{} {}", c.name, types::name(&c.sql_type))).collect();
    assert_eq!(columns, ["id bigint", "n numeric", "m numeric", "day date"]);
    assert_eq!((found.n_rejected, found.read.csv.decimal_comma), (0, true));
    let toml = found.dataset_toml();
    assert!(
        toml.contains("decimal = \",\"\n") && toml.ends_with("[dataset.types]\n\"day\" = \"%d.%m.%Y\"\n"),
        "{toml}"
    );
    Config::parse(&toml, "importer.toml", |_| None).expect("a configuration");
    // Both ways in one file are neither.
    let found = described("/d/x.csv", "id;n;m\n1;1,5;1.5\n".as_bytes().to_vec()).expect("a description");
    assert_eq!((found.read.csv.decimal_comma, types::name(&found.columns[1].sql_type)), (false, "text".to_owned()));
}

#[test]
fn a_log_is_described_as_one() {
    let said = |content: &str| {
        let found = described("/d/access.log", content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        let config = Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let preset = config.datasets[0].text.preset.map(|preset| preset.as_str());
        assert_eq!((found.n_rejected, config.datasets[0].types.len()), (0, found.types.len()), "{toml}");
        let columns = found.columns.iter().map(|c| format!("{} {}", c.name, types::name(&c.sql_type)));
        (preset, columns.collect::<Vec<_>>().join(", "))
    };
    let line = "10.0.0.1 - - [10/Oct/2000:13:55:36 -0700] \"GET /a,b HTTP/1.0\" 200 7\n";
    let (preset, columns) = said(line);
    assert_eq!(preset, Some("clf"));
    assert!(columns.contains("time timestamptz") && columns.contains("status bigint"), "{columns}");
    assert_eq!(said(&line.replace('\n', " \"-\" \"curl\"\n")).0, Some("combined"));
    let (preset, columns) = said("version account-id srcaddr start\n2 123 10.0.0.1 1431280876\n");
    assert_eq!(
        (preset, columns.as_str()),
        (Some("vpc_flow"), "version bigint, account_id bigint, srcaddr text, start timestamptz")
    );
    let (preset, columns) = said("#Version: 1.0\n#Fields: date sc-bytes\n2026-01-02\t5\n2026-01-02\t-\n");
    assert_eq!((preset, columns.as_str()), (Some("cloudfront"), "date date, sc_bytes bigint"));
    assert_eq!(said("a b c\n1 2 3\n").0, None);
}

#[test]
fn rows_within_a_document_are_found() {
    let content = r#"{"n":2,"Re/cords":[{"id":1,"a":[{"b":1}]},{"id":2}]}"#.as_bytes().to_vec();
    let found = described("/d/x.json", content).expect("a description");
    let toml = found.dataset_toml();
    assert!(toml.contains("rows = \"/Re~1cords\"  # where the rows are"), "{toml}");
    assert_eq!((found.n_rows, found.columns.len()), (2, 2));
    Config::parse(&toml, "importer.toml", |_| None).expect("a configuration");
    let content = r#"{"id":1,"a":[{"b":1}],"c":[{"b":1}]}"#.as_bytes().to_vec();
    assert_eq!(described("/d/x.json", content).expect("a description").columns.len(), 3);
}

#[test]
fn columns_that_identify_rows_together_are_the_key_where_they_are_called_so() {
    let key = |content: &str| {
        let found = described("/d/orders.csv", content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        (found.table_sql(), toml)
    };
    let (sql, toml) = key("order_id,line_no,what\n1,1,x\n1,2,x\n2,1,x\n2,2,y\n");
    assert!(sql.contains("PRIMARY KEY (order_id, line_no)  -- unique together in 4 rows"), "{sql}");
    assert!(toml.contains("key = [\"order_id\", \"line_no\"]  # unique together, never NULL in 4 rows"), "{toml}");
    // Three, where two are not enough.
    let (_, toml) = key("store_id,day,order_id\n1,2026-01-01,1\n1,2026-01-01,2\n1,2026-01-02,1\n2,2026-01-01,1\n");
    assert!(toml.contains("\nkey = [\"order_id\", \"store_id\", \"day\"]"), "{toml}");
    // Other names are an idea.
    let (_, toml) = key("a,b\nx,1\nx,2\ny,1\n");
    assert!(toml.contains("\nmode = \"replace\"") && toml.contains("\n# key = [\"a\", \"b\"]"), "{toml}");
    // A value that is missing, and rows that are there twice.
    for none in ["order_id,line_no\n1,1\n1,\n2,1\n", "order_id,line_no\n1,1\n1,1\n"] {
        let (_, toml) = key(none);
        assert!(!toml.contains("key = "), "{toml}");
    }
}

#[test]
fn counts_since_1970_are_moments_where_name_and_values_say_so() {
    let of = |content: &'static str| {
        let found = described("/d/x.ndjson", content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        let column = found.columns.last().expect("a column");
        let notation = found.types.get(&column.name).map(|notation| notation.as_str().to_owned());
        (types::name(&column.sql_type), notation.unwrap_or_default(), column.notes.join(""))
    };
    let (sql, notation, note) = of("{\"created_at\":1767225600000}\n{\"created_at\":1767312000000}\n");
    assert_eq!((sql.as_str(), notation.as_str()), ("timestamptz", "epoch_ms"));
    let said = "milliseconds since 1970, to go by its name and values, which are 2026-01-01 to 2026-01-02";
    assert_eq!(note, said);
    for (content, expected) in [
        ("{\"ts\":1767225600}\n", "epoch_s"),
        ("{\"eventTime\":1767225600000000}\n", "epoch_us"),
        ("{\"time\":1767225600000000000}\n", "epoch_ns"),
        // Values that are none, one among them, another name, and a text.
        ("{\"ts\":5}\n", ""),
        ("{\"ts\":1767225600}\n{\"ts\":17}\n", ""),
        ("{\"size\":1767225600}\n", ""),
        ("{\"ts\":\"1767225600\"}\n", ""),
    ] {
        assert_eq!(of(content).1, expected, "{content}");
    }
}

#[test]
fn slashed_dates_are_dates_where_a_value_tells_day_from_month() {
    let of = |content: &'static str| {
        let found = described("/d/x.csv", content.as_bytes().to_vec()).expect("a description");
        assert_eq!(found.n_rejected, 0, "{content}");
        Config::parse(&found.dataset_toml(), "importer.toml", |_| None).expect("a configuration");
        let notation = found.types.get("d").map(|notation| notation.as_str().to_owned()).unwrap_or_default();
        (types::name(&found.columns[1].sql_type), notation, found.columns[1].notes.join(""))
    };
    let told = |sql: &str, notation: &str| (sql.to_owned(), notation.to_owned(), String::new());
    assert_eq!(of("n,d\n1,03/14/2026\n1,04/05/2026\n"), told("date", "%m/%d/%Y"));
    assert_eq!(of("n,d\n1,14/03/2026\n1,04/05/2026\n"), told("date", "%d/%m/%Y"));
    assert_eq!(of("n,d\n1,14/03/2026 10:20\n"), told("timestamp", "%d/%m/%Y %H:%M"));
    let (sql, notation, note) = of("n,d\n1,03/04/2026\n1,04/05/2026\n");
    assert_eq!((sql.as_str(), notation.as_str()), ("text", ""));
    assert!(note.contains("no value tells whether the day or the month comes first"), "{note}");
}

#[test]
fn rows_that_end_early_are_told_and_load() {
    let of = |content: String| {
        let found = described("/d/x.csv", content.into_bytes()).expect("a description");
        let toml = found.dataset_toml();
        Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        (found.n_rejected, toml)
    };
    let (n_rejected, toml) = of("a,b,c\n1,x,y\n2,x\n3,x,y\n4\n5,x,y\n6,x,y\n".to_owned());
    assert_eq!(n_rejected, 0);
    let line = "\nshort_rows = \"null\"  # 2 of 6 rows end early; without it they are rejects\n";
    assert!(toml.contains(line), "{toml}");
    // One is let through as a reject.
    let (n_rejected, toml) = of(format!("a,b,c\n{}2,x\n", "1,x,y\n".repeat(200)));
    assert_eq!(n_rejected, 1);
    assert!(toml.contains("\n# short_rows = \"null\"  # 1 of 201 rows end early and are rejects"), "{toml}");
    // Longer ones are another problem.
    let (n_rejected, toml) = of(format!("a,b,c\n2,x\n3,x,y,z\n4\n{}", "1,x,y\n".repeat(20)));
    assert!(n_rejected > 0 && !toml.contains("\nshort_rows"), "{toml}");
    assert!(toml.contains("# the file does not load as it is: "), "{toml}");
}

#[test]
fn quotes_that_do_not_pair_up_are_characters_and_comments_stand_anywhere() {
    let dialect = |content: &str| {
        let found = described("/d/x.csv", content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        (found.n_rejected, found.columns.len(), found.read.csv.quote, found.read.csv.comment, toml)
    };
    let (n_rejected, n_columns, quote, _, toml) = dialect("id\ttitle\n1\t\"Swing\" it\n2\ta 7\" disc\n3\t\"\n");
    assert_eq!((n_rejected, n_columns, quote), (0, 2, None));
    assert!(toml.contains("quote = \"\"  # its quotes do not pair up: they are characters like others"), "{toml}");
    // Fields that are quoted, and one that is torn.
    let (_, _, quote, ..) = dialect("id\ttitle\n1\t\"a\"\n2\t\"b\"\n3\t\"c\" d\n");
    assert_eq!(quote, Some(b'"'));
    let (n_rejected, n_columns, _, comment, toml) = dialect("id,n\n1,2\n# a remark\n3,4\n# and, one, more\n5,6\n");
    assert_eq!((n_rejected, n_columns, comment), (0, 2, Some(b'#')));
    assert!(toml.contains("comment = \"#\"  # lines that begin so are no rows"), "{toml}");
}

#[test]
fn names_that_look_like_paths_are_written_so_that_they_are_none() {
    // Longer than a column's name, so that it gets another.
    let name = format!("/{}", "x".repeat(70));
    for (address, content, line) in [
        ("/d/x.ndjson", format!("{{\"id\":1,\"{name}\":\"x\"}}\n"), "fields = { "),
        ("/d/x.csv", format!("id,{name}\n1,x\n"), "format = \"csv\""),
    ] {
        let found = described(address, content.into_bytes()).expect("a description");
        let toml = found.dataset_toml();
        assert!(toml.contains(line), "{toml}");
        Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
    }
}

#[test]
fn lines_before_the_header_are_remarked() {
    let found = described("/d/x.csv", "name\nDoe, J\nRoe, K\n".as_bytes().to_vec()).expect("a description");
    assert_eq!((found.columns.len(), found.n_rejected), (1, 0));
    let remark = "its first line is taken for a header of one field, but the lines after it have 2 fields";
    assert!(found.table_sql().contains(remark) && found.dataset_toml().contains(remark), "{}", found.table_sql());
    Config::parse(&found.dataset_toml(), "importer.toml", |_| None).expect("a configuration");
}

#[test]
fn a_header_with_a_name_twice_is_a_header_and_values_twice_are_values() {
    let dialect = |content: &str| {
        let found = described("/d/x.csv", content.as_bytes().to_vec()).expect("a description");
        let names: Vec<String> = found.columns.iter().map(|column| column.name.clone()).collect();
        (found.read.csv.header, names.join(" "), found.remarks.len())
    };
    assert_eq!(dialect("id,comment,comment\n1,x,y\n2,p,q\n"), (true, "id".to_owned(), 1));
    assert_eq!(dialect("name,comment,comment\nx,y,z\n"), (true, "name".to_owned(), 1));
    assert_eq!(dialect("1,5,5\n2,6,7\n"), (false, "column_1 column_2 column_3".to_owned(), 0));
    assert_eq!(dialect("red,no,no\nred,yes,no\n"), (false, "column_1 column_2 column_3".to_owned(), 0));
    assert_eq!(dialect("x,x\ny,z\n"), (false, "column_1 column_2".to_owned(), 0));
}

#[test]
fn whatever_a_field_or_a_file_is_called_the_configuration_takes_it() {
    for (address, content) in [
        ("/d/x.json", r#"{"id":1,"":"x"}"#),
        ("/d/x.json", r#"{"":1," ":2,"\u202e":4,"penstock_row":5,"xmin":6,"a.b":7,"\"":8,"\\":9}"#),
        ("/d/a b/c=1/c=2/{x}*?\\[y]/\u{202e}.json", r#"{"id":1}"#),
        ("s3://b/=/x=/=y/9.json", r#"{"id":1}"#),
        ("/d/order.csv", "select,\"from\"\n1,2\n"),
    ] {
        let found = described(address, content.as_bytes().to_vec()).expect("a description");
        let toml = found.dataset_toml();
        assert!(!toml.contains('\u{202e}') && !found.table_sql().contains('\u{202e}'), "{toml}");
        let config = Config::parse(&toml, "importer.toml", |_| None).unwrap_or_else(|error| panic!("{error}\n{toml}"));
        assert!(
            crate::pattern::Pattern::for_addresses(config.datasets[0].pattern.as_deref().expect("match"))
                .expect("a pattern")
                .is_match(address),
            "{toml}"
        );
    }
    let found = described("/d/order.csv", "id\n1\n".as_bytes().to_vec()).expect("a description");
    assert!(found.dataset_toml().contains(r#"table = "public.\"order\"""#), "{}", found.dataset_toml());
}

#[test]
fn columns_of_the_path_stand_before_fields_of_their_name() {
    let found = columns("/d/t/dt=2026-01-31/hour=07/x.csv", "dt,n\nold,1\n");
    assert_eq!(found, ["dt date", "n bigint", "hour text"]);
}

#[test]
fn a_column_that_refuses_a_value_after_all_is_made_wider() {
    // Quoted, so that it is a text and not NULL.
    let found = described("/d/x.csv", "n\n1\n\"NA\"\n".as_bytes().to_vec()).expect("a description");
    assert_eq!(found.columns[0].sql_type, PgType::Text(None));
    assert_eq!(found.columns[0].notes, ["bigint does not take every value"]);
    assert!(found.null_texts().is_empty() && found.n_rejected == 0);
}

#[test]
fn fields_whose_names_postgres_does_not_take_are_renamed() {
    let found = described("/d/x.json", r#"{"ctid":1,"Id":2,"id":3}"#.as_bytes().to_vec()).expect("a description");
    let names: Vec<&str> = found.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["ctid_", "Id", "id"]);
    assert!(found.dataset_toml().contains("rename = { \"ctid\" = \"ctid_\" }"), "{}", found.dataset_toml());
    Config::parse(&found.dataset_toml(), "importer.toml", |_| None).expect("a configuration");
}

#[test]
fn rows_that_no_table_could_take_are_told() {
    let found = described("/d/x.ndjson", "{\"a\":1}\n{\"a\":\n".as_bytes().to_vec()).expect("a description");
    assert_eq!(found.n_rejected, 1);
    assert!(
        found.table_sql().contains("-- 1 of these rows cannot be loaded, the first being row 2: "),
        "{}",
        found.table_sql()
    );
    for empty in ["", "[]", "\n\n", "{}"] {
        let error = described("/d/x.json", empty.as_bytes().to_vec()).expect_err(empty);
        assert_eq!(error.to_string(), "schema: it has no rows and names no fields", "{empty:?}");
    }
    let error = described("/d/x.ndjson", "1\n2\n".as_bytes().to_vec()).expect_err("scalars");
    assert!(error.to_string().contains("no row can be read; row 1"), "{error}");
}

#[test]
fn names_and_texts_cannot_break_out_of_comments() {
    let content = "{\"a\\nDROP TABLE x;--\":[1,\"\\n\"],\"b\\\"c\":1}\n{\"x\\n\n";
    let found = described("/d/x.ndjson", content.as_bytes().to_vec()).expect("a description");
    let sql = found.table_sql();
    assert!(sql.lines().all(|line| !line.trim_start().starts_with("DROP")), "{sql}");
    assert!(sql.contains("\"b\"\"c\" bigint"), "{sql}");
    Config::parse(&found.dataset_toml(), "importer.toml", |_| None).expect("a configuration");
}

#[test]
fn more_fields_than_a_table_has_columns_go_into_one() {
    let members: Vec<String> = (0..2000).map(|n| format!("\"f{n}\":{n}")).collect();
    let found = described("/d/x.json", format!("{{{}}}", members.join(",")).into_bytes()).expect("a description");
    assert_eq!((found.columns.len(), found.extras.as_deref()), (1000, Some("extra")));
}

#[test]
fn compressed_files_are_described_like_others() {
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(b"[{\"id\":1},{\"id\":2}]").expect("a Vec takes all");
    assert_eq!(columns("/d/x.json.gz", gzip.finish().expect("a Vec takes all")), ["id bigint"]);
    let zstd = zstd::encode_all(&b"id,at\n1,05:17:00\n"[..], 1).expect("a Vec takes all");
    assert_eq!(columns("/d/x.csv.zst", zstd), ["id bigint", "at time"]);
}

#[test]
fn a_schema_of_the_file_s_own_decides_whatever_the_values() {
    let schema = r#"{"type":"record","name":"r","fields":[
        {"name":"id","type":"long"},
        {"name":"small","type":["null","int"]},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"local","type":["null",{"type":"long","logicalType":"local-timestamp-nanos"}]},
        {"name":"price","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"tags","type":{"type":"array","items":["null","string"]}},
        {"name":"blob","type":"bytes"},
        {"name":"either","type":["null","string","long"]},
        {"name":"nested","type":{"type":"map","values":"long"}},
        {"name":"nothing","type":"null"}]}"#;
    let schema = apache_avro::Schema::parse_str(schema).expect("a schema");
    let file = apache_avro::Writer::new(&schema, Vec::new()).expect("a writer").into_inner().expect("a Vec takes all");
    assert_eq!(
        columns("/d/x.avro", file),
        [
            "id bigint",
            "small integer",
            "at timestamptz",
            "local timestamp",
            "price numeric",
            "tags text[]",
            "blob bytea",
            "either text",
            "nested jsonb",
            "nothing text",
        ]
    );
}

#[test]
fn parquet_s_logical_types_decide() {
    let message = "message m {
        REQUIRED INT64 id; OPTIONAL INT32 tiny (INTEGER(8, true)); OPTIONAL INT64 big (INTEGER(64, false));
        OPTIONAL INT32 day (DATE); OPTIONAL INT64 at (TIMESTAMP(MICROS, true)); OPTIONAL INT64 local (TIMESTAMP(NANOS, false));
        OPTIONAL INT96 old; OPTIONAL INT64 price (DECIMAL(12, 4)); OPTIONAL BYTE_ARRAY name (STRING);
        OPTIONAL BYTE_ARRAY doc (JSON); OPTIONAL FIXED_LEN_BYTE_ARRAY (16) ref (UUID); OPTIONAL BYTE_ARRAY raw;
        OPTIONAL group tags (LIST) { repeated group list { OPTIONAL BYTE_ARRAY element (STRING); } }
        OPTIONAL group grid (LIST) { repeated group list { OPTIONAL group element (LIST) { repeated group list { OPTIONAL INT32 element; } } } }
        OPTIONAL group pair { OPTIONAL INT32 a; }
        REPEATED INT32 old_list;
    }";
    let schema = parquet::schema::parser::parse_message_type(message).expect("a schema");
    let writer = parquet::file::writer::SerializedFileWriter::new(Vec::new(), Arc::new(schema), Arc::default());
    let file = writer.expect("a writer").into_inner().expect("a Vec takes all");
    assert_eq!(
        columns("/d/x.parquet", file),
        [
            "id bigint",
            "tiny smallint",
            "big numeric(20)",
            "day date",
            "at timestamptz",
            "local timestamp",
            "old timestamp",
            "price numeric(12, 4)",
            "name text",
            "doc jsonb",
            "ref uuid",
            "raw bytea",
            "tags text[]",
            "grid jsonb",
            "pair jsonb",
            "old_list integer[]",
        ]
    );
}
