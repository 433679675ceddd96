//! Bringing fields and columns together.

use super::super::{Field, Fields, MappingSpec, OnNewField};
use super::{Column, EXTRAS_COLUMN, Mapping, Requirement, Slot};
use crate::encode::{self, PgType, Value};
use std::collections::{HashMap, hash_map::Entry};

/// Does what [`Mapping::new`] promises.
pub(super) fn build(fields: &Fields, spec: &MappingSpec<'_>) -> Result<Mapping, String> {
    let names = Names::new(spec)?;
    let captured = capture_constants(&names, spec)?;
    let mut builder = Builder { spec, names, captured, taken: vec![None; spec.columns.len()] };
    match fields {
        Fields::Named(fields) => builder.named(fields),
        Fields::Positional(n_fields) => builder.positional(*n_fields),
        Fields::Open => builder.open(),
    }
}

/// Finds columns by the names fields have.
struct Names<'a> {
    exact: HashMap<&'a str, usize>,
    /// None where several columns differ in case only.
    folded: HashMap<String, Option<usize>>,
    renamed: HashMap<&'a str, usize>,
}

/// How a field's name led to a column; a better way wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Match {
    Folded,
    Exact,
    Renamed,
}

impl<'a> Names<'a> {
    fn new(spec: &MappingSpec<'a>) -> Result<Self, String> {
        let reserved = extras_target(spec)?;
        let mut names = Self { exact: HashMap::new(), folded: HashMap::new(), renamed: HashMap::new() };
        for (index, column) in spec.columns.iter().enumerate() {
            if Some(index) == reserved {
                continue;
            }
            names.exact.insert(&column.name, index);
            match names.folded.entry(column.name.to_lowercase()) {
                Entry::Vacant(entry) => {
                    entry.insert(Some(index));
                }
                Entry::Occupied(mut entry) => {
                    entry.insert(None);
                }
            }
        }
        for (field, column) in spec.rename {
            let Some(index) = names.exact.get(column.as_str()) else {
                return Err(format!("rename of field \"{field}\" names \"{column}\", which is no column to fill"));
            };
            names.renamed.insert(field, *index);
        }
        Ok(names)
    }

    fn find(&self, field: &str) -> Option<(usize, Match)> {
        if let Some(index) = self.renamed.get(field) {
            return Some((*index, Match::Renamed));
        }
        if let Some(index) = self.exact.get(field) {
            return Some((*index, Match::Exact));
        }
        let index = self.folded.get(&field.to_lowercase()).copied().flatten()?;
        Some((index, Match::Folded))
    }
}

/// Returns the index in the table of the configured extras column; no field may fill it by its name.
fn extras_target(spec: &MappingSpec<'_>) -> Result<Option<usize>, String> {
    if spec.on_new_field != OnNewField::Extras {
        return Ok(None);
    }
    let name = spec.extras_column.ok_or("on_new_field is extras, but extras_column is not set")?;
    let index = spec.columns.iter().position(|column| column.name == name);
    let index = index.ok_or_else(|| format!("extras_column \"{name}\" is no column to fill"))?;
    match spec.columns[index].pg_type {
        PgType::Jsonb | PgType::Json => Ok(Some(index)),
        _ => Err(format!("extras_column \"{name}\" is neither jsonb nor json")),
    }
}

/// Converts the captures that have a column, once for all rows; the index is the table's.
fn capture_constants(names: &Names<'_>, spec: &MappingSpec<'_>) -> Result<HashMap<usize, Vec<u8>>, String> {
    let mut constants = HashMap::new();
    for (field, text) in spec.captures {
        let Some((index, _)) = names.find(field) else { continue };
        let column = &spec.columns[index];
        let value = text.as_deref().map_or(Value::Null, |text| Value::Text(text.into()));
        if value == Value::Null && requirement(column, spec) != Requirement::Nullable {
            return Err(format!("capture {{{field}}} is NULL, which column \"{}\" does not allow", column.name));
        }
        let mut constant = Vec::new();
        let read = spec.types.get(&column.name).map(|notation| notation.read(&value)).transpose();
        let read = read.map(|read| read.flatten().unwrap_or(value));
        let encoded = read.and_then(|value| encode::encode(&value, &column.pg_type, &mut constant));
        encoded.map_err(|error| {
            format!("capture {{{field}}} does not fit column \"{}\": {}", column.name, error.message)
        })?;
        if constants.insert(index, constant).is_some() {
            return Err(format!("two captures for column \"{}\"", column.name));
        }
    }
    Ok(constants)
}

