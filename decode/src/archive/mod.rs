//! Archives: the rows of all members, one member after another.

mod tar;
mod zip;

use super::{
    Batch, DecodeError, Field, Fields, Format, Limits, Mapping, PayloadForm, ReadOptions, RowReader, Slot, Source,
    compression::{self, Content, Meter},
    json,
    named::MAX_QUOTED_BYTES,
    open::open_content,
};
use std::{
    io::{self, BufRead, Read},
    sync::Arc,
};
pub use tar::is_tar;
pub use zip::is_zip;

/// The field that has the name of the member a row is from.
pub const MEMBER_FIELD: &str = "archive_member";

/// A file of an archive.
struct Member {
    name: String,
    input: Box<dyn Read + Send>,
}

enum Archive {
    Tar(tar::Tar),
    Zip(Box<zip::Zip>),
}

/// Opens a tar archive and its first member.
pub fn open_tar(
    input: Box<dyn BufRead + Send>,
    meter: Meter,
    options: &ReadOptions,
) -> Result<Box<dyn RowReader>, DecodeError> {
    open(Archive::Tar(tar::Tar::new(input)), meter, options)
}

/// Opens a zip archive and its first member.
pub fn open_zip(source: Arc<dyn Source>, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    let meter = Meter::new(source.size(), &options.limits);
    let zip = zip::Zip::open(source, &options.limits.budget)?;
    open(Archive::Zip(Box::new(zip)), meter, options)
}

fn open(archive: Archive, meter: Meter, options: &ReadOptions) -> Result<Box<dyn RowReader>, DecodeError> {
    let mut members = Members { archive, meter, options: options.clone() };
    let first = members.next()?;
    let Some(Opened { name, reader }) = first else {
        // As any object without a byte.
        return json::open(Box::new(io::empty()), Format::Ndjson, options);
    };
    let fields = match reader.fields() {
        Fields::Named(fields) => {
            let member = Field { name: MEMBER_FIELD.to_owned(), nested: false };
            Fields::Named(fields.iter().cloned().chain([member]).collect())
        }
        other => other.clone(),
    };
    let kept = (reader.kept_fields().clone(), reader.payload_form());
    Ok(Box::new(ArchiveReader {
        members,
        name,
        reader: Some(reader),
        fields,
        kept,
        mapping: Arc::default(),
        n_rows: 0,
        is_started: false,
        seen: Vec::new(),
        new_fields: Vec::new(),
    }))
}

/// A member that has rows.
struct Opened {
    name: String,
    reader: Box<dyn RowReader>,
}

/// The members that have rows.
struct Members {
    archive: Archive,
    meter: Meter,
    options: ReadOptions,
}

impl Members {
    /// Opens the next member that has a byte.
    fn next(&mut self) -> Result<Option<Opened>, DecodeError> {
        loop {
            let member = match &mut self.archive {
                Archive::Tar(tar) => tar.next()?,
                Archive::Zip(zip) => zip.next()?,
            };
            let Some(Member { name, input }) = member else { return Ok(None) };
            if !is_data(&name) {
                continue;
            }
            let limits: &Limits = &self.options.limits;
            let opened = compression::layers(self.meter.metered(input), &self.meter, limits).and_then(|content| {
                let Content { head, .. } = &content;
                if head.is_empty() { Ok(None) } else { open_content(content, &name, &self.options).map(Some) }
            });
            if let Some(reader) = opened.map_err(|error| of_member(&name, error))? {
                return Ok(Some(Opened { name, reader }));
            }
        }
    }
}

/// Returns whether a member is data, and not what programs leave beside it.
fn is_data(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let is_left = file.is_empty() || file.starts_with('.') || file == "_SUCCESS" || file.ends_with(".crc");
    !is_left && !name.split('/').any(|folder| folder == "__MACOSX")
}

fn of_member(name: &str, error: DecodeError) -> DecodeError {
    match error {
        DecodeError::Corrupt(problem) => DecodeError::Corrupt(format!("member {}: {problem}", quoted(name))),
        DecodeError::Schema(problem) => DecodeError::Schema(format!("member {}: {problem}", quoted(name))),
        other => other,
    }
}

