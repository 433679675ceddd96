//! As much of Thrift's compact protocol as it takes to look at lengths before anyone trusts them.
//!
//! The library builds the schema by recursion and reserves memory by child counts and page sizes
//! that the file states; overflowing the stack or the memory ends the process.

mod page;

use crate::varint::{varint, zigzag};
pub use page::{PageSizes, as_true, page_sizes};
use std::{collections::BTreeSet, ops::RangeInclusive};

/// Deeper structures are refused; Parquet's own go no deeper than a handful.
pub(super) const MAX_SKIP_DEPTH: usize = 32;

/// A longer list of [`Kind::Few`] is refused.
const MAX_FEW: usize = 256;

/// More that needs a note is refused.
const MAX_PATCHES: usize = 64 * 1024;

// Field types of the compact protocol.
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
pub(super) const I16: u8 = 4;
pub(super) const I32: u8 = 5;
pub(super) const I64: u8 = 6;
const DOUBLE: u8 = 7;
pub(super) const BINARY: u8 = 8;
pub(super) const LIST: u8 = 9;
const SET: u8 = 10;
const MAP: u8 = 11;
pub(super) const STRUCT: u8 = 12;
const UUID: u8 = 13;

pub(super) type Checked<T> = Result<T, &'static str>;

/// What a field is, as far as its length in the file goes: numbers of 16, 32 and 64 bits are written alike.
enum Kind {
    Bool,
    Byte,
    Number,
    Double,
    Binary,
    List(&'static Kind),
    /// A list of numbers that are few in practice: each is a byte, and four in memory.
    Few,
    /// A number that nothing here needs. Some who write a format of their own have another field under it.
    Spare,
    Struct(Fields),
}

/// The fields of a structure that the library reads, by their numbers. It reads them as what they should be, whatever type the
/// file says, and steps over all others by that type.
type Fields = &'static [(RangeInclusive<i16>, Kind)];

/// Parquet's structures: <https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift>.
mod format {
    use super::{
        Fields,
        Kind::{Binary, Bool, Byte, Double, Few, List, Number, Spare, Struct},
    };

    pub const FILE_METADATA: Fields = &[
        (1..=1, Number),
        (2..=2, List(&Struct(SCHEMA_ELEMENT))),
        (3..=3, Number),
        (4..=4, List(&Struct(ROW_GROUP))),
        (5..=5, List(&Struct(&[(1..=2, Binary)]))),
        (6..=6, Binary),
        (7..=7, List(&Struct(&[(1..=2, Struct(EMPTY))]))),
    ];
    const SCHEMA_ELEMENT: Fields =
        &[(1..=3, Number), (4..=4, Binary), (5..=9, Number), (10..=10, Struct(LOGICAL_TYPE))];
    const LOGICAL_TYPE: Fields = &[
        (1..=4, Struct(EMPTY)),
        (5..=5, Struct(&[(1..=2, Number)])),
        (6..=6, Struct(EMPTY)),
        (7..=8, Struct(TIMESTAMP)),
        (10..=10, Struct(&[(1..=1, Byte), (2..=2, Bool)])),
        (11..=15, Struct(EMPTY)),
        (16..=16, Struct(&[(1..=1, Byte)])),
        (17..=17, Struct(&[(1..=1, Binary)])),
        (18..=18, Struct(&[(1..=1, Binary), (2..=2, Number)])),
        (19..=19, Struct(EMPTY)),
    ];
    const TIMESTAMP: Fields = &[(1..=1, Bool), (2..=2, Struct(&[(1..=3, Struct(EMPTY))]))];
    const EMPTY: Fields = &[];
    const ROW_GROUP: Fields = &[
        (1..=1, List(&Struct(COLUMN_CHUNK))),
        (2..=3, Number),
        (4..=4, List(&Struct(&[(1..=1, Number), (2..=3, Bool)]))),
        (5..=5, Number),
        (7..=7, Number),
    ];
    const COLUMN_CHUNK: Fields = &[(1..=1, Binary), (2..=2, Number), (3..=3, Struct(COLUMN_METADATA)), (4..=7, Number)];
    const COLUMN_METADATA: Fields = &[
        (1..=1, Number),
        (2..=2, List(&Number)),
        (4..=7, Number),
        (9..=11, Number),
        (14..=15, Spare),
        (17..=17, Struct(&[(1..=1, Struct(&[(1..=8, Double)])), (2..=2, Few)])),
    ];
}

/// A byte of a footer, and what stands there instead for the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// How many bytes of the footer begin with it.
    pub from_end: usize,
    /// What it becomes.
    pub byte: u8,
}

