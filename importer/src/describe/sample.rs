//! The first rows of an object, read by the decoder that would load them, as evidence field by field.

use super::evidence::{Evidence, text_of_json};
use decode::{
    Batch, Column, Declared, DecodeError, Fields, Mapping, MappingSpec, Notation, OTHER_WIDTH, OnNewField, PayloadForm,
    Pointer, RejectClass, RowReader, TORN, encode::PgType,
};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    fmt,
    sync::Arc,
};

/// The column that gives a row's fields as one JSON object.
const ALL_FIELDS: &str = "fields";
/// Bytes asked of the decoder at once.
const BATCH_BYTES: usize = 256 * 1024;
/// More fields than this are left to a column that takes any: a table has at most 1600 columns.
pub const MAX_FIELDS: usize = 1000;
/// Values remembered over all fields in search of what is unique; beyond it the field is taken as not unique.
const MAX_REMEMBERED: usize = 4_000_000;

/// How much of an object is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Extent {
    /// Rows.
    pub rows: u64,
    /// Bytes of decoded rows.
    pub bytes: u64,
}

/// A field and what it held.
#[derive(Debug, Clone)]
pub struct FieldSeen {
    /// Name as the file has it.
    pub name: String,
    /// Its values.
    pub evidence: Evidence,
    /// What the file's schema says, where there is one.
    pub declared: Option<Declared>,
}

/// What a sample showed.
#[derive(Debug, Default)]
pub struct Sample {
    /// The fields in the file's order, those of JSON in the order of their first appearance.
    pub fields: Vec<FieldSeen>,
    /// Rows that were read.
    pub n_rows: u64,
    /// Rows of them that cannot be read.
    pub n_rejected: u64,
    /// The first such row: number, class and reason.
    pub first_reject: Option<String>,
    /// The class of the first reject.
    pub reject_class: Option<RejectClass>,
    /// Whether these were all the rows.
    pub is_whole: bool,
    /// Whether later rows may bring other fields.
    pub is_open: bool,
    /// Whether the fields have no names of their own.
    pub is_positional: bool,
    /// Whether there were more than [`MAX_FIELDS`].
    pub too_many_fields: bool,
    /// Whether it is CSV.
    pub is_csv: bool,
    /// Whether the values are all texts.
    pub has_texts: bool,
    /// Fields in a row, those of one name counted each.
    pub n_fields: usize,
    /// Names that several fields have: they cannot be told apart, so none of them is among the fields.
    pub ambiguous: BTreeSet<String>,
    /// Rows that have another number of fields.
    pub n_other_width: u64,
    /// How many of them have fewer.
    pub n_short: u64,
    /// How many the first of them has.
    pub other_width: Option<u64>,
    /// Why no more rows of a CSV file can be told apart, and the object would fail.
    pub broken: Option<String>,
    /// Whether a later row of a file without header has a value of the first one in the same place.
    pub is_first_repeated: bool,
    first_row: Vec<String>,
}

