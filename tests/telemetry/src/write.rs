//! Events as files.

use super::{COLUMNS, Event};
use anyhow::Result;
use arrow_array::{
    ArrayRef, Decimal128Array, Float64Array, Int32Array, Int64Array, ListArray, RecordBatch, StringArray,
    TimestampMicrosecondArray,
    builder::{ListBuilder, StringBuilder},
};
use chrono::{DateTime, SecondsFormat};
use flate2::{Compression, write::GzEncoder};
use parquet::{arrow::ArrowWriter, basic, file::properties::WriterProperties};
use std::{
    io::{BufWriter, Write},
    sync::Arc,
};

/// A way to write events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
pub enum Format {
    /// Parquet, snappy.
    Parquet,
    /// One JSON object per line, gzip.
    Ndjson,
    /// CSV with a header, gzip.
    Csv,
}

impl Format {
    /// Returns how the names of such files end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Ndjson => "ndjson.gz",
            Self::Csv => "csv.gz",
        }
    }
}

/// Rows of a Parquet row group, which the writer holds in memory.
const ROW_GROUP_ROWS: usize = 100_000;

/// Writes the events as one file; returns how many bytes they took before compression (text formats).
///
/// # Errors
/// When the output cannot be written.
pub fn write(format: Format, events: impl Iterator<Item = Event>, to: impl Write + Send) -> Result<u64> {
    write_columns(format, COLUMNS.len(), Compression::fast(), events, to)
}

/// Writes the first [`super::LEAN_COLUMNS`] columns of the events as one file. Another `level` of gzip gives the
/// text formats other bytes with the same rows; in Parquet it is part of the writer's name.
///
/// # Errors
/// When the output cannot be written.
pub fn write_lean(
    format: Format,
    level: u32,
    events: impl Iterator<Item = Event>,
    to: impl Write + Send,
) -> Result<u64> {
    write_columns(format, super::LEAN_COLUMNS, Compression::new(level), events, to)
}

fn write_columns(
    format: Format,
    n_columns: usize,
    level: Compression,
    events: impl Iterator<Item = Event>,
    to: impl Write + Send,
) -> Result<u64> {
    match format {
        Format::Parquet => parquet(events, n_columns, level, to),
        Format::Ndjson => text(to, level, events, "", |event| ndjson_line(event, n_columns)),
        Format::Csv => {
            let header = format!("{}\n", COLUMNS[..n_columns].join(","));
            text(to, level, events, &header, |event| csv_line(event, n_columns))
        }
    }
}

/// Returns the SQL that inserts the events into a table, for a model to compare with.
pub fn insert(table: &str, events: impl Iterator<Item = Event>) -> String {
    let tuples: Vec<String> = events
        .map(|event| {
            let tags: Vec<String> = event.tags.iter().map(|tag| format!("'{tag}'")).collect();
            format!(
                "({},'{}','{}','{}','{}','{}','{}','{}',{},{},{},ARRAY[{}]::text[],'{}')",
                event.event_id,
                observed_at(&event),
                event.sender_domain,
                event.source_ip,
                event.spf,
                event.dkim,
                event.dmarc,
                event.disposition,
                event.message_count,
                spend(&event).unwrap_or_else(|| "NULL".into()),
                event.score,
                tags.join(","),
                event.meta,
            )
        })
        .collect();
    // A statement of a thousand rows is quick to parse.
    tuples.chunks(1000).map(|some| format!("INSERT INTO {table} VALUES {};", some.join(","))).collect()
}

fn text(
    to: impl Write,
    level: Compression,
    events: impl Iterator<Item = Event>,
    header: &str,
    line_of: impl Fn(&Event) -> String,
) -> Result<u64> {
    let mut gzip = BufWriter::with_capacity(1 << 16, GzEncoder::new(to, level));
    gzip.write_all(header.as_bytes())?;
    let mut n_bytes = header.len() as u64;
    for event in events {
        let line = line_of(&event);
        n_bytes += line.len() as u64;
        gzip.write_all(line.as_bytes())?;
    }
    gzip.into_inner().map_err(std::io::IntoInnerError::into_error)?.finish()?.flush()?;
    Ok(n_bytes)
}

/// The generator's texts need no escaping in JSON.
fn ndjson_line(event: &Event, n_columns: usize) -> String {
    let rest = if n_columns == COLUMNS.len() {
        let tags: Vec<String> = event.tags.iter().map(|tag| format!("\"{tag}\"")).collect();
        format!(",\"tags\":[{}],\"meta\":{}", tags.join(","), event.meta)
    } else {
        String::new()
    };
    format!(
        "{{\"event_id\":{},\"observed_at\":\"{}\",\"sender_domain\":\"{}\",\"source_ip\":\"{}\",\"spf\":\"{}\",\
         \"dkim\":\"{}\",\"dmarc\":\"{}\",\"disposition\":\"{}\",\"message_count\":{},\"spend\":{},\"score\":{}{rest}}}\n",
        event.event_id,
        observed_at(event),
        event.sender_domain,
        event.source_ip,
        event.spf,
        event.dkim,
        event.dmarc,
        event.disposition,
        event.message_count,
        spend(event).unwrap_or_else(|| "null".into()),
        event.score,
    )
}

