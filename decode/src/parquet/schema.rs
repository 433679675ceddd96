//! What a file's columns are, and how they are read.
//!
//! Leaves are read by their physical type alone and given their meaning cell by cell: a value that
//! is out of its type's range, or a string that is not text, is then one reject and not the end of
//! the file, and nothing is brought through a type that cannot hold it (INT96, wide decimals).

use crate::{
    DecodeError, Field,
    calendar::{Calendar, Calendars},
    failure,
};
use arrow_schema::{DataType, Field as ArrowField, FieldRef, Fields as ArrowFields};
use parquet::{
    arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema},
    basic::{ConvertedType, LogicalType, Repetition, TimeUnit, Type as PhysicalType},
    errors::Result,
    schema::types::{ColumnDescriptor, SchemaDescriptor, Type, TypePtr},
};
use std::{collections::BTreeSet, sync::Arc};

/// A wider fixed-length column is refused: batches reserve its width for each row.
pub const MAX_FIXED_BYTES: i32 = 64 * 1024;

/// What tells whether and where a value is there: a level of each kind, and offsets.
pub const LEVELS_BYTES: usize = 8;

/// What a leaf's values mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Booleans, floats and signed integers: as they are.
    Plain,
    /// The bits of an unsigned integer.
    Unsigned,
    /// An unscaled decimal.
    Decimal(i8),
    /// Days since 1970-01-01.
    Date(Calendar),
    /// Time since midnight, in units of which this many make a second.
    Time(i64),
    /// Time since 1970-01-01T00:00:00, in units of which this many make a second; whether it is an instant.
    Timestamp(i64, bool, Calendar),
    /// Nanoseconds of a day, then the Julian day.
    Int96(Calendar),
    /// UTF-8 text.
    Text,
    /// JSON text.
    Json,
    /// A UUID's bytes.
    Uuid,
    /// A half-precision float.
    Float16,
    /// Months, days and milliseconds.
    Interval,
}

/// A file's schema.
pub struct Schema {
    /// Without the leaves' annotations, INT96 as bytes.
    physical: SchemaDescriptor,
    meanings: Vec<Meaning>,
    /// The root field that each leaf belongs to.
    roots: Vec<usize>,
}

impl Schema {
    /// Returns the schema of a file, and its fields.
    ///
    /// # Errors
    /// [`DecodeError::Corrupt`] where a type makes no sense.
    pub fn new(file: &SchemaDescriptor, calendars: &Calendars) -> std::result::Result<(Self, Vec<Field>), DecodeError> {
        let root = physical_type(file.root_schema()).map_err(|error| failure::of_chain(&error))?;
        let physical = SchemaDescriptor::new(root);
        let n_leaves = file.num_columns();
        let meanings =
            file.columns().iter().map(|leaf| meaning(leaf, calendars)).collect::<std::result::Result<_, _>>()?;
        let roots = (0..n_leaves).map(|leaf| file.get_column_root_idx(leaf)).collect();
        let fields = file.root_schema().get_fields().iter();
        let fields = fields.map(|field| Field { name: field.name().to_owned(), nested: is_nested(field) }).collect();
        Ok((Self { physical, meanings, roots }, fields))
    }

    /// Returns how to read the given root fields.
    pub fn project(&self, roots: &[bool]) -> Result<Projection> {
        let leaves: Vec<usize> = (0..self.roots.len()).filter(|&leaf| roots[self.roots[leaf]]).collect();
        let mask = ProjectionMask::leaves(&self.physical, leaves.iter().copied());
        let hint: ArrowFields = parquet_to_arrow_schema(&self.physical, None)?.fields.iter().map(with_views).collect();
        let levels = parquet_to_arrow_field_levels(&self.physical, mask, Some(&hint))?;
        let mut roots: Vec<usize> = leaves.iter().map(|&leaf| self.roots[leaf]).collect();
        roots.dedup();
        let meanings = leaves.iter().map(|&leaf| self.meanings[leaf]).collect();
        Ok(Projection { levels, roots, leaves, meanings })
    }

