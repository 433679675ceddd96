//! Columns whose values go the short way to their fields: resolved once a record batch, then written cell by cell.

use super::{column::Column, schema::Meaning};
use crate::{
    calendar::Calendar,
    encode::{PgType, date_of_days, timestamp_of_micros, usual},
    row::Short,
};
use arrow_array::{Array, BinaryViewArray, BooleanArray, FixedSizeBinaryArray};

/// Bytes of the longest text that stands in its view.
const IN_VIEW_BYTES: u32 = 12;

/// What of a column goes into fields of one type.
#[derive(Default)]
pub struct Usual<'b> {
    /// Where some are null.
    array: Option<&'b dyn Array>,
    values: Values<'b>,
}

#[derive(Default)]
enum Values<'b> {
    /// Each has to go the long way.
    #[default]
    Other,
    Bool(&'b BooleanArray),
    Int4(&'b [i32]),
    Int8(&'b [i64]),
    Float8(&'b [f64]),
    Date(&'b [i32]),
    Timestamp(&'b [i64]),
    Decimal4(&'b [i32], Decimal),
    Decimal8(&'b [i64], Decimal),
    DecimalFixed(&'b FixedSizeBinaryArray, Decimal),
    /// With the most bytes that one may have.
    Text(&'b BinaryViewArray, &'b [u128], u32),
}

/// A decimal's scale, and precision and scale of the column it is for.
#[derive(Clone, Copy)]
struct Decimal(u32, Option<(u16, i16)>);

impl<'b> Usual<'b> {
    /// Returns what of a column goes into fields of this type.
    pub fn new(column: &Column<'b>, to: &PgType) -> Self {
        let (array, values): (&dyn Array, _) = match (column, to) {
            (Column::Bool(array), PgType::Bool) => (*array, Values::Bool(array)),
            (Column::Int32(array, Meaning::Plain), PgType::Int4) => (*array, Values::Int4(array.values())),
            (Column::Int64(array, Meaning::Plain), PgType::Int8) => (*array, Values::Int8(array.values())),
            (Column::Float64(array), PgType::Float8) => (*array, Values::Float8(array.values())),
            (Column::Int32(array, Meaning::Date(Calendar::Gregorian)), PgType::Date) => {
                (*array, Values::Date(array.values()))
            }
            (
                Column::Int64(array, Meaning::Timestamp(1_000_000, _, Calendar::Gregorian)),
                PgType::Timestamp | PgType::TimestampTz,
            ) => (*array, Values::Timestamp(array.values())),
            (Column::Int32(array, Meaning::Decimal(scale)), PgType::Numeric(limit)) => {
                (*array, Values::Decimal4(array.values(), Decimal(scale.unsigned_abs().into(), *limit)))
            }
            (Column::Int64(array, Meaning::Decimal(scale)), PgType::Numeric(limit)) => {
                (*array, Values::Decimal8(array.values(), Decimal(scale.unsigned_abs().into(), *limit)))
            }
            (Column::Fixed(array, Meaning::Decimal(scale)), PgType::Numeric(limit)) => {
                (*array, Values::DecimalFixed(array, Decimal(scale.unsigned_abs().into(), *limit)))
            }
            (Column::Bytes(array, Meaning::Text), PgType::Text(limit)) => {
                (*array, Values::Text(array, array.views(), usual::max_bytes(*limit)))
            }
            _ => return Self::default(),
        };
        Self { array: (array.null_count() > 0).then_some(array), values }
    }

    /// Appends the field of the cell at `row`.
    #[inline(always)]
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Short {
        if self.array.is_some_and(|array| array.is_null(row)) {
            return Short::Null;
        }
        Short::of(match &self.values {
            Values::Other => false,
            Values::Bool(array) => usual::push([u8::from(array.value(row))], out),
            Values::Int4(values) => usual::push(values[row].to_be_bytes(), out),
            Values::Int8(values) => usual::push(values[row].to_be_bytes(), out),
            Values::Float8(values) => usual::push(values[row].to_be_bytes(), out),
            Values::Date(values) => date_of_days(values[row]).is_some_and(|days| usual::push(days.to_be_bytes(), out)),
            Values::Timestamp(values) => {
                timestamp_of_micros(values[row]).is_some_and(|micros| usual::push(micros.to_be_bytes(), out))
            }
            Values::Decimal4(values, decimal) => decimal.write(values[row].into(), out),
            Values::Decimal8(values, decimal) => decimal.write(values[row], out),
            Values::DecimalFixed(array, decimal) => {
                narrow(array.value(row)).is_some_and(|digits| decimal.write(digits, out))
            }
            Values::Text(array, views, max_bytes) => write_text(array, views[row], *max_bytes, out),
        })
    }
}

impl Decimal {
    #[inline]
    fn write(self, unscaled: i64, out: &mut Vec<u8>) -> bool {
        usual::write_decimal(unscaled < 0, unscaled.unsigned_abs(), self.0, self.1, out)
    }
}

/// Returns a big-endian number of any width, where 64 bits hold it.
fn narrow(bytes: &[u8]) -> Option<i64> {
    let (head, digits) = match bytes.split_last_chunk() {
        Some((head, digits)) => (head, i64::from_be_bytes(*digits)),
        None => {
            let mut digits = [if bytes.first()? & 0x80 == 0 { 0 } else { 0xFF }; 8];
            digits[8 - bytes.len()..].copy_from_slice(bytes);
            (&bytes[..0], i64::from_be_bytes(digits))
        }
    };
    let sign = if digits < 0 { 0xFF } else { 0 };
    head.iter().all(|byte| *byte == sign).then_some(digits)
}

#[inline(always)]
fn write_text(array: &BinaryViewArray, view: u128, max_bytes: u32, out: &mut Vec<u8>) -> bool {
    let length = view as u32;
    if length > max_bytes {
        return false;
    }
    if length <= IN_VIEW_BYTES {
        return usual::write_view(view, out);
    }
    // Behind the length and the first four bytes: which buffer, and where in it.
    let (buffer, start) = ((view >> 64) as u32 as usize, (view >> 96) as usize);
    let buffer = array.data_buffers()[buffer].as_slice();
    let end = start + length as usize;
    let is_text = usual::is_text(&buffer[start..end]);
    if is_text {
        usual::push_text(buffer, start, end, out);
    }
    is_text
}
