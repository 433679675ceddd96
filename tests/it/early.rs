//! Conditions that the importer applies itself mean what they mean to Postgres.

use crate::{
    desk::Desk,
    world::{LIMIT, World},
};
use anyhow::{Context as _, Result};
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray,
    TimestampMicrosecondArray, TimestampNanosecondArray,
};
use parquet::{
    arrow::ArrowWriter,
    file::{
        properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder},
        reader::{FileReader, SerializedFileReader},
    },
};
use penstock_tests::{aws::Options, database::Database, postgres::Postgres, process::Program, scratch::Scratch};
use std::{collections::BTreeSet, fmt::Write as _, sync::Arc};

type Texts = &'static [&'static str];

/// Fields: name, type, values that fit, values that do not, constants to compare them with. Of the last two there is no
/// column.
#[rustfmt::skip]
const FIELDS: [(&str, &str, Texts, Texts, Texts); 14] = [
    ("b", "boolean", &["true", "false"], &["maybe"], &["true", "false"]),
    ("i2", "smallint", &["-32768", "-1", "0", "1", "5", "6", "32767"], &["40000", "x"], &["-1", "5", "'5'", "6", "70000", "-32768"]),
    ("i4", "integer", &["-2147483648", "-6", "-5", "0", "5", "2147483647"], &["2147483648", "1x"], &["5", "-5", "0", "'-6'", "2147483648"]),
    ("i8", "bigint", &["-9223372036854775808", "-1", "0", "7", "9223372036854775807"], &["9223372036854775808", "e"], &["7", "-9223372036854775808", "9223372036854775807", "9223372036854775808"]),
    ("d", "date", &["2026-02-28", "2026-03-01", "0001-01-01", "9999-12-31", "infinity", "-infinity"], &["2026-02-30", "x"], &["'2026-03-01'", "date '2026-02-28'", "'0001-01-01'::date", "'infinity'"]),
    ("ts", "timestamp", &["2026-02-28 23:59:59.999999", "2026-03-01 00:00:00", "1969-12-31 23:59:59", "infinity"], &["2026-02-28 25:00:00"], &["'2026-03-01'", "timestamp '2026-02-28 23:59:59.999999'", "'1969-12-31T23:59:59'", "'2026-02-28 24:00:00'"]),
    ("tz", "timestamptz", &["2026-02-28 23:59:59.5+01:00", "2026-02-28 22:59:59.5Z", "2026-03-01 00:00:00Z"], &["yesterday"], &["'2026-02-28 22:59:59.5Z'", "'2026-03-01 01:00:00+01'", "timestamptz '2026-02-28 13:59:59.5-09:00'", "'2026-03-01'"]),
    ("u", "uuid", &["00000000-0000-0000-0000-000000000000", "7fffffff-ffff-ffff-ffff-ffffffffffff", "80000000-0000-0000-0000-000000000000"], &["7fffffff"], &["'7FFFFFFF-ffff-ffff-ffff-ffffffffffff'", "'80000000-0000-0000-0000-000000000000'::uuid"]),
    ("tx", "text", &["KN", "kn", "", "é", "it's", "KN "], &["a\0b"], &["'KN'", "'it''s'", "'é'", "''", "'KN'::text"]),
    ("vc", "varchar(3)", &["abc", "ab", "ab    ", "é€x"], &["abcd"], &["'abc'", "'ab '", "'ab'", "'é€x'", "'too long'"]),
    ("f", "double precision", &["0", "-0", "1.5", "NaN", "Infinity"], &["x"], &["0", "1.5", "'NaN'"]),
    ("n", "numeric(9,2)", &["0.00", "1.50", "-7.25", "100"], &["x"], &["0", "1.5", "-7.25"]),
    ("country", "text", &["DE", "KN", "FR"], &["\0"], &["'KN'", "'DE'"]),
    ("size", "integer", &["1", "2", "3"], &["three"], &["2", "3"]),
];
/// Fields of which there is a column.
const N_COLUMNS: usize = 12;

/// A row's texts, and which of them does not fit its type.
struct Row {
    cells: Vec<Option<String>>,
    bad: Option<usize>,
}

