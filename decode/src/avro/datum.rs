//! Values in their binary form.
//!
//! A row is stepped over first, which finds its fields and checks it, without recursion; then
//! the cells that are wanted are read from where they stand.

use super::schema::{Schema, Type};
use crate::{
    calendar::Calendar,
    decimal,
    encode::{CellError, RejectClass, Value},
    named::utf8,
    times, to_json,
    varint::{varint, zigzag},
};
use std::borrow::Cow;

/// Deeper nesting fails the object.
const MAX_STEP_DEPTH: usize = 100_000;

/// Why a row cannot be stepped over.
#[derive(Debug, PartialEq, Eq)]
pub enum StepError {
    /// The bytes do not fit the schema.
    Corrupt(&'static str),
    /// More values than a row of allowed size can have; they can take no bytes at all.
    TooMany,
}

/// Bytes of a block, and how far they are read.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    bytes: &'a [u8],
}

impl<'a> Input<'a> {
    /// Returns the start of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// Returns the number of bytes left.
    pub fn left(&self) -> usize {
        self.bytes.len()
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], StepError> {
        let (head, rest) = self.bytes.split_at_checked(n).ok_or(StepError::Corrupt("a value ends early"))?;
        self.bytes = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StepError> {
        let (head, rest) = self.bytes.split_first_chunk().ok_or(StepError::Corrupt("a value ends early"))?;
        self.bytes = rest;
        Ok(*head)
    }

    /// Reads an `int` or `long`.
    #[inline]
    pub fn long(&mut self) -> Result<i64, StepError> {
        varint(&mut self.bytes).map(zigzag).ok_or(StepError::Corrupt("a number does not end"))
    }

    fn int(&mut self) -> Result<i32, StepError> {
        i32::try_from(self.long()?).map_err(|_| StepError::Corrupt("an int is out of range"))
    }

    /// Reads the bytes of a `bytes` or `string`.
    #[inline]
    fn counted(&mut self) -> Result<&'a [u8], StepError> {
        let length = usize::try_from(self.long()?).map_err(|_| StepError::Corrupt("a negative length"))?;
        self.take(length)
    }

    /// Reads the head of an array's or map's next block: the number of its items, 0 at the end.
    fn n_items(&mut self) -> Result<u64, StepError> {
        let n_items = self.long()?;
        if n_items < 0 {
            // The block's length in bytes, for those who want to skip it.
            self.long()?;
        }
        Ok(n_items.unsigned_abs())
    }

    fn branch<'s>(&mut self, branches: &'s [Type]) -> Result<&'s Type, StepError> {
        let index = usize::try_from(self.long()?).ok();
        index.and_then(|index| branches.get(index)).ok_or(StepError::Corrupt("a union has no such branch"))
    }
}

/// Steps over values, counting them.
pub struct Stepper<'s> {
    schema: &'s Schema,
    /// How many more values may come.
    pub left: u64,
    /// How deep the deepest value was.
    pub depth: usize,
    open: Vec<Task<'s>>,
}