fn requirement(column: &Column, spec: &MappingSpec<'_>) -> Requirement {
    if spec.key.contains(&column.name) {
        Requirement::Key
    } else if column.not_null {
        Requirement::NotNull
    } else {
        Requirement::Nullable
    }
}

/// Indexes here are the table's until [`Builder::finish`] leaves out the columns nothing fills.
struct Builder<'a> {
    spec: &'a MappingSpec<'a>,
    names: Names<'a>,
    captured: HashMap<usize, Vec<u8>>,
    /// The field that fills each column, and by which match.
    taken: Vec<Option<(usize, Match)>>,
}

impl Builder<'_> {
    fn named(&mut self, fields: &[Field]) -> Result<Mapping, String> {
        let mut seen = HashMap::new();
        for (index, field) in fields.iter().enumerate() {
            let Some(before) = seen.insert(field.name.as_str(), index) else { continue };
            // What is taken for names may be values: by number they are found as well.
            if self.names.find(&field.name).is_some() || self.unknown_slot(false) != Slot::Ignored {
                return Err(format!("fields {} and {} have one name", before + 1, index + 1));
            }
        }
        let mut by_index = vec![self.unknown_slot(false); fields.len()];
        let mut n_matched = 0;
        for (index, field) in fields.iter().enumerate() {
            let Some((column, by)) = self.names.find(&field.name) else { continue };
            n_matched += 1;
            if self.captured.contains_key(&column) {
                by_index[index] = Slot::Ignored;
                continue;
            }
            if let Some((other, other_by)) = self.taken[column] {
                // «Id» gives way to «id», but two of a rank cannot be told apart.
                let is_clear = (by == Match::Folded || other_by == Match::Folded) && by != other_by;
                if !is_clear {
                    // One that was added for this file has its name from there.
                    let name = match self.spec.on_new_field {
                        OnNewField::AddColumn => "the same column".to_owned(),
                        _ => format!("column \"{}\"", self.spec.columns[column].name),
                    };
                    return Err(format!("fields {} and {} both fill {name}", other + 1, index + 1));
                }
                if by < other_by {
                    continue;
                }
                by_index[other] = self.unknown_slot(false);
            }
            self.taken[column] = Some((index, by));
            by_index[index] = Slot::Column(column);
        }
        self.check_key()?;
        let has_extras = by_index.contains(&Slot::Extras);
        if n_matched == 0 && !has_extras {
            // What is taken for names may be a row of a file without header.
            return Err(format!("no field matches a column of the table ({} fields)", fields.len()));
        }
        let extras = if has_extras { extras_target(self.spec)? } else { None };
        Ok(self.finish(by_index, extras, false))
    }

    fn positional(&mut self, n_fields: usize) -> Result<Mapping, String> {
        let all = self.spec.columns.len();
        let extras = extras_target(self.spec)?;
        // A file as wide as the table has a field for each column; a narrower one has none for
        // what the path or the extras fill.
        let by_index: Vec<Slot> = (0..all)
            .filter(|column| n_fields == all || (!self.captured.contains_key(column) && Some(*column) != extras))
            .map(|column| if self.captured.contains_key(&column) { Slot::Ignored } else { Slot::Column(column) })
            .take(n_fields)
            .collect();
        if by_index.len() < n_fields {
            let message = format!("the file has {n_fields} fields and no header, the table {} columns", by_index.len());
            return Err(message);
        }
        for (index, slot) in by_index.iter().enumerate() {
            if let Slot::Column(column) = slot {
                self.taken[*column] = Some((index, Match::Exact));
            }
        }
        self.check_key()?;
        Ok(self.finish(by_index, None, false))
    }

    fn open(&mut self) -> Result<Mapping, String> {
        if let Some(key) = self.spec.key.iter().find(|key| !self.names.exact.contains_key(key.as_str())) {
            return Err(format!("key column \"{key}\" is no column to fill"));
        }
        let extras = extras_target(self.spec)?;
        Ok(self.finish(Vec::new(), extras, true))
    }

    fn check_key(&self) -> Result<(), String> {
        for key in self.spec.key {
            let Some(column) = self.names.exact.get(key.as_str()) else {
                return Err(format!("key column \"{key}\" is no column to fill"));
            };
            if self.taken[*column].is_none() && !self.captured.contains_key(column) {
                return Err(format!("no field fills the key column \"{key}\""));
            }
        }
        Ok(())
    }

    fn unknown_slot(&self, is_open: bool) -> Slot {
        match self.spec.on_new_field {
            OnNewField::Ignore => Slot::Ignored,
            OnNewField::Reject => Slot::Reject,
            OnNewField::Extras => Slot::Extras,
            // With a schema the columns were added before; what still has none was refused one.
            OnNewField::AddColumn if is_open => Slot::Extras,
            OnNewField::AddColumn => Slot::Ignored,
        }
    }

    fn finish(&mut self, by_index: Vec<Slot>, extras: Option<usize>, is_open: bool) -> Mapping {
        let mut mapping = Mapping { unknown: self.unknown_slot(is_open), ..Mapping::default() };
        let mut copied = vec![None; self.spec.columns.len()];
        for (index, column) in self.spec.columns.iter().enumerate() {
            let constant = self.captured.remove(&index);
            if !is_open && constant.is_none() && self.taken[index].is_none() && extras != Some(index) {
                continue;
            }
            let position = mapping.columns.len();
            copied[index] = Some(position);
            if is_open && column.has_default && constant.is_none() {
                mapping.absent_flags.push(position);
            }
            if extras == Some(index) {
                mapping.extras = Some(position);
            }
            mapping.required.push(requirement(column, self.spec));
            if !self.spec.types.is_empty() {
                mapping.notations.push(self.spec.types.get(&column.name).cloned());
            }
            mapping.columns.push(column.clone());
            mapping.constants.push(constant);
        }
        if is_open && self.spec.on_new_field == OnNewField::AddColumn {
            mapping.extras = Some(mapping.columns.len());
            mapping.required.push(Requirement::Nullable);
            mapping.constants.push(None);
            mapping.columns.push(Column {
                name: EXTRAS_COLUMN.to_owned(),
                pg_type: PgType::Jsonb,
                not_null: false,
                has_default: false,
            });
        }
        let place = |slot: Slot| match slot {
            Slot::Column(index) => copied[index].map_or(Slot::Ignored, Slot::Column),
            other => other,
        };
        mapping.by_index = by_index.into_iter().map(place).collect();
        if is_open {
            self.fill_names(&mut mapping, place);
        }
        mapping
    }

    /// Prepares every name a row may use; captured columns take nothing from rows.
    fn fill_names(&self, mapping: &mut Mapping, place: impl Fn(Slot) -> Slot) {
        let slot = |column: usize| match place(Slot::Column(column)) {
            Slot::Column(position) if mapping.constants[position].is_some() => Slot::Ignored,
            slot => slot,
        };
        let exact = self.names.exact.iter().map(|(name, column)| ((*name).to_owned(), slot(*column)));
        let renamed = self.names.renamed.iter().map(|(name, column)| ((*name).to_owned(), slot(*column)));
        let by_name = exact.chain(renamed).collect(); // Later entries win: rename over the exact name.
        let folded = self.names.folded.iter();
        let by_folded_name = folded.filter_map(|(name, column)| Some((name.clone(), slot((*column)?)))).collect();
        mapping.by_name = by_name;
        mapping.by_folded_name = by_folded_name;
    }
}
