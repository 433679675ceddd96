//! `fuzz_seeds DIRECTORY`: small samples of what each target reads, so that a run begins where files make sense.

use apache_avro::{Codec, Schema, Writer, types::Value};
use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray, StructArray,
    types::Int64Type,
};
use flate2::{
    Compression,
    write::{DeflateEncoder, GzEncoder},
};
use parquet::{arrow::ArrowWriter, basic, file::properties::WriterProperties};
use std::{error::Error, fs, io::Write, path::Path, sync::Arc};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const NDJSON: &str = "{\"id\":1,\"n\":-7,\"amount\":1.50,\"value\":\"a\\u00e9\\n\",\"at\":\"2020-01-02T03:04:05Z\"}\n\
    {\"id\":2,\"day\":\"2020-01-02\",\"raw\":\"\\\\xff00\",\"flag\":true,\"doc\":{\"a\":[1,null]},\"tags\":[\"x\",\"y\"],\"new\":{}}\n";
const CSV: &str = "id,n,amount,value,at,day,flag,tags,new\n1,-7,1.50,\"a \"\"b\"\"\",2020-01-02 03:04:05,2020-01-02,t,\"{x,y}\",z\n\
    2,NA,,\"two\nlines\",,,f,,\n";
/// Each with the byte that chooses how it is read.
const PLACES: [(u8, &str); 4] = [
    (
        5,
        "{\"v\":1,\"Records\":[{\"id\":1,\"user\":{\"name\":\"a\"},\"list\":[1,2]},null,{\"id\":2}],\"more\":{}}\n{\"Records\":null}",
    ),
    (6, "{\"a\":[{\"b\":[{\"a/b\":{\"~\":7},\"user\":{}}]}]}"),
    (7, "{\"data\":{\"\":[{\"id\":1},{\"id\":\"x\"}]}}"),
    (4, "{\"user\":{\"name\":[{\"deep\":[[]]}]}}\n{\"a/b\":{\"~\":\"\\ud83d\\ude00\"}}"),
];
/// Likewise; in the order of the presets.
const TEXTS: [(u8, &str); 9] = [
    (
        0,
        "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 2326 \"http://a/b\" \"Mozilla/4.08 (\\\"x\\\")\"\n",
    ),
    (1, "127.0.0.1 - frank [10/Oct/2000:13:55:36 -0700] \"GET /a.gif HTTP/1.0\" 200 -\n"),
    (
        2,
        "79a5 bucket [06/Feb/2019:00:00:38 +0000] 192.0.2.3 79a5 3E57427F3EXAMPLE REST.GET.VERSIONING - \"GET /b?versioning HTTP/1.1\" 200 - 113 - 7 - \"-\" \"S3Console/0.4\" - s9l SigV4 ECDHE-RSA AuthHeader b.s3.amazonaws.com TLSv1.2 - -\n",
    ),
    (
        3,
        "http 2018-07-02T22:23:00.186641Z app/my/50dc 192.168.131.39:2817 10.0.0.1:80 0.000 0.001 0.000 200 200 34 366 \"GET http://a:80/ HTTP/1.1\" \"curl/7.46.0\" - - arn:aws:x \"Root=1\" \"-\" \"-\" 0 2018-07-02T22:22:48.364000Z \"forward\" \"-\" \"-\" \"10.0.0.1:80\" \"200\" \"-\" \"-\"\n",
    ),
    (
        4,
        "tls 2.0 2018-12-20T02:59:40 net/my/c6 g3d4 72.21.218.154:51341 172.100.100.185:443 5 2 98 246 - arn:aws:x - ECDHE tlsv12 - a.com - - - 2018-12-20T02:59:30\n",
    ),
    (
        5,
        "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes c-ip cs(User-Agent)\n2019-12-04\t21:02:31\tLAX1\t392\t192.0.2.100\tMozilla/5.0%20(x)\n",
    ),
    (
        6,
        "version account-id interface-id srcaddr dstaddr srcport dstport protocol packets bytes start end action log-status\n2 123456789010 eni-1235 172.31.16.139 172.31.16.21 20641 22 6 20 4249 1418530010 1418530070 ACCEPT OK\n",
    ),
    (8, "12 a value t\n13 another\nnone\n"),
    (9, "any line\r\nand another\n"),
];
const MESSAGES: [&str; 3] = [
    "{\"bucket\":\"b\",\"key\":\"a/b.csv\",\"version_id\":\"v\",\"etag\":\"e\",\"size\":7}",
    "{\"Records\":[{\"eventVersion\":\"2.1\",\"eventSource\":\"aws:s3\",\"eventTime\":\"2026-01-01T00:00:00.000Z\",\
     \"eventName\":\"ObjectCreated:Put\",\"s3\":{\"bucket\":{\"name\":\"b\"},\"object\":{\"key\":\"a%2Fb+c.csv\",\"size\":1,\
     \"eTag\":\"e\",\"sequencer\":\"0055AED6DCD90281E5\",\"versionId\":\"v\"}}}]}",
    "{\"Type\":\"Notification\",\"MessageId\":\"m\",\"TopicArn\":\"t\",\"Message\":\"{\\\"bucket\\\":\\\"b\\\",\\\"key\\\":\\\"k\\\"}\"}",
];

