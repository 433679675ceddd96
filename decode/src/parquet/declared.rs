//! What a Parquet schema says of each root field.

use super::schema::{Meaning, is_hollow, is_nested, meaning, physical_type};
use crate::{Declared, DecodeError, calendar::Calendars, failure};
use arrow_schema::DataType;
use parquet::{
    arrow::parquet_to_arrow_schema,
    basic::{ConvertedType, LogicalType, Type as PhysicalType},
    schema::types::{ColumnDescriptor, SchemaDescriptor},
};

const NANOS: i64 = 1_000_000_000;

/// Returns the type of each root field.
pub fn declared(file: &SchemaDescriptor) -> Result<Vec<Declared>, DecodeError> {
    let corrupt = |error: parquet::errors::ParquetError| failure::of_chain(&error);
    // What counts as a list has many forms; arrow's reader, which reads the rows, knows them all.
    let physical = SchemaDescriptor::new(physical_type(file.root_schema()).map_err(corrupt)?);
    let arrow = parquet_to_arrow_schema(&physical, None).map_err(corrupt)?;
    let leaves = file.columns();
    let mut read = arrow.fields().iter();
    let mut found = Vec::new();
    for (root, field) in file.root_schema().get_fields().iter().enumerate() {
        let mut of_root = (0..leaves.len()).filter(|&leaf| file.get_column_root_idx(leaf) == root);
        let only = of_root.next().filter(|_| of_root.next().is_none());
        let read = if is_hollow(field) { None } else { read.next() };
        found.push(match (only, read.map(|field| field.data_type())) {
            (Some(leaf), _) if !is_nested(field) => of_leaf(&leaves[leaf])?,
            (Some(leaf), Some(DataType::List(item))) if !item.data_type().is_nested() => {
                Declared::List(Box::new(of_leaf(&leaves[leaf])?))
            }
            _ => Declared::Nested,
        });
    }
    Ok(found)
}

fn of_leaf(leaf: &ColumnDescriptor) -> Result<Declared, DecodeError> {
    Ok(match meaning(leaf, &Calendars::default())? {
        Meaning::Plain => plain(leaf),
        Meaning::Unsigned => Declared::UInt(bits(leaf)),
        Meaning::Decimal(scale) => {
            let precision = match leaf.logical_type_ref() {
                Some(LogicalType::Decimal(decimal)) => decimal.precision,
                _ => leaf.type_precision(),
            };
            let precision = u32::try_from(precision).ok().filter(|precision| *precision > 0);
            Declared::Decimal(precision.zip(u32::try_from(scale).ok()))
        }
        Meaning::Date(_) => Declared::Date,
        Meaning::Time(per_second) => Declared::Time { nanos: per_second == NANOS },
        Meaning::Timestamp(per_second, utc, _) => Declared::Timestamp { utc, nanos: per_second == NANOS },
        Meaning::Int96(_) => Declared::Int96,
        Meaning::Text => Declared::Text,
        Meaning::Json => Declared::Json,
        Meaning::Uuid => Declared::Uuid,
        Meaning::Float16 => Declared::Float32,
        Meaning::Interval => Declared::Interval,
    })
}

fn plain(leaf: &ColumnDescriptor) -> Declared {
    match leaf.physical_type() {
        PhysicalType::BOOLEAN => Declared::Bool,
        PhysicalType::INT32 | PhysicalType::INT64 => Declared::Int(bits(leaf)),
        PhysicalType::FLOAT => Declared::Float32,
        PhysicalType::DOUBLE => Declared::Float64,
        PhysicalType::INT96 => Declared::Int96,
        PhysicalType::BYTE_ARRAY | PhysicalType::FIXED_LEN_BYTE_ARRAY => Declared::Bytes,
    }
}

/// Returns the width that an integer's annotation gives it, else that of how it is stored.
fn bits(leaf: &ColumnDescriptor) -> u8 {
    let stored = if leaf.physical_type() == PhysicalType::INT64 { 64 } else { 32 };
    match (leaf.logical_type_ref(), leaf.converted_type()) {
        (Some(LogicalType::Integer(int)), _) => u8::try_from(int.bit_width).map_or(stored, |bits| bits.min(stored)),
        (None, ConvertedType::UINT_8 | ConvertedType::INT_8) => 8,
        (None, ConvertedType::UINT_16 | ConvertedType::INT_16) => 16,
        _ => stored,
    }
}
