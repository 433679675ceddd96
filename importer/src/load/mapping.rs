//! An object's fields and the table's columns, brought together before the rows.

use super::{
    Invocation, Load, LoadError, Target,
    catalog::{Table, TableColumn},
    pipeline::{Decoded, Decoding},
    sql::StagedColumn,
};
use decode::{CONTROL_FIELDS, Column, EXTRAS_COLUMN, Field, Fields, Mapping, OnNewField, PayloadForm};
use std::sync::Arc;

/// What an object says of itself before its rows.
pub struct Opened {
    /// Its fields.
    pub fields: Fields,
    /// How the payloads of its rejects are written.
    pub form: PayloadForm,
    /// The fields of those.
    kept_fields: Fields,
}

impl Opened {
    /// Returns what it takes to read a CSV object's rejects again: the names of its fields.
    #[must_use]
    pub fn csv_fields(&self, table: &Table, n_rejected: u64) -> Option<Vec<Option<String>>> {
        match &self.kept_fields {
            _ if self.form != PayloadForm::Csv || n_rejected == 0 => None,
            Fields::Named(fields) => Some(fields.iter().map(|field| Some(table.storable(&field.name))).collect()),
            Fields::Positional(n_fields) => Some(vec![None; *n_fields]),
            Fields::Open => None,
        }
    }
}

/// Starts decoding, and returns what is known of the object.
///
/// # Errors
/// [`LoadError::Decode`].
pub async fn open(load: &Load<'_>) -> Result<(Decoding, Opened), LoadError> {
    let mut decoding = Decoding::start(
        Arc::clone(&load.source),
        load.target.read.clone(),
        load.run_bytes,
        Invocation::new(&load.target.config, load.object),
    );
    match decoding.next().await {
        Decoded::Fields(fields, (kept_fields, form)) => Ok((decoding, Opened { fields, form, kept_fields })),
        Decoded::Failed(error) => Err(LoadError::Decode(error)),
        Decoded::Run(_) | Decoded::End { .. } => unreachable!("the decoder sends the fields first"),
    }
}

/// Returns the mapping, or the columns the table should get first.
///
/// # Errors
/// [`LoadError::Schema`].
pub fn map_fields(load: &Load<'_>, fields: &Fields) -> Result<Result<Mapping, Vec<Field>>, LoadError> {
    let target = load.target;
    if let (None, OnNewField::AddColumn, Fields::Named(named)) = (load.new_columns, target.config.on_new_field, fields)
    {
        let new: Vec<Field> = named.iter().filter(|field| target.lacks(&field.name)).cloned().collect();
        // Where no field fits, the names may be values of a file without header.
        let fits = new.len() < named.len() || target.table.columns.is_empty();
        if !new.is_empty() && fits {
            return Ok(Err(new));
        }
    }
    map(target, load.captures, fields).map(Ok)
}

/// Brings fields and columns together.
///
/// # Errors
/// [`LoadError::Schema`].
pub fn map(target: &Target, captures: &[(String, Option<String>)], fields: &Fields) -> Result<Mapping, LoadError> {
    let columns = target.decoder_columns();
    let mapping = Mapping::new(fields, &target.mapping_spec(&columns, captures)).map_err(LoadError::Schema)?;
    let mapping = filtered(mapping, target, false);
    if mapping.columns().is_empty() {
        return Err(LoadError::Schema("no field matches a column of the table".into()));
    }
    Ok(if target.config.command.is_empty() { mapping } else { mapping.ignoring(&CONTROL_FIELDS) })
}

/// Has a mapping drop the rows that the target's conditions do not let pass; `kept` rows may be without what is only asked
/// about.
pub fn filtered(mapping: Mapping, target: &Target, kept: bool) -> Mapping {
    let Some(transform) = &target.transform else { return mapping };
    mapping.filtered(&transform.early.conditions, transform.unsent.as_deref().unwrap_or_default(), kept)
}

/// Returns how the mapping's columns are staged; `flags` are the places of those with an absent flag.
///
/// # Errors
/// [`LoadError::Schema`].
pub fn staged_columns(target: &Target, columns: &[Column], flags: &[usize]) -> Result<Vec<StagedColumn>, LoadError> {
    columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let found = target.input_columns().iter().find(|c| c.column.name == column.name);
            let table_column = match found {
                Some(found) => found.clone(),
                // Fields of an open format that have no column yet; staged, never merged.
                None if column.name == EXTRAS_COLUMN => TableColumn::staged_only(column.clone(), "jsonb"),
                None => return Err(LoadError::Schema(format!("no column {}", column.name))),
            };
            Ok(StagedColumn { target: table_column, has_absent_flag: flags.contains(&index), seen: true })
        })
        .collect()
}
