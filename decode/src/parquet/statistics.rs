//! Which row groups hold no row that a mapping's conditions let pass, as their statistics tell.
//!
//! Statistics are read from the footer's bytes, those of asked columns only, and none are kept.

use super::{
    column,
    schema::{Meaning, Schema},
    thrift::{BINARY, Checked, Compact, I16, I32, I64, LIST, MAX_SKIP_DEPTH, STRUCT},
};
use crate::{Mapping, Slot, calendar::Calendar, condition::Test, encode};
use encode::{PgType, Value};
use parquet::{
    basic::{ColumnOrder, SortOrder, Type as PhysicalType},
    file::metadata::ParquetMetaData,
};

/// A group that states more rows is read, which shows whether it has them.
const MAX_ROWS: i64 = 1 << 32;

/// Returns, for each row group, whether no row of it passes the conditions of `mapping`.
pub fn without_matches(footer: &[u8], metadata: &ParquetMetaData, schema: &Schema, mapping: &Mapping) -> Vec<bool> {
    let n_groups = metadata.num_row_groups();
    let asked: Vec<Asked<'_>> = asked(metadata, schema, mapping);
    let mut without = vec![false; n_groups];
    if asked.iter().all(|asked| asked.leaf.is_none() && asked.may_pass) {
        return without;
    }
    let n_rows = |group: usize| metadata.row_group(group).num_rows();
    let rows_in: Vec<i64> = (0..n_groups).map(n_rows).collect();
    let mut n_found = 0;
    let found = each_group(footer, |group, input| {
        n_found = group + 1;
        let Some(without) = without.get_mut(group) else { return Err("more row groups than were read") };
        let n_rows = rows_in[group];
        let mut none_pass = asked.iter().any(|asked| asked.leaf.is_none() && !asked.may_pass);
        each_chunk(input, |leaf, input| {
            let asked: Vec<&Asked<'_>> = asked.iter().filter(|asked| asked.leaf == Some(leaf)).collect();
            if asked.is_empty() {
                return Ok(false);
            }
            let statistics = statistics(input)?;
            none_pass |= asked.iter().any(|asked| !asked.may_pass_with(&statistics, n_rows));
            Ok(true)
        })?;
        *without = none_pass && (1..=MAX_ROWS).contains(&n_rows);
        Ok(())
    });
    if found.is_err() || n_found != n_groups {
        // Of a footer that is not what the library makes of it, nothing is believed.
        without.fill(false);
    }
    without
}

/// A condition, and the leaf column that it asks about.
struct Asked<'m> {
    test: &'m Test,
    /// None where all rows have the same value.
    leaf: Option<usize>,
    /// Without a leaf: whether that value passes.
    may_pass: bool,
    physical: PhysicalType,
    meaning: Meaning,
    pg_type: &'m PgType,
    has_nulls: bool,
    has_order: bool,
}

fn asked<'m>(metadata: &ParquetMetaData, schema: &Schema, mapping: &'m Mapping) -> Vec<Asked<'m>> {
    let file = metadata.file_metadata();
    let descriptor = file.schema_descr();
    let n_fields = descriptor.root_schema().get_fields().len();
    // Where a field is refused, each row is.
    if (0..n_fields).any(|field| mapping.slot(field) == Slot::Reject) {
        return Vec::new();
    }
    let asked = mapping.conditions().iter().filter_map(|condition| {
        let all = |may_pass| Asked {
            test: &condition.test,
            leaf: None,
            may_pass,
            physical: PhysicalType::BOOLEAN,
            meaning: Meaning::Plain,
            pg_type: &PgType::Bool,
            has_nulls: true,
            has_order: false,
        };
        let Some(column) = condition.column else { return Some(all(condition.test.null || condition.passes_absent)) };
        if let Some(constant) = mapping.constant(column) {
            return Some(all(condition.test.takes(constant)));
        }
        let field = (0..n_fields).find(|field| mapping.slot(*field) == Slot::Column(column))?;
        let leaf = schema.flat_leaf(field, descriptor)?;
        let described = descriptor.column(leaf);
        let pg_type = &mapping.all_columns()[column].pg_type;
        let meaning = schema.meaning(leaf);
        let physical = described.physical_type();
        let order = file.column_orders().and_then(|orders| orders.get(leaf)).copied();
        let has_order = match order {
            // What is read in another way is in another order.
            Some(ColumnOrder::TYPE_DEFINED_ORDER(_)) if mapping.notation(column).is_some() => false,
            Some(ColumnOrder::TYPE_DEFINED_ORDER(order)) => keeps_order(physical, meaning, pg_type, order),
            _ => false,
        };
        let has_nulls = described.max_def_level() > 0;
        Some(Asked { leaf: Some(leaf), may_pass: true, physical, meaning, pg_type, has_nulls, has_order, ..all(true) })
    });
    asked.collect()
}

/// Returns whether values in the file's order are in that of the column's type once they are read, and none between two
/// that can be read is refused but for its characters. Texts with a length are not: spaces beyond it are cut.
fn keeps_order(physical: PhysicalType, meaning: Meaning, pg_type: &PgType, order: SortOrder) -> bool {
    let is_integer = matches!(physical, PhysicalType::INT32 | PhysicalType::INT64);
    match meaning {
        Meaning::Plain if is_integer => {
            order == SortOrder::SIGNED && matches!(pg_type, PgType::Int2 | PgType::Int4 | PgType::Int8)
        }
        Meaning::Plain => physical == PhysicalType::BOOLEAN && *pg_type == PgType::Bool,
        Meaning::Date(Calendar::Gregorian) | Meaning::Timestamp(_, _, Calendar::Gregorian) => {
            order == SortOrder::SIGNED && matches!(pg_type, PgType::Date | PgType::Timestamp | PgType::TimestampTz)
        }
        Meaning::Text => order == SortOrder::UNSIGNED && *pg_type == PgType::Text(None),
        Meaning::Uuid => order == SortOrder::UNSIGNED && *pg_type == PgType::Uuid,
        _ => false,
    }
}

