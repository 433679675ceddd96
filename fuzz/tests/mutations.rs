//! Decoders and the message parser, fed mutations of what is valid: they never panic, never hang, and stay in memory.
//!
//! `PENSTOCK_SEED` replays a run, `PENSTOCK_MUTATIONS` makes it longer (per sample).

use apache_avro::{Codec, Schema, Writer, types::Record, types::Value};
use arrow_array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use decode::Format;
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
// What holds for any bytes is told once, for these tests and the fuzzers.
use parquet::{arrow::ArrowWriter, basic, file::properties::WriterProperties};
use penstock_fuzz as any_bytes;
use std::{
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

/// Mutations of each sample.
const MUTATIONS: usize = 400;
/// One of them takes milliseconds; longer than this is a loop that some bytes have drawn out.
const TIME_LIMIT: Duration = Duration::from_secs(10);
/// What the whole process may take at its peak.
const PEAK_MIB: u64 = 400;

#[test]
fn mutated_json_is_read_within_bounds() {
    let line = br#"{"id":1,"n":-3,"amount":12.50,"ratio":1e3,"value":"a\u00e9\ud83d\ude00\"x","at":"2026-01-02T03:04:05.678Z","day":"2026-01-02","raw":"\\x00ff","flag":true,"doc":{"a":[1,null,{"b":"c"}]},"tags":["x",null],"more":{"deep":[[[]]]}}"#;
    let lines = [line.as_slice(), b"\r\n\n", line, b"\n{\"id\":2}\n"].concat();
    let document = [b"[", line.as_slice(), b",\n ", line, b",{}]"].concat();
    mutate("ndjson", Format::Ndjson, &lines);
    mutate("json", Format::Json, &document);
    mutate("any json", Format::Auto, &document);
}

#[test]
fn mutated_csv_is_read_within_bounds() {
    let text = "id,n,value,at,raw,more\r\n1,2,\"a \"\"b\"\"\nc\",2026-01-02 03:04:05,\\x00,x\n2,,NA,,\"\",\n3,4,é,2026-01-01,\\xff,y";
    mutate("csv", Format::Csv, text.as_bytes());
    let utf16: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_le_bytes).collect();
    mutate("utf-16 csv", Format::Csv, &utf16);
}

#[test]
fn mutated_avro_is_read_within_bounds() {
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"value","type":["null","string"]},
            {"name":"doc","type":{"type":"map","values":{"type":"array","items":"double"}}},{"name":"raw","type":"bytes"},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"n","type":{"type":"enum","name":"e","symbols":["a","b"]}}]}"#,
    )
    .expect("a schema");
    for codec in [Codec::Null, Codec::Deflate(Default::default()), Codec::Snappy] {
        let mut writer = Writer::with_codec(&schema, Vec::new(), codec).expect("a writer");
        for id in 0..40i64 {
            let mut record = Record::new(&schema).expect("a record");
            record.put("id", id);
            record.put("value", Value::Union(1, Box::new(Value::String(format!("value {id}")))));
            record.put("doc", Value::Map([("k".to_owned(), Value::Array(vec![Value::Double(1.5)]))].into()));
            record.put("raw", Value::Bytes(vec![0, 255]));
            record.put("at", Value::TimestampMicros(id));
            record.put("n", Value::Enum(1, "b".into()));
            writer.append_value(record).expect("a row");
        }
        mutate(&format!("avro {codec:?}"), Format::Avro, &writer.into_inner().expect("a file"));
    }
}

#[test]
fn mutated_parquet_is_read_within_bounds() {
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..300))),
        (
            "value",
            Arc::new((0..300).map(|id| (id % 5 > 0).then(|| format!("value {}", id % 9))).collect::<StringArray>()),
        ),
        ("raw", Arc::new((0..300u16).map(|id| Some(id.to_le_bytes())).collect::<BinaryArray>())),
        ("at", Arc::new(TimestampMicrosecondArray::from_iter_values(0..300).with_timezone("UTC"))),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("a batch");
    for compression in
        [basic::Compression::UNCOMPRESSED, basic::Compression::SNAPPY, basic::Compression::ZSTD(Default::default())]
    {
        let properties =
            WriterProperties::builder().set_compression(compression).set_max_row_group_row_count(Some(100)).build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).expect("a writer");
        writer.write(&batch).expect("rows");
        writer.close().expect("a file");
        mutate(&format!("parquet {compression}"), Format::Parquet, &file);
    }
}

#[test]
fn mutated_compression_is_read_within_bounds() {
    let text = "{\"id\":1,\"value\":\"some text, some text\"}\n".repeat(100);
    let gzip = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("a Vec takes all")
    };
    let zstd = zstd::encode_all(text.as_bytes(), 3).expect("a Vec takes all");
    mutate("gzip", Format::Auto, &[gzip(text.as_bytes()), gzip(b"{\"id\":2}\n")].concat());
    mutate("zstd", Format::Auto, &[zstd.clone(), b"\x50\x2a\x4d\x18\x02\0\0\0xx".to_vec(), zstd.clone()].concat());
    mutate("gzip of zstd", Format::Auto, &gzip(&zstd));
}

#[test]
fn mutated_documents_are_read_within_bounds_wherever_their_rows_are() {
    let document =
        r#"{"v":1,"Records":[{"id":1,"user":{"name":"a"},"list":[1,2]},null,{"id":2}],"more":{}} {"Records":null}"#;
    each_mutation("places", &[&[5], document.as_bytes()].concat(), any_bytes::read_places);
}

