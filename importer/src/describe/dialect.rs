//! How a CSV file is written: what separates its fields, whether it names them, in which encoding.

use super::{
    Options,
    evidence::Evidence,
    sample::{self, Extent, Sample},
};
use decode::{
    Compression, CsvOptions, DecodeError, Format, JsonOptions, Preset, ReadOptions, RejectClass, ShortRows, Source,
    TextOptions, encode::PgType,
};
use std::sync::Arc;

/// What fields are separated by, the usual first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The encoding to try where a file is not UTF-8: every byte is a character in it.
const OTHER_ENCODING: &str = "windows-1252";
/// How much is looked at to find out.
const GLANCE: Extent = Extent { rows: 1000, bytes: 1 << 20 };

/// Reads a sample in the dialect that suits it best, and says what to look at in it.
///
/// # Errors
/// As [`decode::open`] and [`sample::read`]; [`DecodeError::Schema`] where a line before the header hides the fields.
pub fn read(source: &Arc<dyn Source>, options: &Options) -> Result<(ReadOptions, Sample, Option<String>), DecodeError> {
    let mut read = usual(options);
    let is_csv = match decode::open(Arc::clone(source), &read) {
        Ok(reader) if reader.payload_form() != decode::PayloadForm::Csv => {
            let sample = sample::read(reader, options.extent)?;
            if let Some(pointer) = sample.rows_within() {
                let within =
                    ReadOptions { json: JsonOptions { rows: Some(pointer), ..JsonOptions::default() }, ..read.clone() };
                let found =
                    decode::open(Arc::clone(source), &within).and_then(|rows| sample::read(rows, options.extent));
                if let Ok(found) = found
                    && !found.fields.is_empty()
                {
                    return Ok((within, found, None));
                }
            }
            return Ok((read, sample, None));
        }
        Ok(_) => true,
        // A header that is not UTF-8.
        Err(DecodeError::Schema(_) | DecodeError::Corrupt(_)) => false,
        Err(error) => return Err(error),
    };
    if let Some(log) = as_log(source, &read) {
        let sample = sample::read(decode::open(Arc::clone(source), &log)?, options.extent)?;
        return Ok((log, sample, None));
    }
    let mut remark = None;
    if let Some(found) = find(source, &read)? {
        (read.csv, remark) = found;
    } else if !is_csv {
        return Err(decode::open(Arc::clone(source), &read)
            .err()
            .unwrap_or_else(|| DecodeError::Corrupt("no CSV".into())));
    }
    let mut sample = sample::read(decode::open(Arc::clone(source), &read)?, options.extent)?;
    if ends_early(&sample) {
        read.csv.short_rows = ShortRows::Null;
        let n_short = sample.n_short;
        sample = sample::read(decode::open(Arc::clone(source), &read)?, options.extent)?;
        sample.n_short = n_short;
    }
    Ok((read, sample, remark))
}

/// Returns whether a file has so many rows that end early that it would not load, and no other problem with their width.
fn ends_early(sample: &Sample) -> bool {
    let n_short = sample.n_short;
    n_short > 1 && n_short * 100 > sample.n_rows && n_short == sample.n_other_width && sample.n_fields > 1
}

/// Returns how to read a file that is a log: all lines of a sample are as one has them.
fn as_log(source: &Arc<dyn Source>, usual: &ReadOptions) -> Option<ReadOptions> {
    let glance = |read: &ReadOptions| sample::read(decode::open(Arc::clone(source), read).ok()?, GLANCE).ok();
    Preset::ALL.into_iter().find_map(|preset| {
        let text = TextOptions::of_preset(preset, &[]);
        let read = ReadOptions { format: Format::Text, text, ..usual.clone() };
        let sample = glance(&read)?;
        let names = || sample.fields.iter().map(|field| field.name.as_str());
        // Its first line could be any words.
        let is_flow = preset != Preset::VpcFlow || names().any(|name| matches!(name, "srcaddr" | "interface_id"));
        let is_log = is_flow && sample.n_rows > 0 && sample.n_rejected == 0 && sample.broken.is_none();
        is_log.then_some(read)
    })
}

fn usual(options: &Options) -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        compression: Compression::Auto,
        csv: CsvOptions::default(),
        json: Default::default(),
        text: Default::default(),
        limits: options.limits.clone(),
    }
}

/// A way to read a file, and what it showed.
type Reading = (CsvOptions, Sample);