impl Asked<'_> {
    fn may_pass_with(&self, statistics: &Statistics<'_>, n_rows: i64) -> bool {
        let may_be_null = self.has_nulls && statistics.n_nulls != Some(0);
        if self.test.null && may_be_null {
            return true;
        }
        if self.has_nulls && statistics.n_nulls == Some(n_rows) {
            return false;
        }
        // Also where no value passes, bounds have to tell that all can be read.
        let encoded = |bytes: Option<&[u8]>| self.has_order.then(|| self.encoded(bytes?)).flatten();
        match (encoded(statistics.min), encoded(statistics.max)) {
            (Some(min), Some(max)) => self.test.may_take_between(&min, &max),
            _ => true,
        }
    }

    /// Returns a bound as the column's type has it, without its length.
    fn encoded(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let value = match self.physical {
            // A bound may be cut, and need not be text then.
            PhysicalType::BYTE_ARRAY if self.meaning == Meaning::Text => return Some(bytes.to_vec()),
            PhysicalType::BOOLEAN => match bytes {
                [0] => Value::Bool(false),
                [1] => Value::Bool(true),
                _ => return None,
            },
            PhysicalType::INT32 => column::int32(i32::from_le_bytes(bytes.try_into().ok()?), self.meaning).ok()?,
            PhysicalType::INT64 => column::int64(i64::from_le_bytes(bytes.try_into().ok()?), self.meaning).ok()?,
            PhysicalType::FIXED_LEN_BYTE_ARRAY => Value::Uuid(bytes.try_into().ok()?),
            _ => return None,
        };
        let mut field = Vec::new();
        encode::encode(&value, self.pg_type, &mut field).ok()?;
        Some(field.split_off(4))
    }
}

/// What a column chunk says of its values, in the order of the column's type.
#[derive(Debug, Default)]
struct Statistics<'a> {
    n_nulls: Option<i64>,
    min: Option<&'a [u8]>,
    max: Option<&'a [u8]>,
}

/// Hands each row group of a footer on, with what stands there of it.
fn each_group<'a>(footer: &'a [u8], mut read: impl FnMut(usize, &mut Compact<'a>) -> Checked<()>) -> Checked<()> {
    const ROW_GROUPS: i16 = 4;
    let mut input = Compact { bytes: footer };
    let mut id = 0;
    while let Some(field_type) = input.field(&mut id)? {
        if (id, field_type) != (ROW_GROUPS, LIST) {
            input.skip(field_type, MAX_SKIP_DEPTH)?;
            continue;
        }
        let (_, n_groups) = input.list()?;
        (0..n_groups).try_for_each(|group| read(group, &mut input))?;
    }
    Ok(())
}

/// Hands the metadata of each column chunk of a row group on; what is not read then is stepped over.
fn each_chunk<'a>(
    input: &mut Compact<'a>,
    mut read: impl FnMut(usize, &mut Compact<'a>) -> Checked<bool>,
) -> Checked<()> {
    const COLUMNS: i16 = 1;
    const METADATA: i16 = 3;
    let mut group_field = 0;
    while let Some(field_type) = input.field(&mut group_field)? {
        if (group_field, field_type) != (COLUMNS, LIST) {
            input.skip(field_type, MAX_SKIP_DEPTH)?;
            continue;
        }
        let (_, n_chunks) = input.list()?;
        for leaf in 0..n_chunks {
            let mut chunk_field = 0;
            while let Some(field_type) = input.field(&mut chunk_field)? {
                let is_read = (chunk_field, field_type) == (METADATA, STRUCT) && read(leaf, input)?;
                if !is_read {
                    input.skip(field_type, MAX_SKIP_DEPTH)?;
                }
            }
        }
    }
    Ok(())
}

/// Reads a column chunk's metadata for its statistics. The deprecated `min` and `max`, whose order was never said, are not
/// among them.
fn statistics<'a>(input: &mut Compact<'a>) -> Checked<Statistics<'a>> {
    const STATISTICS: i16 = 12;
    const NULL_COUNT: i16 = 3;
    const MAX_VALUE: i16 = 5;
    const MIN_VALUE: i16 = 6;
    let mut found = Statistics::default();
    let mut id = 0;
    while let Some(field_type) = input.field(&mut id)? {
        if (id, field_type) != (STATISTICS, STRUCT) {
            input.skip(field_type, MAX_SKIP_DEPTH)?;
            continue;
        }
        let mut part = 0;
        while let Some(field_type) = input.field(&mut part)? {
            match (part, field_type) {
                (NULL_COUNT, I16 | I32 | I64) => found.n_nulls = Some(input.zigzag()?),
                (MAX_VALUE, BINARY) => found.max = Some(input.binary()?),
                (MIN_VALUE, BINARY) => found.min = Some(input.binary()?),
                _ => input.skip(field_type, MAX_SKIP_DEPTH)?,
            }
        }
    }
    Ok(found)
}
