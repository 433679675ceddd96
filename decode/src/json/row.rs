//! From one row's JSON text to its cells.

use super::{
    fields::FieldTable,
    frame::Frame,
    pointer::{Pointer, is_name},
    scan::{Fault, Kind, Scanner, Token},
};
use crate::{
    Batch, FREE_ROW_BYTES, Field, Limits, Mapping, RowEncoder, Slot,
    budget::Reservation,
    encode::{CellError, PgType, RejectClass, Value, unescape, usual, write_string},
    named::{MAX_QUOTED_BYTES, utf8},
    row::Short,
};
use std::{borrow::Cow, sync::Arc};

/// Takes rows apart and hands their cells to the encoder.
pub struct RowParser {
    encoder: RowEncoder,
    members: Members,
    any_encoded: bool,
}

impl RowParser {
    /// Returns a parser whose first row is number 1.
    pub fn new(mapping: Arc<Mapping>, limits: &Limits) -> Self {
        let encoder = RowEncoder::new(Arc::clone(&mapping)).with_limits(limits);
        Self { encoder, members: Members::new(mapping, limits), any_encoded: false }
    }

    /// Has each row have these fields too, each the value at its place in the row.
    #[must_use]
    pub fn with_nested(mut self, fields: &[(String, Pointer)]) -> Self {
        let nested = |(name, place): &(String, Pointer)| {
            let mut json = Vec::new();
            write_string(name, &mut json);
            Nested { slot: self.members.mapping.slot_of(name), json, place: place.clone(), root: Token::ABSENT }
        };
        self.members.nested = fields.iter().map(nested).collect();
        self
    }

    /// Adds one row, given as JSON text, to the batch: as a tuple or as a reject. Returns false, and adds nothing, where
    /// the text is several rows.
    pub fn push(&mut self, row: &[u8], batch: &mut Batch) -> bool {
        let Self { encoder, members, any_encoded } = self;
        match members.find(row) {
            Ok(()) => {
                let (n_encoded, n_filtered) = (batch.ends.len(), batch.n_filtered);
                // One look at the whole row is cheaper than one at each field.
                let is_text = usual::is_text(row);
                let short = |column: usize, to: &PgType, out: &mut Vec<u8>| match is_text {
                    true => members.write_short(column, row, to, out),
                    false => Short::No,
                };
                encoder.push_shortly(batch, |_| 0, short, |column| members.cell(column, row), || Cow::Borrowed(row));
                let is_dropped = batch.n_filtered > n_filtered;
                *any_encoded |= is_dropped || batch.ends.len() > n_encoded;
                if is_dropped {
                    encoder.note_seen(|column| members.tokens[column].kind != Kind::Absent);
                }
            }
            Err(refusal) if refusal.class == RejectClass::Syntax && is_shared(row) => return false,
            Err(refusal) => encoder.reject(refusal, row, row.len() as u64, batch),
        }
        true
    }

    /// Adds one row under its number: as a tuple or as a reject.
    pub fn push_numbered(&mut self, row_number: u64, row: &[u8], batch: &mut Batch) {
        self.encoder.number_next(row_number);
        if !self.push(row, batch) {
            self.push_refused(row_number, CellError::new(RejectClass::Syntax, "several rows in one"), row, batch);
        }
    }

    /// Adds a row under its number that was refused, for the reason given.
    pub fn push_refused(&mut self, row_number: u64, why: CellError, row: &[u8], batch: &mut Batch) {
        self.encoder.number_next(row_number);
        self.encoder.reject(why, row, row.len() as u64, batch);
    }

    /// Returns whether rows were taken, and no field of any of them has a place in the table.
    pub fn are_strangers(&self) -> bool {
        self.any_encoded && !self.members.any_taken && self.members.mapping.extras().is_none()
    }

    /// Adds a row that is longer than allowed; `start` is as much of it as is kept.
    pub fn push_oversized(&mut self, start: &[u8], length: u64, batch: &mut Batch) {
        let why = CellError::new(RejectClass::RowSize, format!("row of {length} bytes"));
        self.encoder.reject(why, start, length, batch);
    }

    /// Returns which columns any row had a field for.
    pub fn seen_columns(&self) -> Vec<bool> {
        let mut seen = self.encoder.seen_columns();
        if let Some(extras) = self.members.mapping.extras() {
            // Rows without extras say so: a newer version of the object must be able to clear them.
            seen[extras] = true;
        }
        seen
    }

    /// Returns the first fields that no column took.
    pub fn new_fields(&self) -> Vec<Field> {
        self.members.fields.new_fields()
    }
}