/// A comparison, and the field that it asks about.
struct Part {
    sql: String,
    field: usize,
    parentheses: bool,
}

fn pick<T: Copy>(from: &[T]) -> T {
    from[fastrand::usize(..from.len())]
}

fn row(bad_in: &[usize]) -> Row {
    let bad = (fastrand::u8(..8) == 0 && !bad_in.is_empty()).then(|| pick(bad_in));
    let cells = FIELDS.iter().enumerate().map(|(field, (_, _, good, wrong, _))| match bad {
        Some(bad) if bad == field => Some(pick(wrong).to_owned()),
        _ => (fastrand::u8(..6) > 0).then(|| pick(good).to_owned()),
    });
    Row { cells: cells.collect(), bad }
}

fn part() -> Part {
    let field = fastrand::usize(..FIELDS.len());
    let (name, type_sql, _, _, constants) = FIELDS[field];
    let input = format!("input.{name}");
    let orders = !matches!(name, "b" | "tx" | "vc" | "country");
    let constant = || pick(constants);
    let not = pick(&["", "NOT "]);
    let compared = || match orders {
        true => format!("{input} {} {}", pick(&["=", "<>", "<", "<=", ">", ">="]), constant()),
        false => format!("{input} {} {}", pick(&["=", "<>", "!="]), constant()),
    };
    let sql = match fastrand::u8(..10) {
        0 => format!("{input} IS {not}NULL"),
        1 if type_sql == "boolean" => format!("{not}{input}"),
        1 => format!("{input} {not}IN ({}, {}, {})", constant(), constant(), constant()),
        2 if type_sql == "boolean" => format!("{input} IS {not}{}", pick(&["TRUE", "FALSE", "UNKNOWN"])),
        2 if orders => format!("{input} {not}BETWEEN {} AND {}", constant(), constant()),
        3 => format!("{input} IS {not}DISTINCT FROM {}", constant()),
        4 => format!("{} {} {input}", constant(), pick(&["=", "<>", "!="])),
        7 if orders => format!("{} {} {input}", constant(), pick(&["<", "<=", ">", ">="])),
        // What is left to Postgres.
        8 => pick(&[
            format!("({} OR {})", compared(), compared()).as_str(),
            &format!("NOT ({})", compared()),
            &format!("{input}::text {not}IN ('5', 'KN', 'false')"),
            &format!("coalesce({}, true)", compared()),
        ])
        .to_owned(),
        _ => compared(),
    };
    Part { sql, field, parentheses: fastrand::bool() }
}

fn json(rows: &[Row]) -> Vec<u8> {
    let mut out = String::new();
    for (number, row) in rows.iter().enumerate() {
        let _ = write!(out, "{{\"id\":{number}");
        for ((name, ..), cell) in FIELDS.iter().zip(&row.cells) {
            match cell {
                Some(text) => {
                    let text = serde_json::Value::from(text.as_str());
                    let _ = write!(out, ",\"{name}\":{text}");
                }
                None if fastrand::bool() => {
                    let _ = write!(out, ",\"{name}\":null");
                }
                None => {}
            }
        }
        out.push_str("}\n");
    }
    out.into()
}

fn csv(rows: &[Row]) -> Vec<u8> {
    let mut out = String::from("id");
    FIELDS.iter().for_each(|(name, ..)| {
        let _ = write!(out, ",{name}");
    });
    for (number, row) in rows.iter().enumerate() {
        let _ = write!(out, "\n{number}");
        for cell in &row.cells {
            let _ = match cell {
                Some(text) => write!(out, ",\"{text}\""),
                None => write!(out, ","),
            };
        }
    }
    out.push('\n');
    out.into()
}

