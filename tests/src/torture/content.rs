//! What the model's objects contain: rows, and the bytes they travel as.

use anyhow::Result;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use parquet::arrow::ArrowWriter;
use std::{collections::BTreeMap, io::Write, sync::Arc};

/// The datasets of the torture test; each is a mode with what is hardest about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dataset {
    /// Upsert with `newer`; objects overlap in their rows' keys.
    Newest,
    /// Upsert without `newer`; each object has row keys of its own.
    Own,
    /// Replace, and removal with the object.
    Whole,
    /// Append.
    Log,
}

/// All of them.
pub const DATASETS: [Dataset; 4] = [Dataset::Newest, Dataset::Own, Dataset::Whole, Dataset::Log];

impl Dataset {
    /// Returns its name, which is also that of its table and the start of its objects' keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Own => "own",
            Self::Whole => "whole",
            Self::Log => "log",
        }
    }

    /// Returns whether rows are told apart by their key, and so may stand only once.
    #[must_use]
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::Newest | Self::Own)
    }
}

/// How an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines.
    Ndjson,
    /// JSON lines in so many gzip members.
    NdjsonGz(usize),
    /// CSV with a header.
    Csv,
    /// Parquet.
    Parquet,
}

impl Format {
    /// Draws one.
    pub fn draw(rng: &mut Rng) -> Self {
        match rng.u32(..100) {
            0..30 => Self::Ndjson,
            30..60 => Self::NdjsonGz(rng.usize(1..4)),
            60..80 => Self::Csv,
            _ => Self::Parquet,
        }
    }

    /// Returns how the names of such files end.
    #[must_use]
    pub fn extension(self) -> &'static str {
        match self {
            Self::Ndjson => "ndjson",
            Self::NdjsonGz(_) => "ndjson.gz",
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

/// What is wrong with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// A value does not fit its column; the decoder finds it.
    Unfit,
    /// A value breaks the table's CHECK; only Postgres finds it.
    Refused,
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The row's key.
    pub id: i64,
    /// The column `newer` looks at; larger in later objects.
    pub version: i64,
    /// Tells the row from every other.
    pub value: String,
    /// Flawed rows are rejects and must not load.
    pub flaw: Option<Flaw>,
}

/// What is wrong with a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// Its bytes are no whole file: a gzip stream cut short, a Parquet file without its pages.
    Corrupt,
    /// More rows are flawed than the dataset allows.
    TooManyRejects,
    /// It has no bytes; skipped rather than failed.
    Empty,
}

/// An object's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// How it is written.
    pub format: Format,
    /// Its rows, flawed ones among them.
    pub rows: Vec<Row>,
    /// Why it cannot be imported, if so.
    pub spoiled: Option<Spoiled>,
}

/// Ids from here on belong to flawed rows only, so that a row that must not load shows wherever it stands.
const FLAWED_IDS: i64 = 9_000_000_000;

impl Content {
    /// Draws the content of put number `put`: a row for each of `ids`, a few of them twice, a few flawed ones between.
    pub fn draw(
        rng: &mut Rng,
        dataset: Dataset,
        put: usize,
        ids: &[i64],
        format: Format,
        spoiled: Option<Spoiled>,
    ) -> Self {
        let version = i64::try_from(put).unwrap_or(i64::MAX) * 10;
        let row = |rng: &mut Rng, id: i64, flaw| Row {
            id,
            version: version + rng.i64(0..10),
            value: format!("row {put}/{id}/{}", rng.u32(..)),
            flaw,
        };
        let mut rows: Vec<Row> = ids.iter().map(|id| row(rng, *id, None)).collect();
        if dataset.is_keyed() && rng.u32(..4) == 0 {
            for _ in 0..rng.usize(1..4) {
                let id = ids[rng.usize(..ids.len())];
                rows.push(row(rng, id, None));
            }
        }
        rng.shuffle(&mut rows);
        let n_flawed = match spoiled {
            Some(Spoiled::TooManyRejects) => rows.len() + 2,
            _ if rng.u32(..5) == 0 => (rows.len() / 20).max(1),
            _ => 0,
        };
        for n in 0..n_flawed {
            let flaw = if rng.u32(..3) == 0 { Flaw::Refused } else { Flaw::Unfit };
            let id = FLAWED_IDS + i64::try_from(put * 10_000 + n).unwrap_or(0);
            let flawed = row(rng, id, Some(flaw));
            rows.insert(rng.usize(..=rows.len()), flawed);
        }
        Self { format, rows, spoiled }
    }

    /// Returns the numbers of its flawed rows, from 1.
    #[must_use]
    pub fn rejects(&self) -> Vec<i64> {
        let flawed = self.rows.iter().zip(1..).filter(|(row, _)| row.flaw.is_some());
        flawed.map(|(_, number)| number).collect()
    }

