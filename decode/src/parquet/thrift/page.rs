//! Page headers.

use super::{
    Checked, Compact, FALSE, Fields,
    Kind::{Bool, Number, Struct},
    MAX_SKIP_DEPTH, TRUE,
};

const PAGE_HEADER: Fields = &[
    (1..=4, Number),
    (5..=5, Struct(&[(1..=4, Number)])),
    (6..=6, Struct(&[])),
    (7..=7, Struct(&[(1..=2, Number), (3..=3, Bool)])),
    (8..=8, Struct(&[(1..=6, Number), (7..=7, Bool)])),
];

/// What a page's header says about its lengths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PageSizes {
    /// The header's own, in bytes.
    pub header: u64,
    /// The number of its values, of a dictionary.
    pub dictionary_values: Option<u64>,
    /// Decompressed, in bytes.
    pub uncompressed: u64,
    /// As it stands in the file, in bytes.
    pub compressed: u64,
    /// Levels before the values, which are not compressed, in bytes.
    pub levels: u64,
    /// Where the header says that the values are not compressed either: the field's place in it.
    pub says_plain: Option<usize>,
}

/// Reads a page header for its lengths, and checks that all of it is in `view`. It may not have the part that pages of
/// another type have: the library tells them apart by the type, and reads some of the parts all the same.
pub fn page_sizes(view: &[u8]) -> Checked<PageSizes> {
    const TYPE: i16 = 1;
    const UNCOMPRESSED: i16 = 2;
    const COMPRESSED: i16 = 3;
    const FIRST_PART: i16 = 5;
    const DICTIONARY: i16 = 7;
    const NUM_VALUES: i16 = 1;
    const DATA_V2: i16 = 8;
    const LEVELS: [i16; 2] = [5, 6];
    const IS_COMPRESSED: i16 = 7;
    Compact { bytes: view }.check(PAGE_HEADER, &mut Vec::new())?;
    let mut sizes = PageSizes::default();
    let (mut part, mut parts, mut n_values) = (FIRST_PART, 0u32, 0);
    let length =
        |input: &mut Compact<'_>| u64::try_from(input.zigzag()?).map_err(|_| "page header has a negative length");
    let mut header = Compact { bytes: view };
    header.each_field(|id, input| {
        if (FIRST_PART..=DATA_V2).contains(&id) {
            parts |= 1 << id;
        }
        match id {
            TYPE => part = i16::try_from(input.zigzag()?).map_or(0, |kind| FIRST_PART.saturating_add(kind)),
            UNCOMPRESSED => sizes.uncompressed = length(input)?,
            COMPRESSED => sizes.compressed = length(input)?,
            DICTIONARY => n_values = sum_of(&[NUM_VALUES], input)?,
            DATA_V2 => {
                sizes.says_plain = place_of_false(IS_COMPRESSED, input.clone())?.map(|left| view.len() - left);
                sizes.levels = sum_of(&LEVELS, input)?;
            }
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    if parts & !1u32.unbounded_shl(part as u32) != 0 {
        return Err("page header has another type's part");
    }
    sizes.dictionary_values = (part == DICTIONARY).then_some(n_values);
    sizes.header = (view.len() - header.bytes.len()) as u64;
    Ok(sizes)
}

/// Reads a structure for the sum of some of its numbers.
fn sum_of(ids: &[i16], input: &mut Compact<'_>) -> Checked<u64> {
    let mut numbers = vec![0u64; ids.len()];
    input.each_field(|id, input| {
        let Some(place) = ids.iter().position(|wanted| *wanted == id) else { return Ok(false) };
        // Of a field that comes twice, the library takes the last.
        numbers[place] = u64::try_from(input.zigzag()?).map_err(|_| "page has a negative length")?;
        Ok(true)
    })?;
    Ok(numbers.into_iter().fold(0, u64::saturating_add))
}

/// Looks in a structure for a boolean that is false; returns how many bytes begin with its header.
fn place_of_false(wanted: i16, mut input: Compact<'_>) -> Checked<Option<usize>> {
    let (mut id, mut place, mut before) = (0, None, input.bytes.len());
    while let Some(field_type) = input.field(&mut id)? {
        if id == wanted {
            // Only a header of one byte says it in that byte.
            let is_short = before == input.bytes.len() + 1;
            place = (field_type == FALSE && is_short).then_some(before);
        }
        input.skip(field_type, MAX_SKIP_DEPTH)?;
        before = input.bytes.len();
    }
    Ok(place)
}

/// Returns the header of a boolean field as if it were true.
pub fn as_true(header: u8) -> u8 {
    header & 0xf0 | TRUE
}
