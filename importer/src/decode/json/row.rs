//! From one row's JSON text to its cells.

use super::{
    fields::FieldTable,
    scan::{Fault, Kind, Scanner, Token, plain_text, unescape},
};
use crate::{
    decode::{Batch, Field, Mapping, RowEncoder, Slot},
    encode::{PgType, Value},
};
use std::{borrow::Cow, sync::Arc};

/// Takes rows apart and hands their cells to the encoder.
pub struct RowParser {
    encoder: RowEncoder,
    members: Members,
    /// Memory that rows share.
    cells: Vec<Value<'static>>,
}

impl RowParser {
    /// Returns a parser whose first row is number 1.
    pub fn new(mapping: Arc<Mapping>, max_depth: usize) -> Self {
        Self {
            encoder: RowEncoder::new(Arc::clone(&mapping)),
            members: Members::new(mapping, max_depth),
            cells: Vec::new(),
        }
    }

    /// Adds one row, given as JSON text, to the batch: as a tuple or as a reject.
    pub fn push(&mut self, row: &[u8], batch: &mut Batch) {
        let mut cells = recycle(std::mem::take(&mut self.cells));
        match self.members.find(row).and_then(|()| self.members.fill(&mut cells, row)) {
            Ok(()) => self.encoder.push(&cells, batch, || Cow::Borrowed(row)),
            Err(refusal) => self.encoder.reject(refusal.class, refusal.message, row, row.len() as u64, batch),
        }
        self.cells = recycle(cells);
    }

    /// Adds a row that is longer than allowed; `start` is as much of it as is kept.
    pub fn push_oversized(&mut self, start: &[u8], length: u64, batch: &mut Batch) {
        self.encoder.reject("row_size", format!("row of {length} bytes"), start, length, batch);
    }

    /// Returns which columns any row had a field for.
    pub fn seen_columns(&self) -> Vec<bool> {
        self.members.seen.clone()
    }

    /// Returns the first fields that no column took.
    pub fn new_fields(&self) -> Vec<Field> {
        self.members.fields.new_fields()
    }
}

/// Why a row is a reject before its cells are encoded.
struct Refusal {
    class: &'static str,
    message: String,
}

impl From<Fault> for Refusal {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Depth => Self { class: "depth", message: "nested too deep".into() },
            Fault::Syntax { at, expected } => {
                Self { class: "syntax", message: format!("expected {expected} at byte {}", at + 1) }
            }
        }
    }
}

/// The members of the row in hand, by column.
struct Members {
    mapping: Arc<Mapping>,
    max_depth: usize,
    /// Which columns take any JSON value as it was written.
    wants_json: Vec<bool>,
    /// The column that takes the extras object, and its name as JSON.
    extras_column: Option<(usize, String)>,
    seen: Vec<bool>,
    fields: FieldTable,
    tokens: Vec<Token>,
    extras: Vec<u8>,
    /// The scanner's memory.
    open: Vec<u8>,
}

impl Members {
    fn new(mapping: Arc<Mapping>, max_depth: usize) -> Self {
        let columns = mapping.columns();
        let extras_column =
            extras_column(&mapping).map(|index| (index, serde_json::Value::from(&*columns[index].name).to_string()));
        let mut seen = vec![false; columns.len()];
        if let Some((index, _)) = extras_column {
            // A row without extras says so: a newer version must be able to clear them.
            seen[index] = true;
        }
        Self {
            max_depth,
            wants_json: columns.iter().map(|column| matches!(column.pg_type, PgType::Json | PgType::Jsonb)).collect(),
            extras_column,
            seen,
            fields: FieldTable::default(),
            tokens: vec![Token::ABSENT; columns.len()],
            extras: Vec::new(),
            open: Vec::new(),
            mapping,
        }
    }