enum Task<'s> {
    Members(&'s [(Vec<u8>, Type)]),
    Items(&'s Type, u64),
    Entries(&'s Type, u64),
}

impl<'s> Stepper<'s> {
    /// Returns what steps over a row of at most `max_values` values.
    pub fn new(schema: &'s Schema, max_values: u64) -> Self {
        Self { schema, left: max_values, depth: 1, open: Vec::new() }
    }

    /// Steps over a value.
    pub fn step(&mut self, over: &'s Type, input: &mut Input<'_>) -> Result<(), StepError> {
        self.value(over, input)?;
        while let Some(task) = self.open.last_mut() {
            let next = match task {
                Task::Members(members) => match members.split_first() {
                    Some(((_, member), rest)) => {
                        *members = rest;
                        member
                    }
                    None => {
                        self.open.pop();
                        continue;
                    }
                },
                Task::Items(items, left) | Task::Entries(items, left) if *left > 0 => {
                    *left -= 1;
                    *items
                }
                Task::Items(_, left) | Task::Entries(_, left) => {
                    *left = input.n_items()?;
                    if *left == 0 {
                        self.open.pop();
                    }
                    continue;
                }
            };
            if let Task::Entries(..) = task {
                input.counted()?;
            }
            self.value(next, input)?;
        }
        Ok(())
    }

    /// Steps over a scalar, or into what is not one.
    fn value(&mut self, of: &'s Type, input: &mut Input<'_>) -> Result<(), StepError> {
        self.left = self.left.checked_sub(1).ok_or(StepError::TooMany)?;
        match self.schema.resolve(of) {
            Type::Null => {}
            Type::Boolean => {
                if input.array::<1>()?[0] > 1 {
                    return Err(StepError::Corrupt("a boolean is neither true nor false"));
                }
            }
            Type::Int | Type::Date | Type::TimeMillis => {
                input.int()?;
            }
            Type::Long | Type::TimeMicros | Type::Timestamp(..) => {
                input.long()?;
            }
            Type::Float => {
                input.take(4)?;
            }
            Type::Double => {
                input.take(8)?;
            }
            Type::Bytes | Type::String | Type::Decimal(None, _) | Type::BigDecimal | Type::Uuid(false) => {
                input.counted()?;
            }
            Type::Fixed(size) | Type::Decimal(Some(size), _) => {
                input.take(*size)?;
            }
            Type::Duration => {
                input.take(12)?;
            }
            Type::Uuid(true) => {
                input.take(16)?;
            }
            Type::Enum(symbols) => {
                let index = usize::try_from(input.int()?);
                if !index.is_ok_and(|index| index < symbols.len()) {
                    return Err(StepError::Corrupt("an enum has no such symbol"));
                }
            }
            Type::Union(branches) => {
                let branch = input.branch(branches)?;
                // The two are one value.
                self.left += 1;
                return self.value(branch, input);
            }
            Type::Array(items) => self.enter(Task::Items(items, 0))?,
            Type::Map(values) => self.enter(Task::Entries(values, 0))?,
            Type::Record(members) => self.enter(Task::Members(members))?,
            Type::Named(_) => return Err(StepError::Corrupt("a name stands for a name")),
        }
        Ok(())
    }

    fn enter(&mut self, task: Task<'s>) -> Result<(), StepError> {
        self.open.push(task);
        self.depth = self.depth.max(1 + self.open.len());
        if self.open.len() > MAX_STEP_DEPTH {
            return Err(StepError::Corrupt("values are nested without end"));
        }
        Ok(())
    }
}

/// Reads values that have been stepped over.
#[derive(Clone, Copy)]
pub struct Reader<'s> {
    /// The types.
    pub schema: &'s Schema,
    /// What dates are written in.
    pub calendar: Calendar,
    /// Longer JSON is refused.
    pub max_bytes: usize,
    /// Deeper JSON is refused.
    pub max_depth: usize,
}

impl Reader<'_> {
    /// Returns the cell that starts `input`; none where it is nested.
    #[inline]
    pub fn cell<'a>(&self, of: &Type, mut input: Input<'a>) -> Result<Option<Value<'a>>, CellError> {
        self.scalar(of, &mut input)
    }

    /// Reads a scalar; reads nothing and returns `None` where there is none.
    fn scalar<'a>(&self, of: &Type, input: &mut Input<'a>) -> Result<Option<Value<'a>>, CellError> {
        let value = match self.schema.resolve(of) {
            Type::Null => Value::Null,
            Type::Boolean => Value::Bool(input.array::<1>()? == [1]),
            Type::Int => Value::Int(input.int()?.into()),
            Type::Long => Value::Int(input.long()?),
            Type::Float => Value::Float32(f32::from_le_bytes(input.array()?)),
            Type::Double => Value::Float64(f64::from_le_bytes(input.array()?)),
            Type::Bytes => Value::Bytes(Cow::Borrowed(input.counted()?)),
            Type::String => Value::Text(Cow::Borrowed(utf8(input.counted()?)?)),
            Type::Fixed(size) => Value::Bytes(Cow::Borrowed(input.take(*size)?)),
            Type::Enum(symbols) => {
                let index = usize::try_from(input.int()?).unwrap_or(usize::MAX);
                Value::Text(Cow::Owned(symbols.get(index).cloned().unwrap_or_default()))
            }
            Type::Decimal(size, scale) => {
                let unscaled = match size {
                    Some(size) => input.take(*size)?,
                    None => input.counted()?,
                };
                decimal::from_big_endian(unscaled, *scale)?
            }
            Type::BigDecimal => {
                let mut inner = Input::new(input.counted()?);
                let unscaled = inner.counted()?;
                let scale = inner.long()?;
                let scale =
                    i8::try_from(scale).map_err(|_| CellError::new(RejectClass::Range, format!("scale {scale}")))?;
                decimal::from_big_endian(unscaled, scale)?
            }
            Type::Uuid(is_fixed) => {
                let bytes = if *is_fixed { input.take(16)? } else { input.counted()? };
                bytes.try_into().map_or(Value::Bytes(Cow::Borrowed(bytes)), Value::Uuid)
            }
            Type::Date => self.calendar.read(Value::Date(input.int()?)),
            Type::TimeMillis => Value::Time(i64::from(input.int()?) * 1_000),
            Type::TimeMicros => Value::Time(input.long()?),
            Type::Timestamp(per_second, utc) => {
                let micros = times::micros(input.long()?, *per_second)?;
                self.calendar.read(Value::Timestamp { micros, utc: *utc })
            }
            Type::Duration => {
                let mut part = || input.array().map(u32::from_le_bytes);
                Value::Text(Cow::Owned(times::period(part()?, part()?, part()?)))
            }
            Type::Union(branches) => {
                let before = *input;
                let branch = input.branch(branches)?;
                let value = self.scalar(branch, input)?;
                if value.is_none() {
                    *input = before;
                }
                return Ok(value);
            }
            Type::Array(_) | Type::Map(_) | Type::Record(_) | Type::Named(_) => return Ok(None),
        };
        Ok(Some(value))
    }

    /// Appends the value that starts `input` as JSON.
    pub fn write_json(
        &self,
        of: &Type,
        input: &mut Input<'_>,
        depth: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CellError> {
        if out.len() > self.max_bytes {
            return Err(to_json::too_long(self.max_bytes));
        }
        if let Some(value) = self.scalar(of, input)? {
            return to_json::write_value_within(&value, self.max_bytes, out);
        }
        let Some(depth) = depth.checked_sub(1) else {
            return Err(CellError::new(RejectClass::Depth, "nested too deep"));
        };
        match self.schema.resolve(of) {
            Type::Union(branches) => {
                let branch = input.branch(branches)?;
                return self.write_json(branch, input, depth + 1, out);
            }
            Type::Record(members) => to_json::write_items(*b"{}", members, out, |(name, member), out| {
                out.extend_from_slice(name);
                out.push(b':');
                self.write_json(member, input, depth, out)
            })?,
            Type::Array(items) => {
                out.push(b'[');
                let mut separator = None;
                self.each_item(input, |input| {
                    out.extend(separator.replace(b','));
                    self.write_json(items, input, depth, out)
                })?;
                out.push(b']');
            }
            Type::Map(values) => {
                out.push(b'{');
                let mut separator = None;
                self.each_item(input, |input| {
                    out.extend(separator.replace(b','));
                    to_json::write_string_within(utf8(input.counted()?)?, self.max_bytes, out)?;
                    out.push(b':');
                    self.write_json(values, input, depth, out)
                })?;
                out.push(b'}');
            }
            _ => {}
        }
        Ok(())
    }

    fn each_item<'a>(
        &self,
        input: &mut Input<'a>,
        mut item: impl FnMut(&mut Input<'a>) -> Result<(), CellError>,
    ) -> Result<(), CellError> {
        loop {
            let n_items = input.n_items()?;
            if n_items == 0 {
                return Ok(());
            }
            for _ in 0..n_items {
                item(input)?;
            }
        }
    }
}

/// Only for values inside others, as in a big decimal: the rest has been stepped over.
impl From<StepError> for CellError {
    fn from(error: StepError) -> Self {
        let problem = match error {
            StepError::Corrupt(problem) => problem,
            StepError::TooMany => "too many values",
        };
        Self::new(RejectClass::Type, problem)
    }
}