/// Writes small row groups, with fields of their own types where Parquet has those.
fn parquet(rows: &[Row]) -> Result<Vec<u8>> {
    let mut columns: Vec<(&str, ArrayRef)> =
        vec![("id", Arc::new((0..rows.len() as i64).map(Some).collect::<Int64Array>()))];
    for (field, (name, type_sql, ..)) in FIELDS.iter().enumerate() {
        let texts = || rows.iter().map(|row| row.cells[field].as_deref());
        let moment = |text: &str| {
            let text = text.replace(' ', "T").replace('Z', "+00:00");
            let zoned = if text.len() > 10 && text[10..].contains('+') { text } else { format!("{text}+00:00") };
            chrono::DateTime::parse_from_rfc3339(&zoned).ok().map(|at| at.timestamp_micros())
        };
        let day = |text: &str| {
            let date: chrono::NaiveDate = text.parse().ok()?;
            i32::try_from((date - chrono::NaiveDate::default()).num_days()).ok()
        };
        columns.push((
            name,
            match *type_sql {
                "boolean" => {
                    Arc::new(texts().map(|text| text.map(|text| text == "true")).collect::<BooleanArray>()) as ArrayRef
                }
                "smallint" | "integer" | "bigint" => {
                    Arc::new(texts().map(|text| text?.parse().ok()).collect::<Int64Array>())
                }
                "date" => Arc::new(texts().map(|text| day(text?)).collect::<Date32Array>()),
                "timestamp" if fastrand::bool() => {
                    Arc::new(texts().map(|text| Some(moment(text?)? * 1000)).collect::<TimestampNanosecondArray>())
                }
                "timestamp" => Arc::new(texts().map(|text| moment(text?)).collect::<TimestampMicrosecondArray>()),
                "timestamptz" => {
                    let array = texts().map(|text| moment(text?)).collect::<TimestampMicrosecondArray>();
                    Arc::new(array.with_timezone("UTC"))
                }
                "double precision" => Arc::new(texts().map(|text| text?.parse().ok()).collect::<Float64Array>()),
                "numeric(9,2)" => {
                    let hundredths = |text: &str| Some((text.parse::<f64>().ok()? * 100.0) as i128);
                    let array = texts().map(|text| hundredths(text?)).collect::<Decimal128Array>();
                    Arc::new(array.with_precision_and_scale(9, 2)?)
                }
                _ => Arc::new(texts().collect::<StringArray>()),
            },
        ));
    }
    let records =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))?;
    let statistics = pick(&[EnabledStatistics::None, EnabledStatistics::Chunk, EnabledStatistics::Page]);
    let properties = WriterProperties::builder()
        .set_max_row_group_row_count(Some(1 + fastrand::usize(..8)))
        .set_statistics_enabled(statistics)
        .set_statistics_truncate_length(Some(1 + fastrand::usize(..4)));
    written(&records, properties)
}

fn written(records: &RecordBatch, properties: WriterPropertiesBuilder) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, records.schema(), Some(properties.build()))?;
    writer.write(records)?;
    writer.close()?;
    Ok(file)
}

/// What Postgres itself says of a file's rows, from a table of their values: the fate of each.
async fn fates(database: &Database, rows: &[Row], parts: &[Part]) -> Result<Vec<String>> {
    let declared: Vec<String> = FIELDS.iter().map(|(name, type_sql, ..)| format!("{name} {type_sql}")).collect();
    let mut sql =
        format!("DROP TABLE IF EXISTS clean; CREATE TABLE clean (id bigint, bad text, {});", declared.join(", "));
    for (number, row) in rows.iter().enumerate() {
        let literal = |text: &str| format!("'{}'", text.replace('\'', "''"));
        let bad = row.bad.map_or("NULL".into(), |bad| literal(FIELDS[bad].0));
        let values = row.cells.iter().enumerate().map(|(field, cell)| match cell {
            Some(text) if row.bad != Some(field) => literal(text),
            _ => "NULL".into(),
        });
        let _ = write!(sql, "INSERT INTO clean VALUES ({number}, {bad}, {});", values.collect::<Vec<_>>().join(", "));
    }
    database.execute(&format!("SET TimeZone = 'UTC'; {sql}")).await?;
    // One whose field cannot be read is dropped only for another of its fields.
    let dropped = parts.iter().map(|Part { sql, field, .. }| {
        format!("(bad IS DISTINCT FROM '{}' AND ({sql}) IS NOT TRUE)", FIELDS[*field].0)
    });
    let unsent: Vec<String> = FIELDS[N_COLUMNS..]
        .iter()
        .enumerate()
        // What is neither a column nor asked about is not read.
        .filter(|(index, _)| parts.iter().all(|part| part.field != N_COLUMNS + index))
        .map(|(_, (name, ..))| format!("'{name}'"))
        .collect();
    let unread = if unsent.is_empty() { "false".into() } else { format!("bad IN ({})", unsent.join(", ")) };
    let fates = format!(
        "SELECT id || CASE WHEN {} THEN ' filtered' WHEN bad IS NOT NULL AND NOT coalesce({unread}, false) THEN ' rejected' \
         ELSE ' written' END FROM clean input ORDER BY id",
        dropped.collect::<Vec<_>>().join(" OR ")
    );
    database.rows(&fates).await.with_context(|| fates)
}

