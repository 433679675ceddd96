//! What the model's objects contain: rows, and the bytes they travel as.

use anyhow::Result;
use arrow_array::{ArrayRef, Int32Array, Int64Array, RecordBatch, StringArray};
use fastrand::Rng;
use flate2::{Compression, write::GzEncoder};
use parquet::arrow::ArrowWriter;
use std::{io::Write, sync::Arc};

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
    /// Upsert without `newer`; what others look up.
    Site,
    /// Replace, and removal with the object; joined with [`Dataset::Site`] and filtered by it, and waits for its keys.
    Post,
    /// Upsert of what a program answers, which now and then fails.
    Card,
    /// After [`Dataset::Own`] and [`Dataset::Post`], on a queue of its own: none to three rows for each of theirs.
    Fan,
}

/// Those whose rows are as their objects have them.
pub const PLAIN: [Dataset; 4] = [Dataset::Newest, Dataset::Own, Dataset::Whole, Dataset::Log];

/// Those that objects are put for: all but [`Dataset::Fan`].
pub const ALL: [Dataset; 7] =
    [Dataset::Newest, Dataset::Own, Dataset::Whole, Dataset::Log, Dataset::Site, Dataset::Post, Dataset::Card];

impl Dataset {
    /// Returns its name, which is also that of its table and the start of its objects' keys.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Newest => "newest",
            Self::Own => "own",
            Self::Whole => "whole",
            Self::Log => "log",
            Self::Site => "site",
            Self::Post => "post",
            Self::Card => "card",
            Self::Fan => "fan",
        }
    }

    /// Returns the dataset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().chain([Self::Fan]).find(|dataset| dataset.name() == name)
    }

    /// Returns whether each version that it imports, and each removal, goes on to [`Dataset::Fan`].
    #[must_use]
    pub fn is_followed(self) -> bool {
        matches!(self, Self::Own | Self::Post)
    }

    /// Returns whether rows go with their object.
    #[must_use]
    pub fn removes(self) -> bool {
        matches!(self, Self::Whole | Self::Post | Self::Fan)
    }

    /// Returns whether rows are told apart by their key, and so may stand only once.
    #[must_use]
    pub fn is_keyed(self) -> bool {
        matches!(self, Self::Newest | Self::Own | Self::Site | Self::Card)
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
    /// The SQL of [`Dataset::Post`] divides by a value of it.
    Undefined,
    /// The SQL of [`Dataset::Post`] leaves it out.
    Unwanted,
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
    /// Flawed rows are not to load as they are.
    pub flaw: Option<Flaw>,
    /// What it looks up; of [`Dataset::Post`] only.
    pub site: Option<i64>,
}

impl Row {
    /// Returns its amount, as far as it is a number.
    #[must_use]
    pub fn amount(&self) -> i32 {
        match self.flaw {
            None | Some(Flaw::Unfit) => 7,
            Some(Flaw::Refused) => -1,
            Some(Flaw::Undefined) => 0,
            Some(Flaw::Unwanted) => 8,
        }
    }
}

/// What is wrong with a whole object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// Its bytes are no whole file: a gzip stream cut short, a Parquet file without its pages.
    Corrupt,
    /// More rows are flawed than the dataset allows.
    TooManyRejects,
    /// The program of [`Dataset::Card`] does not survive it.
    Crash,
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
    /// Its rows have a field `site`.
    pub has_sites: bool,
}

/// What the content of an object is drawn for.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// Who takes it.
    pub dataset: Dataset,
    /// The number of the put.
    pub put: usize,
    /// The keys of its rows.
    pub ids: &'a [i64],
    /// What its rows may look up.
    pub sites: &'a [i64],
    /// How it is written.
    pub format: Format,
    /// Why it is not to be imported, if so.
    pub spoiled: Option<Spoiled>,
}

/// Ids from here on belong to flawed rows only, so that a row that must not load shows wherever it stands.
const FLAWED_IDS: i64 = 9_000_000_000;

impl Content {
    /// Draws an object's content: a row for each of the ids, a few of them twice, a few flawed ones between.
    pub fn draw(rng: &mut Rng, frame: Frame<'_>) -> Self {
        let Frame { dataset, put, ids, sites, format, spoiled } = frame;
        let version = i64::try_from(put).unwrap_or(i64::MAX) * 10;
        let row = |rng: &mut Rng, id: i64, flaw: Option<Flaw>| Row {
            id,
            version: version + rng.i64(0..10),
            value: format!("row {put}/{id}/{}", rng.u32(..)),
            flaw,
            site: (flaw.is_none() && !sites.is_empty() && rng.u32(..8) > 0).then(|| sites[rng.usize(..sites.len())]),
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
            // Not what the program of `Card` leaves out, which it may see or not.
            let id = FLAWED_IDS + i64::try_from(put * 100_000 + n * 10).unwrap_or(0);
            let flaw = flaw(rng, dataset, spoiled);
            let flawed = row(rng, id, Some(flaw));
            rows.insert(rng.usize(..=rows.len()), flawed);
        }
        if spoiled == Some(Spoiled::Crash) {
            let index = rng.usize(..rows.len());
            rows[index].value = format!("crash {}", rows[index].value);
        }
        Self { format, rows, spoiled, has_sites: dataset == Dataset::Post }
    }