/// The members of the row in hand, by column.
struct Members {
    mapping: Arc<Mapping>,
    max_depth: usize,
    /// Which columns take any JSON value as it was written.
    wants_json: Vec<bool>,
    fields: FieldTable,
    nested: Vec<Nested>,
    /// Whether a column took a field of any row.
    any_taken: bool,
    // What follows is memory that rows share.
    tokens: Vec<Token>,
    extras: Vec<u8>,
    /// For a long `extras`, which is given back after its row.
    reserved: Reservation,
    open: Vec<u8>,
}

impl Members {
    fn new(mapping: Arc<Mapping>, limits: &Limits) -> Self {
        let columns = mapping.all_columns();
        Self {
            max_depth: limits.depth,
            wants_json: columns.iter().map(|column| matches!(column.pg_type, PgType::Json | PgType::Jsonb)).collect(),
            fields: FieldTable::default(),
            nested: Vec::new(),
            any_taken: false,
            tokens: vec![Token::ABSENT; columns.len()],
            extras: Vec::new(),
            reserved: limits.budget.nothing(),
            open: Vec::new(),
            mapping,
        }
    }

    /// Finds each column's token; of fields named twice the last one stays.
    ///
    /// # Errors
    /// Why the row is a reject before its cells are looked at.
    fn find(&mut self, row: &[u8]) -> Result<(), CellError> {
        self.tokens.fill(Token::ABSENT);
        if self.extras.capacity() > FREE_ROW_BYTES {
            self.extras = Vec::new();
            self.reserved.shrink_to(0);
        }
        self.extras.clear();
        self.fields.start_row();
        self.nested.iter_mut().for_each(|nested| nested.root = Token::ABSENT);
        let mut refusal = None;
        let mut scanner = Scanner::new(row, self.max_depth, &mut self.open);
        if !scanner.take(b'{') {
            return Err(CellError::new(RejectClass::Syntax, "row is not a JSON object"));
        }
        let mut more = !scanner.take(b'}');
        while more {
            if self.nested.is_empty() {
                let usual = self.fields.take_usual(row, scanner.at(), &mut self.tokens);
                self.any_taken |= usual.any_taken;
                if usual.any {
                    scanner.go_on_from(usual.end);
                    more = scanner.goes_on()?;
                    continue;
                }
            }
            let name = scanner.name()?;
            let value = scanner.value(1)?;
            for nested in self.nested.iter_mut().filter(|nested| is_name(name.quoted(row), nested.place.root())) {
                nested.root = value;
            }
            match self.fields.slot(name.quoted(row), value.kind == Kind::Nested, &self.mapping) {
                Ok(Slot::Column(column)) => {
                    self.tokens[column] = value;
                    self.any_taken = true;
                }
                Ok(Slot::Ignored) => {}
                Ok(Slot::Extras) => {
                    let (name, value) = (name.raw(row), value.raw(row));
                    add_extra(&mut self.extras, &mut self.reserved, name, value, row.len())?;
                }
                Ok(Slot::Reject) => {
                    let name = name.raw(row);
                    let name = String::from_utf8_lossy(&name[..name.len().min(MAX_QUOTED_BYTES)]);
                    refusal.get_or_insert_with(|| {
                        CellError::new(RejectClass::NewField, format!("no column takes field {name}"))
                    });
                }
                Err(error) => {
                    refusal.get_or_insert(error);
                }
            }
            more = scanner.goes_on()?;
        }
        scanner.finish()?;
        for Nested { slot, json, place, root } in &self.nested {
            let value = place.follow(row, *root, &mut self.open);
            if value.kind == Kind::Absent {
                continue;
            }
            match slot {
                Slot::Column(column) => {
                    self.tokens[*column] = value;
                    self.any_taken = true;
                }
                Slot::Extras => {
                    add_extra(&mut self.extras, &mut self.reserved, json, value.raw(row), 2 * row.len())?;
                }
                _ => {}
            }
        }
        if !self.extras.is_empty() {
            self.extras.push(b'}');
        }
        refusal.map_or(Ok(()), Err)
    }

    /// Appends a column's field, where its cell is a usual one.
    #[inline]
    fn write_short(&self, column: usize, row: &[u8], to: &PgType, out: &mut Vec<u8>) -> Short {
        let Token { kind, start, end } = self.tokens[column];
        match (kind, to) {
            (Kind::Absent, _) if self.mapping.extras() != Some(column) => Short::Absent,
            (Kind::Null, _) => Short::Null,
            (Kind::Number, _) => Short::of(usual::write_text(row, start, end, to, out)),
            (Kind::Plain, _) => Short::of(usual::write_text(row, start + 1, end - 1, to, out)),
            (Kind::Bool(truth), PgType::Bool) => Short::of(usual::push([u8::from(truth)], out)),
            _ => Short::No,
        }
    }