#[test]
fn mutated_lines_of_text_are_read_within_bounds() {
    let line = "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326 \"-\" \"Mozilla (\\\"x\\\")\"\n";
    let fields = "#Version: 1.0\n#Fields: date time sc-bytes c-ip\n2019-12-04\t21:02:31\t392\t192.0.2.100\n";
    for (choice, text) in [(0, line), (1, line), (5, fields), (8, "12 a value t\nnone\n"), (9, line)] {
        each_mutation("text", &[&[choice], text.as_bytes()].concat(), any_bytes::read_text);
    }
}

#[test]
fn mutated_archives_are_read_within_bounds() {
    let mut tar = tar::Builder::new(vec![0]);
    for (name, content) in [("a.csv", "id,n\n1,2\n"), ("b/c.csv", "id,n\n3,4\n")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes()).expect("a Vec takes all");
    }
    each_mutation("tar", &tar.into_inner().expect("an archive"), any_bytes::read_archive);
}

#[test]
fn mutated_messages_are_parsed_within_bounds() {
    let event = r#"{"Records":[{"eventVersion":"2.1","eventSource":"aws:s3","eventTime":"2026-01-02T03:04:05.678Z","eventName":"ObjectCreated:Put","s3":{"bucket":{"name":"b"},"object":{"key":"a+b%20%C3%A9","size":3,"eTag":"\"e\"","versionId":"null","sequencer":"0055AED6DCD90281E5"}}}]}"#;
    let quoted = event.replace('\\', "\\\\").replace('"', "\\\"");
    let sns =
        format!(r#"{{"Type":"Notification","MessageId":"m","TopicArn":"t","Message":"{quoted}","Timestamp":"x"}}"#);
    let bridge = r#"{"version":"0","detail-type":"Object Created","source":"aws.s3","time":"2026-01-02T03:04:05Z","detail":{"version":"0","bucket":{"name":"b"},"object":{"key":"k","size":3,"etag":"e","version-id":"v","sequencer":"00"},"reason":"PutObject"}}"#;
    let pointer = r#"{"bucket":"b","key":"k","version_id":"v","etag":"e","size":1,"sequencer":"00","force":true}"#;
    let test_event = r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#;
    for (name, body) in [
        ("S3", event),
        ("SNS", &sns),
        ("EventBridge", bridge),
        ("pointer", pointer),
        ("test", test_event),
        ("bare", "s3://b/k"),
    ] {
        each_mutation(name, body.as_bytes(), |bytes| any_bytes::parse(&String::from_utf8_lossy(bytes)));
    }
}

/// Reads the sample, which has rows, and mutations of it.
fn mutate(name: &str, format: Format, sample: &[u8]) {
    let rows = any_bytes::read(format, sample).expect(name);
    assert!(rows > 0, "{name} has no rows");
    each_mutation(name, sample, |bytes| drop(any_bytes::read(format, bytes)));
}

fn each_mutation(name: &str, sample: &[u8], read: impl Fn(&[u8])) {
    let seed = variable("PENSTOCK_SEED").unwrap_or_else(|| fastrand::u64(..));
    let n_mutations = variable("PENSTOCK_MUTATIONS").map_or(MUTATIONS, |n| n as usize);
    println!("{name}: PENSTOCK_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    for number in 0..n_mutations {
        let bytes = mutation(sample, &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&bytes)));
        let took = started.elapsed();
        assert!(outcome.is_ok(), "mutation {number} of {name} with PENSTOCK_SEED={seed}: {}", shown(&bytes));
        assert!(
            took < TIME_LIMIT,
            "mutation {number} of {name} with PENSTOCK_SEED={seed} took {took:?}: {}",
            shown(&bytes)
        );
    }
    let peak = peak_mib();
    assert!(peak <= PEAK_MIB, "{name} with PENSTOCK_SEED={seed}: the peak was {peak} MiB");
}

/// Returns the sample with one to four things done to it that happen to files, or that somebody would try.
fn mutation(sample: &[u8], random: &mut Rng) -> Vec<u8> {
    /// Bytes that mean something somewhere, and lengths at their limits.
    const WORDS: [&[u8]; 14] = [
        b"\"",
        b"\\",
        b"{",
        b"[",
        b"\n",
        b"\0",
        b"\xff",
        b"\xff\xff\xff\xff",
        b"\xff\xff\xff\x7f",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01",
        b"\\ud800",
        b"1e999999999",
        b"null",
        b",",
    ];
    let mut bytes = sample.to_vec();
    for _ in 0..random.usize(1..=4) {
        if bytes.is_empty() {
            break;
        }
        let at = random.usize(..bytes.len());
        let length = random.usize(..=64.min(bytes.len() - at));
        match random.u8(..7) {
            0 => bytes[at] ^= 1 << random.u8(..8),
            1 => bytes[at] = random.u8(..),
            2 => bytes.truncate(at),
            3 => drop(bytes.drain(at..at + length)),
            4 => drop(bytes.splice(at..at, WORDS[random.usize(..WORDS.len())].iter().copied())),
            5 => {
                let piece = bytes[at..at + length].repeat(random.usize(1..=200));
                drop(bytes.splice(at..at, piece));
            }
            _ => {
                let other = random.usize(..bytes.len() - length + 1);
                bytes.copy_within(at..at + length, other);
            }
        }
    }
    bytes
}

fn shown(bytes: &[u8]) -> String {
    bytes.escape_ascii().take(4000).map(char::from).collect()
}

fn variable(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Returns the peak of this process's resident memory, where the system tells.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.trim().trim_end_matches("kB").trim().parse::<u64>().ok()).map_or(0, |kib| kib / 1024)
}