    /// Returns its rows that are not flawed.
    pub fn good_rows(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| row.flaw.is_none())
    }

    /// Returns for each row key the row that stands for it: the newest where the dataset has `newer`, the last of those.
    #[must_use]
    pub fn by_id(&self, dataset: Dataset) -> BTreeMap<i64, &Row> {
        let mut standing: BTreeMap<i64, &Row> = BTreeMap::new();
        for row in self.good_rows() {
            let gives_way = |known: &&mut &Row| dataset == Dataset::Newest && known.version > row.version;
            if standing.get_mut(&row.id).as_ref().is_none_or(|known| !gives_way(known)) {
                standing.insert(row.id, row);
            }
        }
        standing
    }

    /// Returns its bytes.
    ///
    /// # Errors
    /// When a writer fails.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = match (self.spoiled, self.format) {
            (Some(Spoiled::Empty), _) => return Ok(Vec::new()),
            (_, Format::Ndjson) => self.rows.iter().map(json_line).collect::<String>().into_bytes(),
            (_, Format::NdjsonGz(n_members)) => self.gzip_members(n_members)?,
            (_, Format::Csv) => csv(&self.rows).into_bytes(),
            (_, Format::Parquet) => parquet(&self.rows)?,
        };
        if self.spoiled == Some(Spoiled::Corrupt) {
            match self.format {
                // The footer and the magic stay, the pages do not.
                Format::Parquet => bytes[4..].iter_mut().rev().skip(8).for_each(|byte| *byte = !*byte),
                _ => bytes.truncate(bytes.len() - 9),
            }
        }
        Ok(bytes)
    }

    fn gzip_members(&self, n_members: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        // A member may end in the middle of a line, as it does where files are split by size.
        let text: String = self.rows.iter().map(json_line).collect();
        for part in text.as_bytes().chunks(text.len().div_ceil(n_members.max(1)).max(1)) {
            let mut gzip = GzEncoder::new(&mut bytes, Compression::fast());
            gzip.write_all(part)?;
            gzip.finish()?;
        }
        Ok(bytes)
    }
}

/// The amount of a row Postgres refuses.
const REFUSED_AMOUNT: i32 = -1;

fn json_line(row: &Row) -> String {
    let amount = match row.flaw {
        None => "7".to_owned(),
        Some(Flaw::Unfit) => "\"many\"".to_owned(),
        Some(Flaw::Refused) => REFUSED_AMOUNT.to_string(),
    };
    format!("{{\"id\":{},\"version\":{},\"value\":\"{}\",\"amount\":{amount}}}\n", row.id, row.version, row.value)
}

fn csv(rows: &[Row]) -> String {
    let mut text = "id,version,value,amount\n".to_owned();
    for row in rows {
        let amount = match row.flaw {
            None => "7".to_owned(),
            Some(Flaw::Unfit) => "many".to_owned(),
            Some(Flaw::Refused) => REFUSED_AMOUNT.to_string(),
        };
        text.push_str(&format!("{},{},\"{}\",{amount}\n", row.id, row.version, row.value));
    }
    text
}

fn parquet(rows: &[Row]) -> Result<Vec<u8>> {
    // A column of numbers holds nothing but numbers, so what does not fit is a U+0000 in a text.
    let value = |row: &Row| match row.flaw {
        Some(Flaw::Unfit) => format!("{}\0", row.value),
        _ => row.value.clone(),
    };
    let amount = |row: &Row| if row.flaw == Some(Flaw::Refused) { REFUSED_AMOUNT } else { 7 };
    let columns: [(&str, ArrayRef); 4] = [
        ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)))),
        ("version", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.version)))),
        ("value", Arc::new(StringArray::from_iter_values(rows.iter().map(value)))),
        ("amount", Arc::new(Int32Array::from_iter_values(rows.iter().map(amount)))),
    ];
    let batch = RecordBatch::try_from_iter(columns)?;
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
    writer.write(&batch)?;
    writer.close()?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: i64, version: i64, value: &str) -> Row {
        Row { id, version, value: value.to_owned(), flaw: None }
    }

    #[test]
    fn the_last_row_of_a_key_stands_unless_an_earlier_one_is_newer() {
        let rows = vec![row(1, 5, "a"), row(1, 7, "b"), row(1, 6, "c"), row(2, 1, "d"), row(2, 1, "e")];
        let content = Content { format: Format::Csv, rows, spoiled: None };
        let standing = |dataset| content.by_id(dataset).values().map(|row| row.value.as_str()).collect::<String>();
        assert_eq!(standing(Dataset::Newest), "be");
        assert_eq!(standing(Dataset::Own), "ce");
    }

    #[test]
    fn flawed_rows_are_numbered_from_one() {
        let mut rows = vec![row(1, 1, "a"), row(2, 1, "b"), row(3, 1, "c")];
        rows[0].flaw = Some(Flaw::Unfit);
        rows[2].flaw = Some(Flaw::Refused);
        assert_eq!(Content { format: Format::Csv, rows, spoiled: None }.rejects(), [1, 3]);
    }

    #[test]
    fn contents_are_the_same_for_the_same_seed() {
        let draw = || Content::draw(&mut Rng::with_seed(5), Dataset::Newest, 3, &[1, 2, 3], Format::NdjsonGz(2), None);
        assert_eq!(draw(), draw());
        assert_eq!(draw().bytes().unwrap(), draw().bytes().unwrap());
    }
}