#[tokio::test(flavor = "multi_thread")]
async fn random_rows_have_the_fate_that_postgres_gives_them() -> Result<()> {
    const TRIALS: usize = 60;
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let database = Postgres::shared()?.create_database().await?;
    let scratch = Scratch::new("early")?;
    let columns: Vec<String> =
        FIELDS[..N_COLUMNS].iter().map(|(name, type_sql, ..)| format!("{name} {type_sql}")).collect();
    let (mut config, mut tables, mut files, mut trials) = (String::new(), String::new(), Vec::new(), Vec::new());
    for trial in 0..TRIALS {
        let parts: Vec<Part> = (0..fastrand::usize(1..4)).map(|_| part()).collect();
        let n_bad = if fastrand::bool() { FIELDS.len() } else { 0 };
        let mut bad_in: Vec<usize> = (0..n_bad).collect();
        let form = ["json", "csv", "parquet"][trial % 3];
        if form == "parquet" {
            // Statistics do not tell of a text that is none.
            let may_be_bad = |name| match name {
                "i2" | "vc" => true,
                "tx" | "country" => parts.iter().all(|part| FIELDS[part.field].0 != name),
                _ => false,
            };
            bad_in.retain(|field| may_be_bad(FIELDS[*field].0));
        }
        let mut rows: Vec<Row> = (0..40).map(|_| row(&bad_in)).collect();
        if form == "parquet" {
            for row in &mut rows {
                if row.bad == Some(1) {
                    row.cells[1] = Some("40000".into());
                }
                for cell in
                    row.cells.iter_mut().filter(|cell| cell.as_deref().is_some_and(|text| text.contains("infinity")))
                {
                    *cell = None;
                }
            }
            let by = parts[0].field;
            if fastrand::bool() {
                rows.sort_by(|a, b| a.cells[by].cmp(&b.cells[by]));
            }
        }
        let content = match form {
            "json" => json(&rows),
            "csv" => csv(&rows),
            _ => parquet(&rows)?,
        };
        let joined = |with: &str| {
            let parts =
                parts.iter().map(|part| if part.parentheses { format!("({})", part.sql) } else { part.sql.clone() });
            parts.collect::<Vec<_>>().join(with)
        };
        let asks_size = parts.iter().any(|part| FIELDS[part.field].0 == "size");
        let declared = if asks_size { "input = { size = \"integer\" }\n" } else { "" };
        for (way, condition) in [("early", joined(" AND ")), ("late", format!("({}) IS TRUE", joined(" AND ")))] {
            let name = format!("{way}_{trial}");
            let _ = write!(tables, "CREATE TABLE {name} (id bigint, {});", columns.join(", "));
            let directory = scratch.path().join(&name);
            let _ = write!(
                config,
                "[[dataset]]\nname = \"{name}\"\nmatch = \"{}/**\"\ntable = \"{name}\"\nmode = \"append\"\n\
                 max_rejects = \"100%\"\n{declared}where = \"\"\"{condition}\"\"\"\n",
                directory.display()
            );
            files.push(scratch.write(&format!("{name}/rows.{form}"), &content)?.display().to_string());
        }
        let condition = joined(" AND ");
        trials.push((rows, parts, condition, form));
    }
    scratch.write("importer.toml", config)?;
    database.execute(&tables).await?;
    let importer = |arguments: &[&str]| {
        Program::new("importer").args(arguments).env("DATABASE_URL", database.url()).in_directory(scratch.path())
    };
    assert!(importer(&["migrate"]).run(LIMIT).await?.status.success());
    let arguments: Vec<&str> = std::iter::once("load").chain(files.iter().map(String::as_str)).collect();
    let ended = importer(&arguments).run(LIMIT).await?;
    assert!(ended.status.success(), "{}{}", ended.stdout, ended.stderr);
    let said = importer(&["check"]).run(LIMIT).await?.stdout;
    // Of each dataset's lines, whether one says that Postgres judges a part.
    let is_late = |name: &str| {
        let of = said.split("\ndataset ").find(|of| of.starts_with(&format!("{name}: ")));
        of.map(|of| of.contains(": by Postgres, ")).with_context(|| format!("check says nothing of {name}: {said}"))
    };
    let mut n_direct = 0;
    for (trial, (rows, parts, condition, form)) in trials.iter().enumerate() {
        let said = format!("seed {seed}, trial {trial}, {form}: {condition}");
        let expected = fates(&database, rows, parts).await.context(said.clone())?;
        let numbers = |fate: &str| -> BTreeSet<u64> {
            let of = expected.iter().filter_map(|text| text.strip_suffix(fate)?.trim().parse().ok());
            of.collect()
        };
        let technique = database
            .value(&format!("SELECT o.technique FROM penstock.object_status JOIN penstock.object o USING (id) WHERE dataset = 'early_{trial}'"))
            .await?;
        n_direct += usize::from(technique == "direct");
        let list =
            |texts: Vec<String>| -> Result<BTreeSet<u64>> { texts.iter().map(|text| Ok(text.parse()?)).collect() };
        let mut rejected = Vec::new();
        for way in ["early", "late"] {
            let name = format!("{way}_{trial}");
            let written = list(database.rows(&format!("SELECT id FROM {name}")).await?)?;
            let rejects = list(
                database.rows(&format!("SELECT row_number - 1 FROM penstock.rejects WHERE dataset = '{name}'")).await?,
            )?;
            let counts = database
                .rows(&format!(
                    "SELECT rows_read, rows_written, rows_filtered, rows_rejected FROM penstock.object_status WHERE dataset = '{name}'"
                ))
                .await?;
            let (n_read, n_written, n_rejected) = (rows.len(), written.len(), rejects.len());
            let n_filtered = n_read - n_written - n_rejected;
            assert_eq!(counts, [format!("{n_read} | {n_written} | {n_filtered} | {n_rejected}")], "{way}, {said}");
            rejected.push((written, rejects));
        }
        let [(early_written, early_rejects), (late_written, late_rejects)] = &rejected[..] else { unreachable!() };
        assert_eq!((early_written, late_written), (&numbers("written"), &numbers("written")), "{said}");
        if !is_late(&format!("early_{trial}"))? {
            assert_eq!(*early_rejects, numbers("rejected"), "{said}");
        }
        assert!(early_rejects.is_subset(late_rejects), "{said}");
        assert!(early_rejects.is_superset(&numbers("rejected")), "{said}");
        let columns: Vec<&str> = FIELDS[..N_COLUMNS].iter().map(|(name, ..)| *name).collect();
        let columns = columns.join(", ");
        let values = format!("SELECT {columns} FROM early_{trial} EXCEPT SELECT {columns} FROM clean");
        assert_eq!(database.rows(&values).await?, [""; 0], "{said}");
    }
    assert!(n_direct > TRIALS / 5, "{n_direct} of {TRIALS} went directly");
    Ok(())
}