    /// Returns the leaf column that is a root field with one value a row.
    pub fn flat_leaf(&self, field: usize, file: &SchemaDescriptor) -> Option<usize> {
        let is_nested = file.root_schema().get_fields().get(field).is_none_or(is_nested);
        (!is_nested).then(|| self.roots.iter().position(|root| *root == field)).flatten()
    }

    /// Returns the first root field among `wanted` that one of these leaf columns belongs to.
    pub fn first_of(&self, leaves: &BTreeSet<usize>, wanted: &[bool]) -> Option<usize> {
        leaves.iter().filter_map(|leaf| self.roots.get(*leaf)).copied().find(|root| wanted[*root])
    }

    /// Returns what a leaf's values mean.
    pub fn meaning(&self, leaf: usize) -> Meaning {
        self.meanings[leaf]
    }

    /// Returns what a batch takes of each row whatever is in it, in bytes.
    pub fn row_bytes(&self, leaves: &[usize]) -> usize {
        leaves.iter().map(|&leaf| value_bytes(&self.physical.column(leaf)) + LEVELS_BYTES).sum()
    }
}

/// Returns what a value takes in a batch beside the bytes it may point to.
pub fn value_bytes(leaf: &ColumnDescriptor) -> usize {
    match leaf.physical_type() {
        PhysicalType::BOOLEAN => 1,
        PhysicalType::INT32 | PhysicalType::FLOAT => 4,
        PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
        PhysicalType::INT96 => 12,
        PhysicalType::BYTE_ARRAY => 16,
        PhysicalType::FIXED_LEN_BYTE_ARRAY => usize::try_from(leaf.type_length()).unwrap_or(0),
    }
}

/// The fields that are read.
pub struct Projection {
    /// For arrow's reader.
    pub levels: FieldLevels,
    /// The root field that each column of a record batch is.
    pub roots: Vec<usize>,
    /// The leaf columns in the file.
    pub leaves: Vec<usize>,
    /// The meanings of the leaf columns.
    pub meanings: Vec<Meaning>,
}

pub(super) fn is_nested(field: &TypePtr) -> bool {
    field.is_group() || field.get_basic_info().repetition() == Repetition::REPEATED
}

pub(super) fn meaning(leaf: &ColumnDescriptor, calendars: &Calendars) -> std::result::Result<Meaning, DecodeError> {
    let physical = leaf.physical_type();
    let is_fixed = physical == PhysicalType::FIXED_LEN_BYTE_ARRAY;
    if is_fixed && !(0..=MAX_FIXED_BYTES).contains(&leaf.type_length()) {
        let problem = format!("Parquet column {} has values of {} bytes", leaf.path(), leaf.type_length());
        return Err(DecodeError::Limits(problem));
    }
    let bytes = is_fixed || physical == PhysicalType::BYTE_ARRAY;
    let integer = matches!(physical, PhysicalType::INT32 | PhysicalType::INT64);
    let decimal = |scale: i32| {
        let scale = i8::try_from(scale).ok().filter(|&scale| scale >= 0);
        scale
            .map(Meaning::Decimal)
            .ok_or_else(|| DecodeError::Corrupt(format!("scale of Parquet column {}", leaf.path())))
    };
    // An annotation that does not fit its physical type is as good as none.
    let meaning = match (leaf.logical_type_ref(), leaf.converted_type()) {
        _ if physical == PhysicalType::INT96 => Meaning::Int96(calendars.int96),
        (Some(LogicalType::String | LogicalType::Enum), _) if bytes => Meaning::Text,
        (Some(LogicalType::Json), _) if bytes => Meaning::Json,
        (Some(LogicalType::Uuid), _) if is_fixed && leaf.type_length() == 16 => Meaning::Uuid,
        (Some(LogicalType::Float16), _) if is_fixed && leaf.type_length() == 2 => Meaning::Float16,
        (Some(LogicalType::Decimal(decimal_type)), _) if bytes || integer => decimal(decimal_type.scale)?,
        (Some(LogicalType::Integer(int)), _) if integer && !int.is_signed => Meaning::Unsigned,
        (Some(LogicalType::Date), _) if physical == PhysicalType::INT32 => Meaning::Date(calendars.moments),
        (Some(LogicalType::Time(time)), _) if integer => Meaning::Time(per_second(time.unit)),
        (Some(LogicalType::Timestamp(timestamp)), _) if integer => {
            Meaning::Timestamp(per_second(timestamp.unit), timestamp.is_adjusted_to_u_t_c, calendars.moments)
        }
        (Some(_), _) => Meaning::Plain,
        (None, ConvertedType::UTF8 | ConvertedType::ENUM) if bytes => Meaning::Text,
        (None, ConvertedType::JSON) if bytes => Meaning::Json,
        (None, ConvertedType::DECIMAL) if bytes || integer => decimal(leaf.type_scale())?,
        (None, ConvertedType::UINT_8 | ConvertedType::UINT_16 | ConvertedType::UINT_32 | ConvertedType::UINT_64)
            if integer =>
        {
            Meaning::Unsigned
        }
        (None, ConvertedType::DATE) if physical == PhysicalType::INT32 => Meaning::Date(calendars.moments),
        (None, ConvertedType::TIME_MILLIS) if integer => Meaning::Time(1_000),
        (None, ConvertedType::TIME_MICROS) if integer => Meaning::Time(1_000_000),
        (None, ConvertedType::TIMESTAMP_MILLIS) if integer => Meaning::Timestamp(1_000, true, calendars.moments),
        (None, ConvertedType::TIMESTAMP_MICROS) if integer => Meaning::Timestamp(1_000_000, true, calendars.moments),
        (None, ConvertedType::INTERVAL) if is_fixed && leaf.type_length() == 12 => Meaning::Interval,
        (None, _) => Meaning::Plain,
    };
    Ok(meaning)
}