/// Returns the dialect in which most fields are found and fewest rows are torn, and what to say of it.
///
/// # Errors
/// [`DecodeError::Schema`] where a line before the header hides the fields.
fn find(source: &Arc<dyn Source>, usual: &ReadOptions) -> Result<Option<(CsvOptions, Option<String>)>, DecodeError> {
    let glance = |csv: &CsvOptions| {
        let read = ReadOptions { csv: csv.clone(), ..usual.clone() };
        let sample = sample::read(decode::open(Arc::clone(source), &read).ok()?, GLANCE).ok()?;
        sample.is_csv.then_some(sample)
    };
    let mut found: Vec<Reading> = Vec::new();
    for encoding in [usual.csv.encoding.as_str(), OTHER_ENCODING] {
        for header in [true, false] {
            for delimiter in DELIMITERS {
                let csv = CsvOptions { header, delimiter, encoding: encoding.into(), ..usual.csv.clone() };
                if let Some(sample) = glance(&csv) {
                    found.push((csv, sample));
                }
            }
            // What can be read by its header needs no other look.
            if best(&found)
                .is_some_and(|(_, sample)| sample.n_rejected == 0 && sample.broken.is_none() && sample.n_fields > 1)
            {
                break;
            }
        }
        if best(&found).is_some_and(|(_, sample)| sample.reject_class != Some(RejectClass::Text)) {
            break;
        }
    }
    if let Some(csv) = in_other_dialect(&found, usual, &glance) {
        return Ok(Some((csv, None)));
    }
    let Some((csv, sample)) = best(&found) else { return Ok(None) };
    // A header is not one more good row, which makes bad ones fewer.
    let is_same = |(other, of_other): &&Reading| {
        let alike =
            (other.delimiter, &other.encoding, of_other.n_fields) == (csv.delimiter, &csv.encoding, sample.n_fields);
        other.header && alike
    };
    let (csv, sample) = found.iter().find(is_same).map_or((csv, sample), |(csv, sample)| (csv, sample));
    let mut csv = csv.clone();
    if !csv.header {
        return Ok(Some((csv, None)));
    }
    let remark = before_header(sample, &found)?;
    let without = CsvOptions { header: false, ..csv.clone() };
    csv.header = match sample.ambiguous.is_empty() {
        true => !header_is_data(sample),
        // Names that are there twice are values where nothing but values stands below them, or they come again.
        false => {
            let is_typed =
                |sample: &Sample| sample.fields.iter().any(|f| f.evidence.guess().sql_type != PgType::Text(None));
            let is_data = |sample: Sample| sample.is_first_repeated || is_typed(&sample);
            !sample.fields.is_empty() && !glance(&without).is_some_and(is_data)
        }
    };
    Ok(Some((csv, remark)))
}

/// Looks for a dialect that has settings beyond the usual ones, where without them rows are torn or fields hidden; it has
/// to show no row that cannot be read.
fn in_other_dialect(
    found: &[Reading],
    usual: &ReadOptions,
    glance: &impl Fn(&CsvOptions) -> Option<Sample>,
) -> Option<CsvOptions> {
    let is_clean = |sample: &Sample| sample.n_rejected == 0 && sample.broken.is_none() && sample.n_fields > 1;
    let name = |sample: &Sample| sample.fields.first().map_or(String::new(), |field| field.name.clone());
    let first = found.iter().find(|(csv, _)| csv.header).map(|(_, sample)| name(sample)).unwrap_or_default();
    let named = first.strip_prefix("sep=").and_then(|rest| rest.bytes().next());
    let is_torn = best(found).is_none_or(|(_, sample)| !is_clean(sample));
    if !is_torn && !first.starts_with("sep=") {
        return None;
    }
    let encoding = best(found).map_or(&usual.csv.encoding, |(csv, _)| &csv.encoding);
    let mut variants: Vec<CsvOptions> = Vec::new();
    for delimiter in DELIMITERS {
        let plain = CsvOptions { delimiter, encoding: encoding.clone(), ..usual.csv.clone() };
        if first.starts_with("sep=") {
            let delimiter = named.unwrap_or(delimiter);
            variants.push(CsvOptions { delimiter, skip_lines: 1, ..plain.clone() });
            continue;
        }
        let (comment, escape) = (Some(b'#'), Some(b'\\'));
        variants.push(CsvOptions { comment, ..plain.clone() });
        variants.push(CsvOptions { escape, ..plain.clone() });
        variants.push(CsvOptions { escape, comment, ..plain.clone() });
        let is_wider = |(csv, sample): &Reading| {
            let one_more = sample.other_width == Some(sample.n_fields as u64 + 1);
            csv.delimiter == delimiter && csv.header && one_more && sample.n_other_width * 10 >= sample.n_rows * 9
        };
        if found.iter().any(is_wider) {
            variants.push(CsvOptions { trailing_delimiter: true, ..plain.clone() });
            variants.push(CsvOptions { trailing_delimiter: true, comment, ..plain });
        }
    }
    let is_sound = |sample: &Sample| is_clean(sample) && sample.n_rows > 0 && !header_is_data(sample);
    let widest = |variants: Vec<CsvOptions>, is_sound: &dyn Fn(&Sample) -> bool| {
        let readings = variants.into_iter().filter_map(|csv| Some((glance(&csv)?, csv)));
        let sound = readings.filter(|(sample, _)| is_sound(sample));
        sound.reduce(|best, next| if next.0.n_fields > best.0.n_fields { next } else { best }).map(|(_, csv)| csv)
    };
    // Where quotes are torn they may be characters like others, unless more fields are within them than have one elsewhere.
    let is_unquoted = |sample: &Sample| {
        let quotes = || sample.fields.iter().map(|field| field.evidence.quotes());
        is_sound(sample) && quotes().map(|(around, _)| around).sum::<u64>() <= quotes().map(|(_, other)| other).sum()
    };
    let plain = |delimiter| CsvOptions { delimiter, quote: None, encoding: encoding.clone(), ..usual.csv.clone() };
    let has_torn = |(_, sample): &Reading| {
        let quote = |problem: &String| problem.contains("quote");
        sample.broken.as_ref().is_some_and(quote) || sample.first_reject.as_ref().is_some_and(quote)
    };
    widest(variants, &is_sound).or_else(|| {
        let is_torn = best(found).is_none_or(has_torn) && !first.starts_with("sep=");
        is_torn.then(|| widest(DELIMITERS.map(plain).to_vec(), &is_unquoted)).flatten()
    })
}