fn main() -> Result<()> {
    let directory = std::env::args().nth(1).ok_or("usage: fuzz_seeds DIRECTORY")?;
    let parquet = parquet_files()?;
    let avro = avro_files()?;
    let json: Vec<Vec<u8>> = vec![
        NDJSON.into(),
        format!("[{}]", NDJSON.trim_end().replace('\n', ",")).into_bytes(),
        // Rows that share a line, and one whose extra field is nearly all of it.
        format!("{{\"id\":1}}\n{}\n", "{\"id\":2}".repeat(6_000)).into_bytes(),
        format!("{{\"id\":1,\"new\":\"{}\"}}\n{{\"id\":2}}\n", "x".repeat(60_000)).into_bytes(),
    ];
    let csv: Vec<Vec<u8>> = vec![
        CSV.into(),
        CSV.replace(',', "\t").into_bytes(),
        CSV.replace(',', ";").into_bytes(),
        // A long name in the header, and torn records.
        format!("id,{}\n1,x\n", "n".repeat(60_000)).into_bytes(),
        format!("id\n{}", "\"a\"b\"c\"\n1\n".repeat(6_000)).into_bytes(),
    ];
    let dialects = csv.iter().zip(b",\t;,,").map(|(csv, delimiter)| [&[*delimiter, b'"', 0], csv.as_slice()].concat());
    let gzipped = json.iter().chain(&csv).map(|content| gzip(content)).collect::<Result<Vec<_>>>()?;
    let zstandard = json.iter().chain(&csv).map(|content| zstd(content)).collect::<Result<Vec<_>>>()?;
    // The target puts the magic numbers before what it is given.
    let unpacking = gzipped.iter().map(|file| [&[1], &file[3..]].concat());
    let unpacking = unpacking.chain(zstandard.iter().map(|file| [&[2], &file[4..]].concat()));
    let archives = archives(&[("a/b.csv", CSV), ("__MACOSX/._b", "x"), ("c.json", "{\"id\":1}")])?;
    let all = [&json[..], &csv, &gzipped, &zstandard, &parquet, &avro].concat();
    let chosen = |seeds: &[(u8, &str)]| -> Vec<Vec<u8>> {
        seeds.iter().map(|(choice, text)| [&[*choice], text.as_bytes()].concat()).collect()
    };
    for (target, seeds) in [
        ("archives", archives),
        ("places", chosen(&PLACES)),
        ("text", chosen(&TEXTS)),
        ("avro", avro),
        ("compression", unpacking.collect()),
        ("dialect", dialects.collect()),
        ("csv", csv),
        ("describe", all),
        ("ndjson", json.clone()),
        ("json", json),
        ("message", MESSAGES.iter().map(|message| message.as_bytes().to_vec()).collect()),
        ("parquet", parquet),
    ] {
        let directory = Path::new(&directory).join(target);
        fs::create_dir_all(&directory)?;
        for (index, seed) in seeds.iter().enumerate() {
            fs::write(directory.join(index.to_string()), seed)?;
        }
    }
    Ok(())
}

fn gzip(content: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(content)?;
    Ok(encoder.finish()?)
}

/// Archives of these members, each with the byte that chooses how it is read.
fn archives(members: &[(&str, &str)]) -> Result<Vec<Vec<u8>>> {
    let mut tar = tar::Builder::new(vec![0]);
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, name, content.as_bytes())?;
    }
    let tar = tar.into_inner()?;
    let packed = [&[1], &gzip(&tar[1..])?[..]].concat();
    let mut zip = Vec::new();
    let mut writer = rawzip::ZipArchiveWriter::new(&mut zip);
    for (name, content) in members {
        let (mut entry, config) =
            writer.new_file(name).compression_method(rawzip::CompressionMethod::DEFLATE).start()?;
        let mut packing = config.wrap(DeflateEncoder::new(&mut entry, Compression::fast()));
        packing.write_all(content.as_bytes())?;
        let (packed, descriptor) = packing.finish()?;
        packed.finish()?;
        entry.finish(descriptor)?;
    }
    writer.finish()?;
    let zip = [&[1], &zip[..]].concat();
    Ok(vec![tar, packed, zip])
}

fn zstd(content: &[u8]) -> Result<Vec<u8>> {
    Ok(zstd::stream::encode_all(content, 3)?)
}

