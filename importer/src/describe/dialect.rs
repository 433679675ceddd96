//! How a CSV file is written: what separates its fields, whether it names them, in which encoding.

use super::{
    Options,
    evidence::Evidence,
    sample::{self, Extent, Sample},
    types::SqlType,
};
use crate::decode::{self, Compression, CsvOptions, DecodeError, Format, ReadOptions, Source};
use std::sync::Arc;

/// What fields are separated by, the usual first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// The encoding to try where a file is not UTF-8: every byte is a character in it.
const OTHER_ENCODING: &str = "windows-1252";
/// How much is looked at to find out.
const GLANCE: Extent = Extent { rows: 1000, bytes: 1 << 20 };

/// Reads a sample in the dialect that suits it best.
///
/// # Errors
/// As [`decode::open`] and [`sample::read`].
pub fn read(source: &Arc<dyn Source>, options: &Options) -> Result<(ReadOptions, Sample), DecodeError> {
    let mut read = usual(options);
    let is_csv = match decode::open(Arc::clone(source), &read) {
        Ok(reader) if reader.payload_form() != decode::PayloadForm::Csv => {
            let sample = sample::read(reader, options.extent)?;
            return Ok((read, sample));
        }
        Ok(_) => true,
        // A header that names a field twice, or that is not UTF-8.
        Err(DecodeError::Schema(_) | DecodeError::Corrupt(_)) => false,
        Err(error) => return Err(error),
    };
    if let Some(found) = find(source, &read) {
        read.csv = found;
    } else if !is_csv {
        return Err(decode::open(Arc::clone(source), &read)
            .err()
            .unwrap_or_else(|| DecodeError::Corrupt("no CSV".into())));
    }
    let sample = sample::read(decode::open(Arc::clone(source), &read)?, options.extent)?;
    Ok((read, sample))
}

fn usual(options: &Options) -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        compression: Compression::Auto,
        csv: CsvOptions { header: true, delimiter: b',', quote: b'"', null: Vec::new(), encoding: "utf-8".into() },
        limits: options.limits.clone(),
    }
}

/// Returns the dialect in which most fields are found and fewest rows are torn.
fn find(source: &Arc<dyn Source>, usual: &ReadOptions) -> Option<CsvOptions> {
    let glance = |csv: &CsvOptions| {
        let read = ReadOptions { csv: csv.clone(), ..usual.clone() };
        let sample = sample::read(decode::open(Arc::clone(source), &read).ok()?, GLANCE).ok()?;
        sample.is_csv.then_some(sample)
    };
    let mut best: Option<(CsvOptions, Sample)> = None;
    for encoding in [usual.csv.encoding.as_str(), OTHER_ENCODING] {
        for header in [true, false] {
            for delimiter in DELIMITERS {
                let csv = CsvOptions { header, delimiter, encoding: encoding.into(), ..usual.csv.clone() };
                let Some(sample) = glance(&csv) else { continue };
                if best.as_ref().is_none_or(|(_, found)| is_better(&sample, found)) {
                    best = Some((csv, sample));
                }
            }
            // A first record with a value twice is no header, and then only a wrong delimiter gives one.
            if best.as_ref().is_some_and(|(_, sample)| sample.n_rejected == 0 && sample.fields.len() > 1) {
                break;
            }
        }
        if best.as_ref().is_some_and(|(_, sample)| sample.reject_class != Some("text")) {
            break;
        }
    }
    let (mut csv, sample) = best?;
    if csv.header && header_is_data(&sample) {
        csv.header = false;
    }
    Some(csv)
}

fn is_better(sample: &Sample, than: &Sample) -> bool {
    let is_sound = |sample: &Sample| sample.n_rejected * 10 <= sample.n_rows;
    let score = |sample: &Sample| (is_sound(sample), sample.fields.len(), std::cmp::Reverse(sample.n_rejected));
    score(sample) > score(than)
}

/// Returns whether what should be names are values: of the kind that every column that is not text has.
fn header_is_data(sample: &Sample) -> bool {
    let mut typed = sample.fields.iter().filter_map(|field| {
        let sql_type = field.evidence.guess().sql_type;
        (sql_type != SqlType::Text).then_some((&field.name, sql_type))
    });
    let alike = |name: &str, sql_type: &SqlType| {
        let mut evidence = Evidence::default();
        evidence.add_text(name);
        let found = evidence.guess().sql_type;
        found == *sql_type || (found == SqlType::BigInt && *sql_type == SqlType::Numeric(None))
    };
    let mut any = false;
    let all = typed.all(|(name, sql_type)| {
        any = true;
        alike(name, &sql_type)
    });
    any && all
}