    /// Returns its bytes.
    ///
    /// # Errors
    /// When a writer fails.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = match (self.spoiled, self.format) {
            (Some(Spoiled::Empty), _) => return Ok(Vec::new()),
            (_, Format::Ndjson) => self.lines().into_bytes(),
            (_, Format::NdjsonGz(n_members)) => self.gzip_members(n_members)?,
            (_, Format::Csv) => self.csv().into_bytes(),
            (_, Format::Parquet) => self.parquet()?,
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
        let text = self.lines();
        for part in text.as_bytes().chunks(text.len().div_ceil(n_members.max(1)).max(1)) {
            let mut gzip = GzEncoder::new(&mut bytes, Compression::fast());
            gzip.write_all(part)?;
            gzip.finish()?;
        }
        Ok(bytes)
    }

    fn lines(&self) -> String {
        let line = |row: &Row| {
            let amount = if row.flaw == Some(Flaw::Unfit) { "\"many\"".to_owned() } else { row.amount().to_string() };
            let site = row.site.map_or_else(|| "null".to_owned(), |site| site.to_string());
            let site = if self.has_sites { format!(",\"site\":{site}") } else { String::new() };
            let Row { id, version, value, .. } = row;
            format!("{{\"id\":{id},\"version\":{version},\"value\":\"{value}\",\"amount\":{amount}{site}}}\n")
        };
        self.rows.iter().map(line).collect()
    }

    fn csv(&self) -> String {
        let site = if self.has_sites { ",site" } else { "" };
        let mut text = format!("id,version,value,amount{site}\n");
        for row in &self.rows {
            let amount = if row.flaw == Some(Flaw::Unfit) { "many".to_owned() } else { row.amount().to_string() };
            let site = row.site.map(|site| site.to_string()).unwrap_or_default();
            let site = if self.has_sites { format!(",{site}") } else { site };
            text.push_str(&format!("{},{},\"{}\",{amount}{site}\n", row.id, row.version, row.value));
        }
        text
    }

    fn parquet(&self) -> Result<Vec<u8>> {
        let rows = &self.rows;
        // A column of numbers holds nothing but numbers, so what does not fit is a U+0000 in a text.
        let value = |row: &Row| match row.flaw {
            Some(Flaw::Unfit) => format!("{}\0", row.value),
            _ => row.value.clone(),
        };
        let mut columns: Vec<(&str, ArrayRef)> = vec![
            ("id", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.id)))),
            ("version", Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.version)))),
            ("value", Arc::new(StringArray::from_iter_values(rows.iter().map(value)))),
            ("amount", Arc::new(Int32Array::from_iter_values(rows.iter().map(Row::amount)))),
        ];
        if self.has_sites {
            columns.push(("site", Arc::new(rows.iter().map(|row| row.site).collect::<Int64Array>())));
        }
        let batch = RecordBatch::try_from_iter(columns)?;
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(bytes)
    }
}

/// Draws what is wrong with a row.
fn flaw(rng: &mut Rng, dataset: Dataset, spoiled: Option<Spoiled>) -> Flaw {
    let flaws: &[Flaw] = match (dataset, spoiled) {
        // Others take some of what these do not, or leave it out before anybody looks at it.
        (Dataset::Own | Dataset::Post | Dataset::Card, Some(_)) => &[Flaw::Unfit],
        (Dataset::Post, None) => &[Flaw::Unfit, Flaw::Refused, Flaw::Undefined, Flaw::Unwanted],
        _ => &[Flaw::Unfit, Flaw::Unfit, Flaw::Refused],
    };
    flaws[rng.usize(..flaws.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_are_the_same_for_the_same_seed() {
        for dataset in ALL {
            let (ids, sites) = ([1, 2, 3], [4, 5]);
            let frame = Frame { dataset, put: 3, ids: &ids, sites: &sites, format: Format::NdjsonGz(2), spoiled: None };
            let draw = || Content::draw(&mut Rng::with_seed(5), frame);
            assert_eq!(draw(), draw());
            assert_eq!(draw().bytes().unwrap(), draw().bytes().unwrap());
        }
    }
}