    /// Returns a column's cell of the row that was looked through last.
    #[inline]
    fn cell<'a>(&'a self, column: usize, row: &'a [u8]) -> Result<Value<'a>, CellError> {
        let token = self.tokens[column];
        let value = match token.kind {
            Kind::Absent if self.mapping.extras() == Some(column) && !self.extras.is_empty() => {
                Value::Json(utf8(&self.extras)?.into())
            }
            Kind::Absent => Value::Absent,
            Kind::Null => Value::Null,
            _ if self.wants_json[column] => Value::Json(utf8(token.raw(row))?.into()),
            Kind::Bool(value) => Value::Bool(value),
            Kind::Number => Value::Number(utf8(token.raw(row))?.into()),
            Kind::Plain => Value::Text(utf8(token.quoted(row))?.into()),
            Kind::Escaped => Value::Text(text(token.quoted(row))?),
            Kind::Nested => Value::Json(utf8(token.raw(row))?.into()),
        };
        Ok(value)
    }
}

/// A field whose value is within a member.
struct Nested {
    /// Its name as JSON.
    json: Vec<u8>,
    slot: Slot,
    place: Pointer,
    /// The outermost member of the row in hand.
    root: Token,
}

/// Returns whether a text is several objects and nothing else.
fn is_shared(text: &[u8]) -> bool {
    let mut n_rows = 0;
    let mut rest = text.trim_ascii();
    while rest.first() == Some(&b'{')
        && let Some(end) = Frame::default().advance(rest)
    {
        n_rows += 1;
        rest = rest[end..].trim_ascii_start();
    }
    rest.is_empty() && n_rows > 1
}

impl From<Fault> for CellError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Depth => Self::new(RejectClass::Depth, "nested too deep"),
            Fault::Syntax { at, expected } => {
                Self::new(RejectClass::Syntax, format!("expected {expected} at byte {}", at + 1))
            }
        }
    }
}

/// Returns the text of what stands between a string's quotes.
pub fn text(inside: &[u8]) -> Result<Cow<'_, str>, CellError> {
    unescape(utf8(inside)?)
}

/// Adds `name: value` to the extras of a row, in memory reserved for all that the row may have.
fn add_extra(
    extras: &mut Vec<u8>,
    reserved: &mut Reservation,
    name: &[u8],
    value: &[u8],
    at_most: usize,
) -> Result<(), CellError> {
    let length = extras.len() + name.len() + value.len() + "{:}".len();
    if length > FREE_ROW_BYTES && length > extras.capacity() {
        let wanted = at_most.max(length);
        reserved.grow_to("an object of extra fields", wanted)?;
        extras.reserve_exact(wanted - extras.len());
    }
    add_member(extras, name, value);
    Ok(())
}

/// Adds `name: value` to an object under construction.
fn add_member(object: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    object.push(if object.is_empty() { b'{' } else { b',' });
    object.extend_from_slice(name);
    object.push(b':');
    object.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Fields, MappingSpec, OnNewField,
        budget::{Budget, Pool},
        trial::{column, options},
    };

    #[test]
    fn long_extras_are_reserved_and_given_back_after_their_row() {
        let columns = [column("a", PgType::Jsonb), column("extra", PgType::Jsonb)];
        let spec = MappingSpec {
            columns: &columns,
            rename: &Default::default(),
            captures: &[],
            types: &Default::default(),
            on_new_field: OnNewField::Extras,
            extras_column: Some("extra"),
            key: &[],
        };
        let mapping = Arc::new(Mapping::new(&Fields::Open, &spec).expect("a mapping"));
        let budget = Budget::new(4 << 20, Pool::new(0, 1));
        let limits = Limits { budget: budget.clone(), ..options().limits };
        let mut rows = RowParser::new(mapping, &limits);
        let mut batch = Batch::default();
        let row = |length: usize| format!("{{\"x\":1,\"y\":\"{}\"}}", "z".repeat(length)).into_bytes();
        rows.push(&row(1 << 20), &mut batch);
        assert_eq!(batch.ends.len(), 1);
        batch.clear();
        assert!(rows.members.extras.capacity() <= row(1 << 20).len());
        budget.reserve("another", 3 << 20).expect_err("the extras take it");
        rows.push(&row(10), &mut batch);
        budget.reserve("another", 4 << 20).expect("they are gone");
        assert!(rows.members.extras.capacity() <= FREE_ROW_BYTES);
        rows.push(&row(5 << 20), &mut batch);
        assert!(
            batch.rejects[0].message.starts_with("limits: an object of extra fields takes "),
            "{}",
            batch.rejects[0].message
        );
    }
}