/// Returns whether there are no columns in a type.
pub(super) fn is_hollow(field: &Type) -> bool {
    field.is_group() && field.get_fields().iter().all(|field| is_hollow(field))
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::MILLIS => 1_000,
        TimeUnit::MICROS => 1_000_000,
        TimeUnit::NANOS => 1_000_000_000,
    }
}

/// Returns a type without its leaves' annotations, and without groups that have no members: those have no values, and
/// arrow's reader does not pass over them everywhere. Recursion is as deep as the footer's check allows.
pub(super) fn physical_type(file_type: &Type) -> Result<TypePtr> {
    let info = file_type.get_basic_info();
    let built = match file_type {
        Type::PrimitiveType { physical_type, type_length, .. } => {
            // The two are stored alike, and arrow would wrap what its timestamps cannot hold.
            let (physical, length) = match physical_type {
                PhysicalType::INT96 => (PhysicalType::FIXED_LEN_BYTE_ARRAY, 12),
                other => (*other, *type_length),
            };
            Type::primitive_type_builder(info.name(), physical)
                .with_repetition(info.repetition())
                .with_length(length)
                .build()?
        }
        Type::GroupType { fields, .. } => {
            let has_values = |field: &&TypePtr| !is_hollow(field);
            let fields = fields.iter().filter(has_values).map(|field| physical_type(field)).collect::<Result<_>>()?;
            let builder = Type::group_type_builder(info.name())
                .with_converted_type(info.converted_type())
                .with_logical_type(info.logical_type_ref().cloned())
                .with_fields(fields);
            if info.has_repetition() { builder.with_repetition(info.repetition()) } else { builder }.build()?
        }
    };
    Ok(Arc::new(built))
}

/// Returns a field with its byte arrays as views: they refer to the page instead of copying it,
/// so that a dictionary's long value costs nothing each time it is used.
fn with_views(field: &FieldRef) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Binary => DataType::BinaryView,
        DataType::List(item) => DataType::List(with_views(item)),
        DataType::Map(entries, sorted) => DataType::Map(with_views(entries), *sorted),
        DataType::Struct(children) => DataType::Struct(children.iter().map(with_views).collect()),
        other => other.clone(),
    };
    let metadata = field.metadata().clone();
    Arc::new(ArrowField::new(field.name(), data_type, field.is_nullable()).with_metadata(metadata))
}