/// Returns the reading in which most fields are found and fewest rows are torn, of equal ones the first.
fn best(found: &[Reading]) -> Option<&Reading> {
    let score = |(_, sample): &Reading| {
        let is_sound = sample.n_rejected * 10 <= sample.n_rows && sample.broken.is_none();
        // Up to half of the rows may end early.
        let n_short = if sample.n_short * 2 <= sample.n_rows { sample.n_short } else { 0 };
        let is_regular = (sample.n_other_width - n_short) * 10 <= sample.n_rows;
        let rank = match sample.n_fields > 1 {
            true if is_sound => 3,
            // Rows that are torn are no reason to take all for one field.
            true if is_regular => 2,
            false if is_sound => 1,
            _ => 0,
        };
        (rank, sample.n_fields, std::cmp::Reverse(sample.n_rejected))
    };
    found.iter().rev().max_by_key(|reading| score(reading))
}

/// Looks for lines before the header; returns what to say where it may be one.
///
/// # Errors
/// [`DecodeError::Schema`] where it is one.
fn before_header(sample: &Sample, found: &[Reading]) -> Result<Option<String>, DecodeError> {
    let name = sample.fields.first().map_or("", |field| field.name.as_str());
    let is_regular = |sample: &Sample| sample.n_rows > 0 && sample.n_other_width * 10 >= sample.n_rows * 9;
    let hidden = found.iter().find_map(|(csv, sample)| {
        let width = sample.other_width.filter(|width| *width > 1 && is_regular(sample))?;
        Some(format!("the lines after it have {width} fields by \"{}\"", char::from(csv.delimiter).escape_default()))
    });
    match hidden {
        _ if name.starts_with("sep=") => Err(DecodeError::Schema(
            "its first line names the delimiter (sep=) and is no header; csv.skip_lines = 1 passes over it".into(),
        )),
        Some(hidden) if sample.n_fields == 1 && name.starts_with('#') => Err(DecodeError::Schema(format!(
            "its first line is no header, for {hidden}; csv.skip_lines passes over what is before the header"
        ))),
        Some(hidden) if sample.n_fields == 1 => Ok(Some(format!(
            "its first line is taken for a header of one field, but {hidden}; if it is none, csv.skip_lines = 1 passes over it"
        ))),
        _ => Ok(None),
    }
}

/// Returns whether what should be names are values: of the kind that every column that is not text has.
fn header_is_data(sample: &Sample) -> bool {
    let mut typed = sample.fields.iter().filter_map(|field| {
        let sql_type = field.evidence.guess().sql_type;
        (sql_type != PgType::Text(None)).then_some((&field.name, sql_type))
    });
    let alike = |name: &str, sql_type: &PgType| {
        let mut evidence = Evidence::default();
        evidence.add_text(name);
        let found = evidence.guess().sql_type;
        found == *sql_type || (found == PgType::Int8 && *sql_type == PgType::Numeric(None))
    };
    let mut any = false;
    let all = typed.all(|(name, sql_type)| {
        any = true;
        alike(name, &sql_type)
    });
    any && all
}