/// Returns a member's name as a message has it: of a long one, which may take 64 KiB, the end, where its file is.
fn quoted(name: &str) -> String {
    let start = name.len().saturating_sub(MAX_QUOTED_BYTES);
    let end = &name[name.ceil_char_boundary(start)..];
    if start == 0 { format!("{end:?}") } else { format!("…{end:?}") }
}

struct ArchiveReader {
    members: Members,
    /// The member in hand.
    name: String,
    /// None after the last one.
    reader: Option<Box<dyn RowReader>>,
    fields: Fields,
    kept: (Fields, PayloadForm),
    mapping: Arc<Mapping>,
    /// Rows of the members before.
    n_rows: u64,
    /// The first member has the mapping.
    is_started: bool,
    seen: Vec<bool>,
    new_fields: Vec<Field>,
}

impl ArchiveReader {
    /// Has the member in hand fill the columns.
    fn start(&mut self) -> Result<(), DecodeError> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let slot = match &self.fields {
            Fields::Named(fields) => self.mapping.slot(fields.len() - 1),
            Fields::Open => self.mapping.slot_of(MEMBER_FIELD),
            Fields::Positional(_) => Slot::Ignored,
        };
        let mapping = self.mapping.of_member(self.n_rows, &self.name, slot.column());
        reader.set_mapping(Arc::new(mapping.map_err(DecodeError::Schema)?));
        Ok(())
    }

    /// Notes what the member in hand had, and goes to the next.
    fn advance(&mut self) -> Result<(), DecodeError> {
        self.note();
        self.reader = None;
        let Some(Opened { name, reader }) = self.members.next()? else { return Ok(()) };
        let is_alike = match (reader.fields(), &self.fields) {
            (Fields::Named(its), Fields::Named(all)) => its[..] == all[..all.len() - 1],
            (its, all) => its == all,
        };
        if !is_alike {
            let problem = format!("its fields are not those of member {}", quoted(&self.name));
            return Err(of_member(&name, DecodeError::Schema(problem)));
        }
        (self.name, self.reader) = (name, Some(reader));
        self.start()
    }

    fn note(&mut self) {
        let Some(reader) = &self.reader else { return };
        self.seen.iter_mut().zip(reader.seen_columns()).for_each(|(seen, now)| *seen |= now);
        self.new_fields = self.all_new_fields();
    }

    fn all_new_fields(&self) -> Vec<Field> {
        let mut fields = self.new_fields.clone();
        for field in self.reader.iter().flat_map(|reader| reader.new_fields()) {
            match fields.iter_mut().find(|known| known.name == field.name) {
                Some(known) => known.nested |= field.nested,
                None => fields.push(field),
            }
        }
        fields.truncate(json::MAX_NEW_FIELDS);
        fields
    }
}

impl RowReader for ArchiveReader {
    fn fields(&self) -> &Fields {
        &self.fields
    }

    fn payload_form(&self) -> PayloadForm {
        self.kept.1
    }

    fn kept_fields(&self) -> &Fields {
        &self.kept.0
    }

    fn set_mapping(&mut self, mapping: Arc<Mapping>) {
        self.seen = vec![false; mapping.columns().len()];
        self.mapping = mapping;
    }

    fn fill(&mut self, batch: &mut Batch, batch_bytes: usize) -> Result<bool, DecodeError> {
        if !std::mem::replace(&mut self.is_started, true) {
            self.start()?;
        }
        while batch.size() < batch_bytes {
            let Some(reader) = &mut self.reader else { return Ok(false) };
            let n_before = batch.n_read;
            let more = reader.fill(batch, batch_bytes).map_err(|error| of_member(&self.name, error))?;
            self.n_rows += batch.n_read - n_before;
            if !more {
                self.advance()?;
            }
        }
        Ok(true)
    }

    fn seen_columns(&self) -> Vec<bool> {
        self.seen.clone()
    }

    fn new_fields(&self) -> Vec<Field> {
        self.new_fields.clone()
    }
}

#[cfg(test)]
mod tests;