/// Reads a sample.
///
/// # Errors
/// As [`RowReader::fill`]; and when fields cannot be told apart.
pub fn read(mut reader: Box<dyn RowReader>, extent: Extent) -> Result<Sample, DecodeError> {
    let fields = reader.fields().clone();
    let names: Vec<String> = match &fields {
        Fields::Named(fields) => fields.iter().map(|field| field.name.clone()).collect(),
        Fields::Positional(n_fields) => (1..=*n_fields).map(|number| format!("column_{number}")).collect(),
        Fields::Open => Vec::new(),
    };
    let is_csv = reader.payload_form() == PayloadForm::Csv;
    let mut sample = Sample {
        is_open: fields == Fields::Open,
        is_positional: matches!(fields, Fields::Positional(_)),
        too_many_fields: names.len() > MAX_FIELDS,
        is_csv,
        has_texts: is_csv || reader.payload_form() == PayloadForm::Text,
        n_fields: names.len(),
        ambiguous: twice(&names),
        ..Sample::default()
    };
    let mut declared = reader.declared().unwrap_or_default().into_iter();
    for name in names.into_iter().take(MAX_FIELDS) {
        let declared = declared.next();
        if !sample.ambiguous.contains(&name) {
            sample.fields.push(FieldSeen { name, evidence: Evidence::default(), declared });
        }
    }
    let columns = columns(&sample);
    let mapping = Mapping::new(&fields, &spec(&columns, sample.is_by_column())).map_err(DecodeError::Schema)?;
    reader.set_mapping(Arc::new(mapping));

    let mut places: HashMap<String, usize> =
        sample.fields.iter().enumerate().map(|(place, field)| (field.name.clone(), place)).collect();
    let mut batch = Batch::default();
    let (mut n_bytes, mut more) = (0, true);
    while more && sample.n_rows < extent.rows && n_bytes < extent.bytes {
        batch.clear();
        more = match reader.fill(&mut batch, BATCH_BYTES) {
            Err(DecodeError::Corrupt(problem)) if problem.starts_with(TORN) && sample.is_csv => {
                sample.broken = Some(problem);
                false
            }
            filled => filled?,
        };
        n_bytes += batch.size() as u64;
        let mut start = 0;
        for &end in &batch.ends {
            sample.add(&batch.data[start..end], &mut places);
            start = end;
        }
        sample.n_rows += batch.n_read;
        sample.n_rejected += batch.rejects.len() as u64;
        for width in
            batch.rejects.iter().filter_map(|reject| reject.message.split_once(OTHER_WIDTH)).map(|(width, _)| width)
        {
            let width: Option<u64> = width.trim().parse().ok();
            sample.n_other_width += 1;
            sample.n_short += u64::from(width.is_some_and(|width| width < sample.n_fields as u64));
            sample.other_width = sample.other_width.or(width);
        }
        if let (None, Some(reject)) = (&sample.first_reject, batch.rejects.first()) {
            sample.first_reject = Some(format!("row {}: {} ({})", reject.row_number, reject.message, reject.class));
            sample.reject_class = Some(reject.class);
        }
        sample.forget_some_values();
    }
    sample.is_whole = !more && sample.broken.is_none();
    Ok(sample)
}

/// Returns the columns of a sample: one for everything, or a text for each field without a name.
fn columns(sample: &Sample) -> Vec<Column> {
    let column = |name: &str, pg_type| Column { name: name.to_owned(), pg_type, not_null: false, has_default: false };
    match sample.is_by_column() {
        true => sample.fields.iter().map(|field| column(&field.name, PgType::Text(None))).collect(),
        false => vec![column(ALL_FIELDS, PgType::Jsonb)],
    }
}

fn spec(columns: &[Column], is_by_column: bool) -> MappingSpec<'_> {
    static NO_RENAME: BTreeMap<String, String> = BTreeMap::new();
    static NO_TYPES: BTreeMap<String, Notation> = BTreeMap::new();
    MappingSpec {
        columns,
        rename: &NO_RENAME,
        captures: &[],
        types: &NO_TYPES,
        on_new_field: if is_by_column { OnNewField::Ignore } else { OnNewField::Extras },
        extras_column: (!is_by_column).then_some(ALL_FIELDS),
        key: &[],
    }
}

/// Returns the names that are there more than once.
fn twice(names: &[String]) -> BTreeSet<String> {
    let mut seen = HashSet::new();
    names.iter().filter(|name| !seen.insert(name.as_str())).cloned().collect()
}

impl Sample {
    /// Returns where the rows are in a document that is one row but for an array of objects in it.
    #[must_use]
    pub fn rows_within(&self) -> Option<Pointer> {
        let mut lists = self.fields.iter().filter(|field| field.evidence.is_one_list_of_objects());
        let list = lists.next().filter(|_| self.is_open && self.is_whole && self.n_rows == 1)?;
        let name = list.name.replace('~', "~0").replace('/', "~1");
        lists.next().is_none().then(|| format!("/{name}").parse().ok()).flatten()
    }