/// A file for each codec and encoding that matters.
fn parquet_files() -> Result<Vec<Vec<u8>>> {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..40));
    let ratios: ArrayRef =
        Arc::new(Float64Array::from_iter((0..40).map(|i| (i % 3 > 0).then_some(f64::from(i) / 7.0))));
    let values: ArrayRef = Arc::new(StringArray::from_iter_values((0..40).map(|i| format!("value {}", i % 7))));
    let flags: ArrayRef = Arc::new(BooleanArray::from_iter((0..40).map(|i| Some(i % 2 == 0))));
    let docs: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>(
        (0..40).map(|i| (i % 5 > 0).then(|| (0..i % 4).map(Some).collect::<Vec<_>>())),
    ));
    let columns = [("id", ids), ("ratio", ratios), ("value", values), ("flag", flags), ("doc", docs)];
    let records = RecordBatch::try_from_iter(columns)?;
    let plain = || WriterProperties::builder().set_max_row_group_row_count(Some(25));
    let delta = basic::Encoding::DELTA_BYTE_ARRAY;
    let mut files = vec![parquet_names()?, parquet_nulls()?];
    for properties in [
        plain().build(),
        plain().set_compression(basic::Compression::LZ4).build(),
        plain().set_compression(basic::Compression::SNAPPY).build(),
        plain().set_compression(basic::Compression::ZSTD(basic::ZstdLevel::default())).build(),
        plain().set_compression(basic::Compression::GZIP(basic::GzipLevel::default())).build(),
        plain().set_compression(basic::Compression::BROTLI(basic::BrotliLevel::default())).build(),
        plain().set_compression(basic::Compression::LZ4_RAW).set_dictionary_enabled(false).build(),
        plain()
            .set_dictionary_enabled(false)
            .set_column_encoding("value".into(), delta)
            .set_column_encoding("id".into(), basic::Encoding::DELTA_BINARY_PACKED)
            .set_writer_version(parquet::file::properties::WriterVersion::PARQUET_2_0)
            .build(),
    ] {
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, records.schema(), Some(properties))?;
        writer.write(&records)?;
        writer.close()?;
        files.push(file);
    }
    Ok(files)
}

/// A schema of many columns in a group with a long name.
fn parquet_names() -> Result<Vec<u8>> {
    let columns = (0..500).map(|i| (format!("c{i}"), Arc::new(Int64Array::from(vec![1])) as ArrayRef));
    let inside: ArrayRef = Arc::new(StructArray::from(RecordBatch::try_from_iter(columns)?));
    let records = RecordBatch::try_from_iter([("n".repeat(20_000), inside)])?;
    let mut file = Vec::new();
    ArrowWriter::try_new(&mut file, records.schema(), None)?.close()?;
    Ok(file)
}

/// Lists of many nulls, which are next to nothing in the file.
fn parquet_nulls() -> Result<Vec<u8>> {
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>((0..20).map(|_| Some(vec![None; 100_000])));
    let records = RecordBatch::try_from_iter([("doc", Arc::new(lists) as ArrayRef)])?;
    let mut file = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut file, records.schema(), None)?;
    writer.write(&records)?;
    writer.close()?;
    Ok(file)
}

/// Many types in a long namespace.
fn avro_names() -> Result<Vec<u8>> {
    let types = (0..150).map(|i| format!(r#"{{"name":"f{i}","type":{{"type":"fixed","name":"t{i}","size":1}}}}"#));
    let (namespace, types) = ("n".repeat(900), types.collect::<Vec<_>>().join(","));
    let schema = format!(r#"{{"type":"record","name":"r","namespace":"{namespace}","fields":[{types}]}}"#);
    Ok(Writer::new(&Schema::parse_str(&schema)?, Vec::new())?.into_inner()?)
}

/// Arrays of many nulls, which take no bytes.
fn avro_nulls() -> Result<Vec<u8>> {
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"new","type":{"type":"array","items":"null"}}]}"#,
    )?;
    let mut writer = Writer::new(&schema, Vec::new())?;
    for id in 0..100 {
        let nulls = Value::Array(vec![Value::Null; 60_000]);
        writer.append_value(Value::Record(vec![("id".into(), Value::Long(id)), ("new".into(), nulls)]))?;
    }
    Ok(writer.into_inner()?)
}

/// A file for each codec.
fn avro_files() -> Result<Vec<Vec<u8>>> {
    let schema = Schema::parse_str(
        r#"{"type":"record","name":"r","fields":[{"name":"id","type":"long"},{"name":"value","type":["null","string"]},
            {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
            {"name":"amount","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
            {"name":"doc","type":{"type":"map","values":{"type":"array","items":"int"}}}]}"#,
    )?;
    let mut files = vec![avro_names()?, avro_nulls()?];
    for codec in [
        Codec::Null,
        Codec::Deflate(Default::default()),
        Codec::Snappy,
        Codec::Zstandard(Default::default()),
        Codec::Bzip2(Default::default()),
        Codec::Xz(Default::default()),
    ] {
        let mut writer = Writer::with_codec(&schema, Vec::new(), codec)?;
        for id in 0..20 {
            let numbers = Value::Array((0..id % 3).map(Value::Int).collect());
            writer.append_value(Value::Record(vec![
                ("id".into(), Value::Long(id.into())),
                ("value".into(), Value::Union(1, Box::new(Value::String(format!("value {id}"))))),
                ("at".into(), Value::TimestampMicros(1_600_000_000_000_000 + i64::from(id))),
                ("amount".into(), Value::Decimal(vec![1, id as u8].into())),
                ("doc".into(), Value::Map([("a".to_owned(), numbers)].into_iter().collect())),
            ]))?;
        }
        files.push(writer.into_inner()?);
    }
    Ok(files)
}