    /// Finds each column's token; of fields named twice the last one stays.
    fn find(&mut self, row: &[u8]) -> Result<(), Refusal> {
        self.tokens.fill(Token::ABSENT);
        self.extras.clear();
        self.fields.start_row();
        let mut refusal = None;
        let mut scanner = Scanner::new(row, self.max_depth, &mut self.open);
        if !scanner.take(b'{') {
            return Err(Refusal { class: "syntax", message: "row is not a JSON object".into() });
        }
        let mut more = !scanner.take(b'}');
        while more {
            let name = scanner.name()?;
            let value = scanner.value(1)?;
            match self.fields.slot(name.quoted(row), value.kind == Kind::Nested, &self.mapping) {
                Ok(Slot::Column(column)) => {
                    self.tokens[column] = value;
                    self.seen[column] = true;
                }
                Ok(Slot::Ignored) => {}
                Ok(Slot::Extras) => add_member(&mut self.extras, name.raw(row), value.raw(row)),
                Ok(Slot::Reject) => {
                    let message =
                        format!("no column takes field {}", shortened(&String::from_utf8_lossy(name.raw(row))));
                    refusal.get_or_insert(Refusal { class: "new_field", message });
                }
                Err(problem) => {
                    refusal.get_or_insert(Refusal { class: "text", message: format!("a field name: {problem}") });
                }
            }
            more = scanner.take(b',');
            if !more {
                scanner.expect(b'}', "a comma or a closing brace")?;
            }
        }
        scanner.finish()?;
        self.close_extras(row);
        refusal.map_or(Ok(()), Err)
    }

    /// Completes the extras object; a field named like its column becomes a member of it rather than being lost.
    fn close_extras(&mut self, row: &[u8]) {
        let Some((column, name)) = &self.extras_column else { return };
        if self.extras.is_empty() {
            return;
        }
        let direct = std::mem::replace(&mut self.tokens[*column], Token::ABSENT);
        if direct.kind != Kind::Absent {
            add_member(&mut self.extras, name.as_bytes(), direct.raw(row));
        }
        self.extras.push(b'}');
    }

    /// Brings the tokens found to cells.
    fn fill<'a>(&'a self, cells: &mut Vec<Value<'a>>, row: &'a [u8]) -> Result<(), Refusal> {
        for (column, token) in self.tokens.iter().enumerate() {
            let cell = cell(*token, row, self.wants_json[column]);
            cells.push(cell.map_err(|problem| self.no_text(column, problem))?);
        }
        if let Some((column, _)) = self.extras_column
            && !self.extras.is_empty()
        {
            let object = plain_text(&self.extras).map_err(|problem| self.no_text(column, problem))?;
            cells[column] = Value::Json(object);
        }
        Ok(())
    }

    #[cold]
    fn no_text(&self, column: usize, problem: &'static str) -> Refusal {
        Refusal { class: "text", message: format!("column \"{}\": {problem}", self.mapping.columns()[column].name) }
    }
}

/// Adds `name: value` to an object under construction.
fn add_member(object: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    object.extend_from_slice(name);
    object.push(b':');
    object.extend_from_slice(value);
}

/// Returns the cell for a token; `wants_json` columns take any value as it was written.
fn cell(token: Token, row: &[u8], wants_json: bool) -> Result<Value<'_>, &'static str> {
    let written = || plain_text(token.raw(row));
    let value = match token.kind {
        Kind::Absent => Value::Absent,
        Kind::Null => Value::Null,
        _ if wants_json => Value::Json(written()?),
        Kind::Bool(value) => Value::Bool(value),
        Kind::Number => Value::Number(written()?),
        Kind::Plain => Value::Text(plain_text(token.quoted(row))?),
        Kind::Escaped => Value::Text(Cow::Owned(unescape(token.quoted(row))?)),
        Kind::Nested => Value::Json(written()?),
    };
    Ok(value)
}

/// Returns a quoted name fit for a message.
fn shortened(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(80) {
        Some((end, _)) => Cow::Owned(format!("{}…", &name[..end])),
        None => Cow::Borrowed(name),
    }
}

/// Returns an empty vector for another row's cells, with the memory of `cells`.
fn recycle<'to>(mut cells: Vec<Value<'_>>) -> Vec<Value<'to>> {
    cells.clear();
    // Nothing is left to map; collecting in place keeps the allocation.
    cells.into_iter().map(|_| Value::Absent).collect()
}

/// TODO(merge)
fn extras_column(mapping: &Mapping) -> Option<usize> {
    mapping.columns().iter().position(|column| column.name == "penstock_extras")
}