    /// Returns whether each field is read into a column of text: those without names, and those of which several have one
    /// name, for there is no object of such.
    fn is_by_column(&self) -> bool {
        self.is_positional || !self.ambiguous.is_empty()
    }

    /// Adds a row, given as the tuple that would be copied.
    fn add(&mut self, tuple: &[u8], places: &mut HashMap<String, usize>) {
        let mut cells = Cells::of(tuple);
        // The row's number.
        cells.next();
        if self.is_by_column() {
            let is_first = self.first_row.is_empty();
            for (place, field) in self.fields.iter_mut().enumerate() {
                let text = cells.next().flatten().and_then(|cell| std::str::from_utf8(cell).ok());
                if let Some(text) = text {
                    field.evidence.add_text(text);
                    let first = self.first_row.get(place);
                    self.is_first_repeated |= !text.is_empty() && first.is_some_and(|first| first == text);
                }
                if is_first {
                    self.first_row.push(text.unwrap_or_default().to_owned());
                }
            }
            return;
        }
        // A jsonb value's first byte is its version. A row without fields has no object.
        let Some(Some([_, object @ ..])) = cells.next() else { return };
        let Ok(object) = std::str::from_utf8(object) else { return };
        let visitor = Members { sample: self, places };
        // The decoder has checked that it is an object.
        let _ = serde_json::Deserializer::from_str(object).deserialize_map(visitor);
    }

    fn note(&mut self, place: usize, raw: &str) {
        let evidence = &mut self.fields[place].evidence;
        match (raw, self.has_texts) {
            ("null", _) => {}
            (raw, true) => evidence.add_text(&text_of_json(raw)),
            (raw, false) => evidence.add_json(raw),
        }
    }

    /// Keeps what is remembered of values within bounds.
    fn forget_some_values(&mut self) {
        let mut left = MAX_REMEMBERED;
        for field in &mut self.fields {
            match left.checked_sub(field.evidence.n_kept()) {
                Some(rest) => left = rest,
                None => field.evidence.forget_values(),
            }
        }
    }
}

/// The cells of a COPY tuple.
pub struct Cells<'t> {
    rest: &'t [u8],
}

impl<'t> Cells<'t> {
    /// Returns those of a tuple, which begins with how many fields it has.
    pub fn of(tuple: &'t [u8]) -> Self {
        Self { rest: tuple.get(2..).unwrap_or_default() }
    }
}

impl<'t> Iterator for Cells<'t> {
    type Item = Option<&'t [u8]>;

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.rest.split_first_chunk()?;
        let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) else {
            self.rest = rest;
            return Some(None);
        };
        let (cell, rest) = rest.split_at_checked(length)?;
        self.rest = rest;
        Some(Some(cell))
    }
}

/// Walks through a row's object.
struct Members<'s> {
    sample: &'s mut Sample,
    places: &'s mut HashMap<String, usize>,
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let Self { sample, places } = self;
        let mut expected = 0;
        while let Some((Name(name), raw)) = members.next_entry::<Name<'de>, &'de RawValue>()? {
            // Rows bring their fields in the same order, most of the time.
            let place = match sample.fields.get(expected) {
                Some(field) if *field.name == *name => Some(expected),
                _ => places.get(&*name).copied(),
            };
            let place = match place {
                Some(place) => place,
                None if sample.fields.len() >= MAX_FIELDS => {
                    sample.too_many_fields = true;
                    continue;
                }
                None => {
                    places.insert(name.clone().into_owned(), sample.fields.len());
                    let name = name.into_owned();
                    sample.fields.push(FieldSeen { name, evidence: Evidence::default(), declared: None });
                    sample.fields.len() - 1
                }
            };
            expected = place + 1;
            sample.note(place, raw.get());
        }
        Ok(())
    }
}

/// A member's name, borrowed where it has no escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
