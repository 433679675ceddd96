//! A column of a record batch: typed once, then read cell by cell.

use super::schema::Meaning;
use crate::{
    MAX_PAYLOAD_BYTES, decimal,
    encode::{CellError, RejectClass, Value, write_string},
    named::utf8,
    times::{self, micros},
    to_json,
};
use arrow_array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, StructArray,
};
use arrow_schema::DataType;
use std::borrow::Cow;

/// A column, or a part of a nested one.
pub enum Column<'b> {
    /// `BOOLEAN`
    Bool(&'b BooleanArray),
    /// `INT32`
    Int32(&'b Int32Array, Meaning),
    /// `INT64`
    Int64(&'b Int64Array, Meaning),
    /// `FLOAT`
    Float32(&'b Float32Array),
    /// `DOUBLE`
    Float64(&'b Float64Array),
    /// `BYTE_ARRAY`
    Bytes(&'b BinaryViewArray, Meaning),
    /// `FIXED_LEN_BYTE_ARRAY`, `INT96`
    Fixed(&'b FixedSizeBinaryArray, Meaning),
    /// A list of one type.
    List(&'b ListArray, Box<Column<'b>>),
    /// Keys and values.
    Map(&'b MapArray, Box<Column<'b>>, Box<Column<'b>>),
    /// Named members; the names are JSON strings.
    Struct(&'b StructArray, Vec<(Vec<u8>, Column<'b>)>),
}

impl<'b> Column<'b> {
    /// Returns the typed form of `array`, whose leaves take their meanings from `meanings`; `None` for a type
    /// that no Parquet column is read as.
    pub fn new(array: &'b ArrayRef, meanings: &mut impl Iterator<Item = Meaning>) -> Option<Self> {
        let any = array.as_any();
        let column = match array.data_type() {
            DataType::List(_) => {
                let list: &ListArray = any.downcast_ref()?;
                Self::List(list, Box::new(Self::new(list.values(), meanings)?))
            }
            DataType::Map(..) => {
                let map: &MapArray = any.downcast_ref()?;
                let keys = Self::new(map.keys(), meanings)?;
                Self::Map(map, Box::new(keys), Box::new(Self::new(map.values(), meanings)?))
            }
            DataType::Struct(fields) => {
                let members: &StructArray = any.downcast_ref()?;
                let named = fields.iter().zip(members.columns()).map(|(field, member)| {
                    let mut name = Vec::new();
                    write_string(field.name(), &mut name);
                    Some((name, Self::new(member, meanings)?))
                });
                Self::Struct(members, named.collect::<Option<_>>()?)
            }
            leaf => {
                let meaning = meanings.next()?;
                match leaf {
                    DataType::Boolean => Self::Bool(any.downcast_ref()?),
                    DataType::Int32 => Self::Int32(any.downcast_ref()?, meaning),
                    DataType::Int64 => Self::Int64(any.downcast_ref()?, meaning),
                    DataType::Float32 => Self::Float32(any.downcast_ref()?),
                    DataType::Float64 => Self::Float64(any.downcast_ref()?),
                    DataType::BinaryView => Self::Bytes(any.downcast_ref()?, meaning),
                    DataType::FixedSizeBinary(_) => Self::Fixed(any.downcast_ref()?, meaning),
                    _ => return None,
                }
            }
        };
        Some(column)
    }

    /// Returns whether cells have to be written as JSON.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::List(..) | Self::Map(..) | Self::Struct(..))
    }

    /// Returns whether cells are byte strings of any length.
    pub fn is_bytes(&self) -> bool {
        matches!(self, Self::Bytes(..))
    }

    /// Returns the length of the byte string at `row`.
    #[inline]
    pub fn length(&self, row: usize) -> usize {
        match self {
            // A view's lower half is its length.
            Self::Bytes(array, _) => array.views()[row] as u32 as usize,
            _ => 0,
        }
    }

    /// Returns the length of the longest byte string.
    pub fn longest(&self) -> usize {
        match self {
            Self::Bytes(array, _) => array.views().iter().map(|view| *view as u32 as usize).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Returns the cell at `row`; for a nested column `Null`, see [`Column::write_json`].
    #[inline]
    pub fn value(&self, row: usize) -> Result<Value<'b>, CellError> {
        match self {
            Self::Bool(array) if array.is_valid(row) => Ok(Value::Bool(array.value(row))),
            Self::Int32(array, meaning) if array.is_valid(row) => int32(array.value(row), *meaning),
            Self::Int64(array, meaning) if array.is_valid(row) => int64(array.value(row), *meaning),
            Self::Float32(array) if array.is_valid(row) => Ok(Value::Float32(array.value(row))),
            Self::Float64(array) if array.is_valid(row) => Ok(Value::Float64(array.value(row))),
            Self::Bytes(array, meaning) if array.is_valid(row) => bytes(array.value(row), *meaning),
            Self::Fixed(array, meaning) if array.is_valid(row) => bytes(array.value(row), *meaning),
            _ => Ok(Value::Null),
        }
    }

    /// Returns whether the cell at `row` is null.
    pub fn is_null(&self, row: usize) -> bool {
        match self {
            Self::Bool(array) => array.is_null(row),
            Self::Int32(array, _) => array.is_null(row),
            Self::Int64(array, _) => array.is_null(row),
            Self::Float32(array) => array.is_null(row),
            Self::Float64(array) => array.is_null(row),
            Self::Bytes(array, _) => array.is_null(row),
            Self::Fixed(array, _) => array.is_null(row),
            Self::List(array, _) => array.is_null(row),
            Self::Map(array, ..) => array.is_null(row),
            Self::Struct(array, _) => array.is_null(row),
        }
    }

    /// Appends the cell at `row` as JSON, until `out` is longer than `max_bytes`.
    ///
    /// # Errors
    /// Why the cell has no JSON form; `row_size` when it is too long.
    pub fn write_json(&self, row: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        if out.len() > max_bytes {
            return Err(to_json::too_long(max_bytes));
        }
        if self.is_null(row) {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match self {
            Self::List(list, items) => {
                let range = range(list.value_offsets(), row);
                to_json::write_items(*b"[]", range, out, |item, out| items.write_json(item, max_bytes, out))
            }
            Self::Map(map, keys, values) => {
                to_json::write_items(*b"{}", range(map.value_offsets(), row), out, |entry, out| {
                    keys.write_key(entry, max_bytes, out)?;
                    out.push(b':');
                    values.write_json(entry, max_bytes, out)
                })
            }
            Self::Struct(_, members) => to_json::write_items(*b"{}", members, out, |(name, member), out| {
                out.extend_from_slice(name);
                out.push(b':');
                member.write_json(row, max_bytes, out)
            }),
            leaf => match leaf.value(row)? {
                // What a file calls JSON need not be, and would spoil the whole.
                Value::Json(text) if serde_json::from_str::<serde::de::IgnoredAny>(&text).is_err() => {
                    to_json::write_string_within(&text, max_bytes, out)
                }
                value => to_json::write_value_within(&value, max_bytes, out),
            },
        }
    }

    /// Appends the bytes at `row` as a JSON string of hex digits, or null: as many as a reject keeps.
    pub fn write_bytes(&self, row: usize, out: &mut Vec<u8>) {
        let bytes = match self {
            Self::Bytes(array, _) if array.is_valid(row) => array.value(row),
            Self::Fixed(array, _) if array.is_valid(row) => array.value(row),
            _ => return out.extend_from_slice(b"null"),
        };
        to_json::write_value(&Value::Bytes(Cow::Borrowed(&bytes[..bytes.len().min(MAX_PAYLOAD_BYTES)])), out);
    }

    /// Appends a map's key: whatever it is, JSON has it as a string.
    fn write_key(&self, row: usize, max_bytes: usize, out: &mut Vec<u8>) -> Result<(), CellError> {
        let start = out.len();
        self.write_json(row, max_bytes, out)?;
        if out.get(start) != Some(&b'"') {
            let written = out.split_off(start);
            write_string(&String::from_utf8_lossy(&written), out);
        }
        Ok(())
    }
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// Returns what a number of 32 bits means.
#[inline]
pub(super) fn int32(value: i32, meaning: Meaning) -> Result<Value<'static>, CellError> {
    match meaning {
        Meaning::Date(calendar) => Ok(calendar.read(Value::Date(value))),
        Meaning::Unsigned => Ok(Value::UInt(u64::from(value as u32))),
        other => int64(i64::from(value), other),
    }
}

/// Returns what a number of 64 bits means.
#[inline]
pub(super) fn int64(value: i64, meaning: Meaning) -> Result<Value<'static>, CellError> {
    let value = match meaning {
        Meaning::Unsigned => Value::UInt(value as u64),
        Meaning::Decimal(scale) => Value::Decimal(i128::from(value), scale),
        Meaning::Time(per_second) => Value::Time(micros(value, per_second)?),
        Meaning::Timestamp(per_second, utc, calendar) => {
            calendar.read(Value::Timestamp { micros: micros(value, per_second)?, utc })
        }
        _ => Value::Int(value),
    };
    Ok(value)
}

#[inline]
fn bytes(bytes: &[u8], meaning: Meaning) -> Result<Value<'_>, CellError> {
    let value = match meaning {
        Meaning::Text => Value::Text(utf8(bytes)?.into()),
        Meaning::Json => Value::Json(utf8(bytes)?.into()),
        Meaning::Decimal(scale) => decimal::from_big_endian(bytes, scale)?,
        Meaning::Uuid => bytes.try_into().map_or(Value::Bytes(Cow::Borrowed(bytes)), Value::Uuid),
        Meaning::Float16 => match bytes.try_into() {
            Ok(half) => Value::Float32(float16(u16::from_le_bytes(half))),
            Err(_) => Value::Bytes(Cow::Borrowed(bytes)),
        },
        Meaning::Int96(calendar) => return Ok(calendar.read(int96(bytes)?)),
        Meaning::Interval => {
            let part = |index: usize| {
                let part = bytes.get(index * 4..index * 4 + 4).and_then(|part| part.try_into().ok());
                part.map_or(0, u32::from_le_bytes)
            };
            Value::Text(Cow::Owned(times::period(part(0), part(1), part(2))))
        }
        _ => Value::Bytes(Cow::Borrowed(bytes)),
    };
    Ok(value)
}

/// Returns the timestamp in a `INT96`; it says nothing of a time zone.
fn int96(bytes: &[u8]) -> Result<Value<'static>, CellError> {
    const JULIAN_DAY_OF_EPOCH: i64 = 2_440_588;
    const MICROS_PER_DAY: i64 = 86_400_000_000;
    let Some((nanos, day)) = bytes.split_first_chunk() else { return Ok(Value::Null) };
    let nanos = i64::from_le_bytes(*nanos);
    let day = day.try_into().map_or(0, i32::from_le_bytes);
    let micros = (i64::from(day) - JULIAN_DAY_OF_EPOCH)
        .checked_mul(MICROS_PER_DAY)
        .and_then(|micros| micros.checked_add(nanos.div_euclid(1_000)))
        .ok_or_else(|| CellError::new(RejectClass::Range, format!("Julian day {day}")))?;
    Ok(Value::Timestamp { micros, utc: false })
}

/// Widens a half-precision float, which single precision holds exactly.
fn float16(bits: u16) -> f32 {
    let sign = u32::from(bits >> 15) << 31;
    let exponent = u32::from(bits >> 10 & 0x1f);
    let fraction = u32::from(bits & 0x3ff);
    match exponent {
        // Subnormal: a multiple of the smallest positive value.
        0 => f32::from_bits(sign | (fraction as f32 / 16_777_216.0).to_bits()),
        0x1f => f32::from_bits(sign | 0x7f80_0000 | fraction << 13),
        _ => f32::from_bits(sign | (exponent + 112) << 23 | fraction << 13),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_widen_exactly() {
        for (bits, expected) in [
            (0x3c00, 1.0),
            (0xc000, -2.0),
            (0x7bff, 65504.0),
            (0x0001, 5.960_464_5e-8),
            (0x03ff, 6.097_555e-5),
            (0x0400, 6.103_515_6e-5),
            (0x7c00, f32::INFINITY),
            (0x3555, 0.333_251_95),
        ] {
            assert_eq!(float16(bits), expected, "{bits:#x}");
        }
        assert!(float16(0x7e00).is_nan());
        assert_eq!(float16(0x8000).to_bits(), (-0.0f32).to_bits());
    }

    #[test]
    fn int96_holds_the_years_one_and_9999_and_does_not_wrap() {
        let at = |nanos: i64, day: i32| {
            let mut bytes = nanos.to_le_bytes().to_vec();
            bytes.extend(day.to_le_bytes());
            int96(&bytes).map_err(|fault| fault.class)
        };
        let timestamp = |micros| Ok(Value::Timestamp { micros, utc: false });
        assert_eq!(at(0, 1_721_426), timestamp(-62_135_596_800_000_000));
        assert_eq!(at(86_399_999_999_000, 5_373_484), timestamp(253_402_300_799_999_999));
        assert_eq!(at(0, i32::MAX), Err(RejectClass::Range));
    }
}