fn csv_line(event: &Event, n_columns: usize) -> String {
    let rest = if n_columns == COLUMNS.len() {
        let tags: Vec<String> = event.tags.iter().map(|tag| format!("\"{tag}\"")).collect();
        let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
        // As Postgres writes arrays.
        format!(",{},{}", quoted(&format!("{{{}}}", tags.join(","))), quoted(&event.meta))
    } else {
        String::new()
    };
    format!(
        "{},{},{},{},{},{},{},{},{},{},{}{rest}\n",
        event.event_id,
        observed_at(event),
        event.sender_domain,
        event.source_ip,
        event.spf,
        event.dkim,
        event.dmarc,
        event.disposition,
        event.message_count,
        spend(event).unwrap_or_default(),
        event.score,
    )
}

fn observed_at(event: &Event) -> String {
    let instant = DateTime::from_timestamp_micros(event.observed_at_micros).unwrap_or_default();
    instant.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn spend(event: &Event) -> Option<String> {
    event.spend_e4.map(|spend| format!("{}.{:04}", spend / 10_000, spend % 10_000))
}

fn parquet(
    mut events: impl Iterator<Item = Event>,
    n_columns: usize,
    level: Compression,
    to: impl Write + Send,
) -> Result<u64> {
    let properties = WriterProperties::builder()
        .set_compression(basic::Compression::SNAPPY)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_created_by(format!("telemetry {}", level.level()))
        .build();
    let columns: Vec<usize> = (0..n_columns).collect();
    let schema = batch(&[])?.project(&columns)?.schema();
    let mut writer = ArrowWriter::try_new(to, schema, Some(properties))?;
    loop {
        let some: Vec<Event> = events.by_ref().take(10_000).collect();
        if some.is_empty() {
            writer.close()?;
            return Ok(0);
        }
        writer.write(&batch(&some)?.project(&columns)?)?;
    }
}

fn batch(events: &[Event]) -> Result<RecordBatch> {
    let text = |of: fn(&Event) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(events.iter().map(of))) };
    let columns: [(ArrayRef, bool); 13] = [
        (Arc::new(Int64Array::from_iter_values(events.iter().map(|event| event.event_id))), false),
        (
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(events.iter().map(|event| event.observed_at_micros))
                    .with_timezone("UTC"),
            ),
            false,
        ),
        (text(|event| &event.sender_domain), false),
        (text(|event| &event.source_ip), false),
        (text(|event| event.spf), false),
        (text(|event| event.dkim), false),
        (text(|event| event.dmarc), false),
        (text(|event| event.disposition), false),
        (Arc::new(Int32Array::from_iter_values(events.iter().map(|event| event.message_count))), false),
        (
            Arc::new(
                events
                    .iter()
                    .map(|event| event.spend_e4.map(i128::from))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(12, 4)?,
            ),
            true,
        ),
        (Arc::new(Float64Array::from_iter_values(events.iter().map(|event| event.score))), false),
        (Arc::new(tags(events)), false),
        (text(|event| &event.meta), true),
    ];
    let named = COLUMNS.into_iter().zip(columns).map(|(name, (column, nullable))| (name, column, nullable));
    Ok(RecordBatch::try_from_iter_with_nullable(named)?)
}

fn tags(events: &[Event]) -> ListArray {
    let mut lists = ListBuilder::new(StringBuilder::new());
    for event in events {
        lists.append_value(event.tags.iter().map(Some));
    }
    lists.finish()
}

#[cfg(test)]
mod tests {
    use super::{super::Load, *};
    use flate2::read::MultiGzDecoder;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
    use std::io::Read as _;

    #[test]
    fn lines_of_json_hold_the_events() {
        let load = Load::new(3, 50);
        for (line, event) in unzip(Format::Ndjson).lines().zip(load.events(0..50)) {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(row["event_id"], event.event_id);
            assert_eq!(row["tags"].as_array().unwrap().len(), event.tags.len());
            assert_eq!(row["meta"], serde_json::from_str::<serde_json::Value>(&event.meta).unwrap());
            assert_eq!(row.as_object().unwrap().len(), COLUMNS.len());
        }
    }

    #[test]
    fn csv_has_a_header_and_a_line_for_each_event() {
        let text = unzip(Format::Csv);
        assert_eq!(text.lines().next().unwrap(), COLUMNS.join(","));
        assert_eq!(text.lines().count(), 51);
    }

    #[test]
    fn parquet_holds_the_events() {
        let mut file = Vec::new();
        write(Format::Parquet, Load::new(3, 50).events(0..50), &mut file).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(bytes::Bytes::from(file)).unwrap().build().unwrap();
        let ids: Vec<i64> = reader
            .flat_map(|batch| {
                let batch = batch.unwrap();
                let ids = batch.column(0).as_any().downcast_ref::<Int64Array>().unwrap().values().to_vec();
                assert_eq!(batch.num_columns(), COLUMNS.len());
                ids
            })
            .collect();
        assert_eq!(ids, Load::new(3, 50).events(0..50).map(|event| event.event_id).collect::<Vec<_>>());
    }

    fn unzip(format: Format) -> String {
        let mut file = Vec::new();
        let n_bytes = write(format, Load::new(3, 50).events(0..50), &mut file).unwrap();
        let mut text = String::new();
        MultiGzDecoder::new(file.as_slice()).read_to_string(&mut text).unwrap();
        assert_eq!(text.len() as u64, n_bytes);
        text
    }
}