const COUNTS: &str = "SELECT o.technique, s.rows_read, s.rows_written, s.rows_filtered, s.rows_rejected \
                      FROM penstock.object_status s JOIN penstock.object o USING (id) ORDER BY id";

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, v text, n int DEFAULT 7 CHECK (n < 100))";
const DATASET: &str = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nrename = { land = \"country\" }\n\
                       where = \"input.country <> 'KN' AND input.size >= 2\"\ninput = { size = \"integer\" }";

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_alone_keeps_the_direct_way() -> Result<()> {
    let json = "{\"id\":1,\"land\":\"DE\",\"size\":2,\"v\":\"a\"}\n{\"id\":2,\"land\":\"KN\",\"size\":3,\"v\":\"a\"}\n\
                {\"id\":3,\"size\":3}\n{\"id\":4,\"land\":\"FR\",\"size\":\"x\"}\n{\"id\":\"x\",\"land\":\"FR\",\"size\":1}\n\
                {\"id\":\"x\",\"land\":\"FR\",\"size\":4}\n";
    let csv = "id,v,land,size\n1,a,DE,2\n2,a,KN,3\n3,,,3\n4,,FR,x\nx,,FR,1\nx,,FR,4\n";
    for (name, content) in [("a.json", json), ("a.csv", csv)] {
        let desk = Desk::new(TABLE, DATASET).await?;
        assert_eq!(desk.load(name, content).await?, 0);
        assert_eq!(desk.database.rows(COUNTS).await?, ["direct | 6 | 1 | 3 | 2"], "{name}");
        assert_eq!(desk.rejects().await?, ["4 type size", "6 type id"], "{name}");
        assert_eq!(desk.database.rows("SELECT id, v, n FROM t").await?, ["1 | a | 7"], "{name}");
        // By now the keys are known, so rows are merged.
        assert_eq!(
            desk.load(name, content.replace("a", "b").replace("lbnd", "land").replace("\"vb", "\"va")).await?,
            0
        );
        assert_eq!(desk.database.rows(COUNTS).await?[1], "staged | 6 | 1 | 3 | 2", "{name}");
        assert_eq!(desk.database.rows("SELECT id, v, n FROM t").await?, ["1 | b | 7"], "{name}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_postgres_refused_need_not_have_what_was_only_asked_about() -> Result<()> {
    let desk = Desk::new(TABLE, DATASET).await?;
    let rows = "{\"id\":1,\"land\":\"DE\",\"size\":2,\"n\":500}\n{\"id\":\"two\",\"land\":\"DE\",\"size\":2}\n\
                {\"id\":3,\"land\":\"DE\",\"size\":\"x\"}\n{\"id\":4,\"land\":\"DE\",\"size\":2}\n";
    assert_eq!(desk.load("a.json", rows).await?, 0);
    assert_eq!(desk.rejects().await?, ["1 check", "2 type id", "3 type size"]);
    desk.database.execute("ALTER TABLE t DROP CONSTRAINT t_n_check").await?;
    desk.configure("**", &DATASET.replace("integer", "text").replace("input.size >= 2", "input.size <> 'x'"))?;
    desk.succeed(&["rejects", "--replay"]).await?;
    assert_eq!(desk.rejects().await?, ["2 type id"]);
    assert_eq!(desk.database.rows("SELECT id, n FROM t ORDER BY id").await?, ["1 | 500", "4 | 7"]);
    assert_eq!(desk.database.rows(COUNTS).await?, ["staged | 4 | 2 | 1 | 1"]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn small_objects_share_a_transaction_behind_a_condition() -> Result<()> {
    const OBJECTS: usize = 60;
    let dataset = format!("[[dataset]]\nname = \"t\"\nmatch = \"s3://*/**\"\n{DATASET}");
    let world = World::new(Options::default(), TABLE, &dataset).await?;
    for object in 0..OBJECTS {
        let row = |id: usize| {
            // Some objects have no row that stays.
            let country = if id.is_multiple_of(4) || object.is_multiple_of(5) { "KN" } else { "DE" };
            format!("{{\"id\":{id},\"land\":\"{country}\",\"size\":2}}\n")
        };
        let rows: String = (object * 10..object * 10 + 10).map(row).collect();
        world.pipeline.put(&format!("{object}.json"), rows).await?;
    }
    world.drain(1).await?;
    let expected = (0..OBJECTS * 10).filter(|id| id % 4 != 0 && id / 10 % 5 != 0).count();
    assert_eq!(world.database.value("SELECT count(*) FROM t").await?, expected.to_string());
    let sums = "SELECT sum(rows_read), sum(rows_written), sum(rows_filtered) FROM penstock.object_status";
    assert_eq!(world.database.rows(sums).await?, [format!("600 | {expected} | {}", 600 - expected)]);
    let grouped = "SELECT count(*) FROM penstock.object WHERE technique = 'grouped'";
    let n_grouped: usize = world.database.value(grouped).await?.parse()?;
    assert!(n_grouped > OBJECTS / 20, "{n_grouped} of {OBJECTS} shared a transaction");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_try_say_what_becomes_of_a_condition() -> Result<()> {
    let desk = Desk::new(TABLE, DATASET).await?;
    let dataset = DATASET.replace("AND input.size", "AND length(input.v)\\n < 9 AND input.size");
    let with_format =
        |format: &str| format!("{dataset}\nformat = \"{format}\"").replace("\ninput = { size = \"integer\" }", "");
    let dataset = |format: &str| format!("{}\n[dataset.input]\nsize = \"integer\"", with_format(format));
    for (format, by) in
        [("auto", "while rows are read, and to row groups of Parquet before"), ("csv", "while rows are read")]
    {
        desk.configure("**", &dataset(format))?;
        let said = desk.run(&["check"]).await?.stdout;
        for line in [
            format!("  where input.country <> 'KN': {by}\n"),
            "  where length(input.v) < 9: by Postgres, to rows that are staged\n".to_owned(),
            format!("  where input.size >= 2: {by}\n"),
        ] {
            assert!(said.contains(&line), "{line}{said}");
        }
    }
    let file = desk.write("k.csv", "id,v,land,size\n1,a,DE,2\n2,a,KN,2\n3,a23456789,DE,2\n4,a,DE,x\n")?;
    for dataset in [DATASET, &dataset("csv")] {
        desk.configure("**", dataset)?;
        let said = desk.succeed(&["try", "d", &file]).await?;
        let by_postgres = dataset.contains("length");
        let third = if by_postgres { "row 3: filtered by where" } else { "row 3: {\"id\":3" };
        for line in ["row 1: {\"id\":1", "row 2: filtered by where", third, "row 4: rejected, class type"] {
            assert!(said.contains(line), "{line}: {said}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_rows_that_are_dropped_are_fields_of_the_object() -> Result<()> {
    let dataset = "table = \"t\"\nkey = [\"id\"]\nwhere = \"input.n < 5\"";
    for condition in ["input.n < 5", "(input.n < 5) IS TRUE"] {
        let desk = Desk::new(
            "CREATE TABLE t (id bigint PRIMARY KEY, v text, w text, n int); INSERT INTO t VALUES (1, 'old', 'old', 0)",
            &dataset.replace("input.n < 5", condition),
        )
        .await?;
        assert_eq!(desk.load("a.json", "{\"id\":1,\"n\":1}\n{\"id\":2,\"n\":9,\"v\":\"a\"}\n").await?, 0);
        assert_eq!(desk.database.rows("SELECT * FROM t").await?, ["1 | ∅ | old | 1"], "{condition}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_of_the_schema_leave_a_condition_to_postgres() -> Result<()> {
    let desk = Desk::new(TABLE, DATASET).await?;
    desk.database
        .execute(
            "CREATE FUNCTION public.odd(int, date) RETURNS boolean LANGUAGE sql IMMUTABLE AS 'SELECT true'; \
             CREATE OPERATOR public.>= (LEFTARG = int, RIGHTARG = date, FUNCTION = public.odd)",
        )
        .await?;
    let said = desk.run(&["check"]).await?.stdout;
    assert!(said.contains("where input.size >= 2: by Postgres"), "{said}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_sees_fields_and_not_what_becomes_of_them() -> Result<()> {
    let tables = "CREATE TABLE t (id bigint PRIMARY KEY, v text, size int, country text, n int DEFAULT 7)";
    let json: String = (0..12)
        .map(|id| {
            let (country, v) = (["DE", "KN", "FR"][id % 3], ["a", "b"][id % 2]);
            format!("{{\"id\":{id},\"land\":\"{country}\",\"size\":{},\"v\":\"{v}\"}}\n", id / 2)
        })
        .collect();
    let csv: String =
        (0..12).map(|id| format!("{id},{},{},{}\n", ["DE", "KN", "FR"][id % 3], id / 2, ["a", "b"][id % 2])).collect();
    let csv = format!("id,land,size,v\n{csv}");
    let texts =
        |of: fn(i64) -> &'static str| -> ArrayRef { Arc::new((0..12).map(of).map(Some).collect::<StringArray>()) };
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..12))),
        ("land", texts(|id| ["DE", "KN", "FR"][id as usize % 3])),
        ("size", Arc::new(Int64Array::from_iter_values((0..12).map(|id| id / 2)))),
        ("v", texts(|id| ["a", "b"][id as usize % 2])),
    ];
    let groups_of_two = || WriterProperties::builder().set_max_row_group_row_count(Some(2));
    let parquet = written(&RecordBatch::try_from_iter(columns)?, groups_of_two())?;
    for (name, content) in [("a.json", json.as_bytes()), ("a.csv", csv.as_bytes()), ("a.parquet", &parquet)] {
        for condition in ["{}", "({}) IS TRUE"] {
            let parts = "input.country <> 'KN' AND input.size < 4 AND input.n IS NULL AND input.v = 'a'";
            let dataset = format!(
                "table = \"t\"\nkey = [\"id\"]\nrename = {{ land = \"country\" }}\nset = {{ size = \"input.size + 10\" }}\n\
                 where = \"{}\"\n[defaults.set]\nv = \"upper(input.v)\"",
                condition.replace("{}", parts)
            );
            let desk = Desk::new(tables, &dataset).await?;
            assert_eq!(desk.load(name, content).await?, 0);
            let rows = "SELECT id, v, size, country, n FROM t ORDER BY id";
            let expected = ["0 | A | 10 | DE | 7", "2 | A | 11 | FR | 7", "6 | A | 13 | DE | 7"];
            assert_eq!(desk.database.rows(rows).await?, expected, "{name}, {condition}");
            assert_eq!(desk.database.rows(COUNTS).await?, ["staged | 12 | 3 | 9 | 0"], "{name}, {condition}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_raises_an_error_is_asked_of_the_rows_that_others_leave() -> Result<()> {
    let dataset = "table = \"t\"\nkey = [\"id\"]\nmax_rejects = 5\nwhere = \"input.v = 'a' AND 10 / input.n > 3\"";
    for condition in ["input.v = 'a' AND 10 / input.n > 3", "10 / input.n > 3 AND input.v = 'a'"] {
        let dataset = dataset.replace("input.v = 'a' AND 10 / input.n > 3", condition);
        let desk = Desk::new(TABLE, &dataset).await?;
        let csv = "id,v,n\n1,a,0\n2,b,0\n3,a,2\n4,a,5\n5,,1\n6,b,x\n";
        assert_eq!(desk.load("a.csv", csv).await?, 0);
        assert_eq!(desk.rejects().await?, ["1 type"], "{condition}");
        assert_eq!(desk.database.rows(COUNTS).await?, ["staged | 6 | 1 | 4 | 1"], "{condition}");
        assert_eq!(desk.database.rows("SELECT id, v, n FROM t").await?, ["3 | a | 2"], "{condition}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_that_no_row_of_can_stay_are_not_read() -> Result<()> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..30));
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..30));
    let records = RecordBatch::try_from_iter([("id", ids), ("n", n)])?;
    let mut file = written(&records, WriterProperties::builder().set_max_row_group_row_count(Some(10)))?;
    let reader = SerializedFileReader::new(bytes::Bytes::from(file.clone()))?;
    let (start, length) = reader.metadata().row_group(1).column(1).byte_range();
    file[start as usize..(start + length) as usize].fill(0);
    let dataset = "table = \"t\"\nkey = [\"id\"]\nwhere = \"{}\"";
    for (condition, status, counts) in [
        ("input.n < 10", 0, "direct | 30 | 10 | 20 | 0"),
        ("input.n >= 20 AND input.id <> 25", 0, "direct | 30 | 9 | 21 | 0"),
        ("input.n = 9 AND length(input.v) IS NULL", 0, "staged | 30 | 1 | 29 | 0"),
        ("input.n <= 10", 3, "∅ | ∅ | ∅ | ∅ | ∅"),
    ] {
        let desk = Desk::new(TABLE, &dataset.replace("{}", condition)).await?;
        assert_eq!(desk.load("a.parquet", &file).await?, status, "{condition}");
        assert_eq!(desk.database.rows(COUNTS).await?, [counts], "{condition}");
    }
    Ok(())
}