/// What a look at a footer shows.
#[derive(Debug, Default)]
pub struct Seen {
    /// How much there is of everything.
    pub counts: Counts,
    /// What the library is not to see.
    pub patches: Vec<Patch>,
    /// The columns that are encrypted in some row group, by number.
    pub encrypted: BTreeSet<usize>,
}

/// Checks the schema in a file's metadata: every child is there, and none lies deeper than `max_depth`.
pub fn check_schema(footer: &[u8], max_depth: usize) -> Checked<Seen> {
    const SCHEMA: i16 = 2;
    const ROW_GROUPS: i16 = 4;
    let mut seen = Seen::default();
    Compact { bytes: footer }.check(format::FILE_METADATA, &mut seen.patches)?;
    let mut found = false;
    // To the end: of a field that comes twice, the library takes the last.
    Compact { bytes: footer }.each_field(|id, input| {
        match id {
            SCHEMA => {
                let (_, n_elements) = input.list()?;
                check_tree(input, n_elements, max_depth, &mut seen)?;
                seen.counts.elements += n_elements;
                found = true;
            }
            ROW_GROUPS => count_groups(input, &mut seen)?,
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if found { Ok(seen) } else { Err("no schema") }
}

/// How many things a footer lists, each of which takes memory once it is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Elements of the schema.
    pub elements: usize,
    /// Row groups.
    pub groups: usize,
    /// Column chunks of all row groups.
    pub chunks: usize,
    /// Bytes of the elements' names.
    pub names: usize,
    /// Bytes of the longest of them.
    pub longest_name: usize,
    /// What the paths of all columns take once, in bytes: each has the names of the groups around it, too.
    pub paths: usize,
}

/// What a name in a column's path takes beside its bytes.
const NAME_BYTES: usize = 64;

fn count_groups(input: &mut Compact<'_>, seen: &mut Seen) -> Checked<()> {
    const COLUMNS: i16 = 1;
    const ENCRYPTION: i16 = 8;
    let (_, n_groups) = input.list()?;
    seen.counts.groups += n_groups;
    (0..n_groups).try_for_each(|_| {
        input.each_field(|id, input| {
            if id != COLUMNS {
                return Ok(false);
            }
            let (_, n_chunks) = input.list()?;
            seen.counts.chunks += n_chunks;
            for chunk in 0..n_chunks {
                input.each_field(|id, _| {
                    if id == ENCRYPTION {
                        seen.encrypted.insert(chunk);
                    }
                    if seen.encrypted.len() > MAX_PATCHES { Err("too many encrypted columns") } else { Ok(false) }
                })?;
            }
            Ok(true)
        })
    })
}

fn check_tree(input: &mut Compact<'_>, n_elements: usize, max_depth: usize, seen: &mut Seen) -> Checked<()> {
    let Seen { counts, patches, .. } = seen;
    // How many children are still to come, of each group around, and what its path takes.
    let mut open: Vec<(usize, usize)> = Vec::new();
    for index in 0..n_elements {
        let Element { n_children, name, patch } = element(input)?;
        note(patch, patches)?;
        let mut path = 0;
        if index > 0 {
            match open.last_mut() {
                Some((left, around)) => {
                    *left -= 1;
                    path = *around + name + NAME_BYTES;
                }
                None => return Err("schema has more than one root"),
            }
        }
        if n_children > n_elements - index - 1 {
            return Err("schema lacks elements");
        }
        counts.names += name;
        counts.longest_name = counts.longest_name.max(name);
        counts.paths += if n_children == 0 { path } else { 0 };
        open.push((n_children, path));
        if open.len() > max_depth {
            return Err("schema is nested too deep");
        }
        while let Some((0, _)) = open.last() {
            open.pop();
        }
    }
    if open.is_empty() { Ok(()) } else { Err("schema lacks elements") }
}

/// What matters of a SchemaElement.
#[derive(Default)]
struct Element {
    n_children: usize,
    /// The length of its name, in bytes.
    name: usize,
    /// What the library does not know about its type.
    patch: Option<Patch>,
}

fn element(input: &mut Compact<'_>) -> Checked<Element> {
    const TYPE: i16 = 1;
    const INT32: i64 = 1;
    const NAME: i16 = 4;
    const NUM_CHILDREN: i16 = 5;
    const CONVERTED_TYPE: i16 = 6;
    // Once for a column of nothing but nulls, as pandas makes them. `INT_32` says no more than the type, in a byte as well.
    const NULLS: i64 = 24;
    const INT_32: u8 = 17 << 1;
    let mut element = Element::default();
    let mut is_int = false;
    input.each_field(|id, input| {
        match id {
            TYPE => is_int = input.zigzag()? == INT32,
            CONVERTED_TYPE => {
                let from_end = input.bytes.len();
                let is_nulls = input.zigzag()? == NULLS && is_int && from_end == input.bytes.len() + 1;
                element.patch = is_nulls.then_some(Patch { from_end, byte: INT_32 });
            }
            NAME => {
                let length = input.varint()?;
                input.advance(length)?;
                element.name = length as usize;
            }
            NUM_CHILDREN => {
                element.n_children =
                    usize::try_from(input.zigzag()?).map_err(|_| "schema has a negative child count")?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(element)
}

/// Keeps a patch; there are few in practice.
fn note(patch: Option<Patch>, patches: &mut Vec<Patch>) -> Checked<()> {
    patches.extend(patch);
    if patches.len() > MAX_PATCHES { Err("too many fields are not of their types") } else { Ok(()) }
}

/// The compact protocol's bytes, as far as they are not read.
#[derive(Clone)]
pub(super) struct Compact<'a> {
    pub bytes: &'a [u8],
}

impl<'a> Compact<'a> {
    /// Reads a field's header into `id`; returns its type, or `None` at the structure's end.
    pub(super) fn field(&mut self, id: &mut i16) -> Checked<Option<u8>> {
        let byte = self.byte()?;
        if byte == 0 {
            return Ok(None);
        }
        *id = match byte >> 4 {
            0 => i16::try_from(self.zigzag()?).map_err(|_| "field number out of range")?,
            delta => id.checked_add(i16::from(delta)).ok_or("field number out of range")?,
        };
        Ok(Some(byte & 15))
    }

    /// Hands each field of a structure to `read`, and steps over those that it does not read.
    fn each_field(&mut self, mut read: impl FnMut(i16, &mut Self) -> Checked<bool>) -> Checked<()> {
        let mut id = 0;
        while let Some(field_type) = self.field(&mut id)? {
            if !read(id, self)? {
                self.skip(field_type, MAX_SKIP_DEPTH)?;
            }
        }
        Ok(())
    }

    /// Reads a list's header: its elements' type and number. Each element takes a byte at least.
    pub(super) fn list(&mut self) -> Checked<(u8, usize)> {
        let byte = self.byte()?;
        let n_elements = match byte >> 4 {
            15 => usize::try_from(self.varint()?).map_err(|_| "list too long")?,
            n => usize::from(n),
        };
        if n_elements > self.bytes.len() {
            return Err("list is longer than the file");
        }
        Ok((byte & 15, n_elements))
    }

    /// Reads a structure, whose known fields must be what they should be.
    fn check(&mut self, fields: Fields, patches: &mut Vec<Patch>) -> Checked<()> {
        let (mut id, mut last, mut before) = (0, 0, self.bytes.len());
        while let Some(field_type) = self.field(&mut id)? {
            match fields.iter().find(|(known, _)| known.contains(&id)) {
                Some((_, Kind::Spare)) if !matches!(field_type, I16 | I32 | I64) => {
                    note(Some(self.renumbered(last, before, field_type)?), patches)?;
                }
                Some((_, kind)) => self.check_value(kind, field_type, patches)?,
                None => self.skip(field_type, MAX_SKIP_DEPTH)?,
            }
            (last, before) = (id, self.bytes.len());
        }
        Ok(())
    }

    /// Steps over a field that is not of its type; returns what gives it a number that nobody knows, which is counted from
    /// the `last` field's. The next would be counted from it, so there may be none.
    fn renumbered(&mut self, last: i16, before: usize, field_type: u8) -> Checked<Patch> {
        const LARGEST_KNOWN: i16 = 19;
        const FURTHEST: u8 = 15;
        let is_short = before == self.bytes.len() + 1;
        self.skip(field_type, MAX_SKIP_DEPTH)?;
        let is_last = self.bytes.first() == Some(&0);
        match is_short && is_last && last > LARGEST_KNOWN - i16::from(FURTHEST) {
            true => Ok(Patch { from_end: before, byte: FURTHEST << 4 | field_type }),
            false => Err("a field is not of its type"),
        }
    }

    fn check_value(&mut self, kind: &Kind, value_type: u8, patches: &mut Vec<Patch>) -> Checked<()> {
        match (kind, value_type) {
            (Kind::Struct(fields), STRUCT) => self.check(fields, patches),
            (Kind::List(kind), LIST) => {
                let (element_type, n_elements) = self.list()?;
                (0..n_elements).try_for_each(|_| self.check_value(kind, element_type, patches))
            }
            (Kind::Few, LIST) => {
                let is_short = self.clone().list()?.1 <= MAX_FEW;
                match is_short {
                    true => self.check_value(&Kind::List(&Kind::Number), LIST, patches),
                    false => Err("a list is too long"),
                }
            }
            (Kind::Bool, TRUE | FALSE)
            | (Kind::Byte, BYTE)
            | (Kind::Number | Kind::Spare, I16 | I32 | I64)
            | (Kind::Double, DOUBLE)
            | (Kind::Binary, BINARY) => self.skip(value_type, MAX_SKIP_DEPTH),
            _ => Err("a field is not of its type"),
        }
    }

    pub(super) fn skip(&mut self, field_type: u8, depth: usize) -> Checked<()> {
        let Some(depth) = depth.checked_sub(1) else { return Err("nested too deep") };
        match field_type {
            TRUE | FALSE => {}
            BYTE => self.advance(1)?,
            I16 | I32 | I64 => {
                self.varint()?;
            }
            DOUBLE => self.advance(8)?,
            UUID => self.advance(16)?,
            BINARY => {
                let length = self.varint()?;
                self.advance(length)?;
            }
            LIST | SET => {
                let (element_type, n_elements) = self.list()?;
                (0..n_elements).try_for_each(|_| self.skip_element(element_type, depth))?;
            }
            MAP => {
                let n_entries = self.varint()?;
                if n_entries > 0 {
                    let types = self.byte()?;
                    for _ in 0..n_entries {
                        self.skip_element(types >> 4, depth)?;
                        self.skip_element(types & 15, depth)?;
                    }
                }
            }
            STRUCT => {
                let mut id = 0;
                while let Some(field_type) = self.field(&mut id)? {
                    self.skip(field_type, depth)?;
                }
            }
            _ => return Err("unknown type"),
        }
        Ok(())
    }

    /// Steps over an element of a list, set or map. A boolean there takes a byte, but the library takes it for none: it
    /// would read on elsewhere than here, and step over as many as the file says. Parquet has none in what is read.
    fn skip_element(&mut self, element_type: u8, depth: usize) -> Checked<()> {
        match element_type {
            TRUE | FALSE => Err("list of booleans"),
            _ => self.skip(element_type, depth),
        }
    }

    pub(super) fn zigzag(&mut self) -> Checked<i64> {
        self.varint().map(zigzag)
    }

    fn varint(&mut self) -> Checked<u64> {
        let problem = if self.bytes.len() < 10 { "ends early" } else { "number too long" };
        varint(&mut self.bytes).ok_or(problem)
    }

    fn byte(&mut self) -> Checked<u8> {
        let (&byte, rest) = self.bytes.split_first().ok_or("ends early")?;
        self.bytes = rest;
        Ok(byte)
    }

    /// Reads a byte string.
    pub(super) fn binary(&mut self) -> Checked<&'a [u8]> {
        let length = self.varint()?;
        let bytes = self.bytes;
        self.advance(length)?;
        Ok(&bytes[..bytes.len() - self.bytes.len()])
    }

    fn advance(&mut self, n: u64) -> Checked<()> {
        let rest = usize::try_from(n).ok().and_then(|n| self.bytes.get(n..));
        self.bytes = rest.ok_or("ends early")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
