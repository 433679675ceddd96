//! Conditions that drop rows before they are encoded.
//!
//! A condition is asked of a field as it would be sent: as the bytes that its column's type has in binary COPY. So it
//! says of a value what Postgres says, as long as these bytes tell all of it.

use std::{collections::BTreeSet, ops::RangeInclusive};

/// Bytes of a field's length.
const LENGTH_BYTES: usize = 4;

/// A condition on one column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The column's name.
    pub column: String,
    /// Which of its values pass.
    pub test: Test,
}

/// Which values pass; a row whose value does not is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Test {
    /// Whether NULL does.
    pub null: bool,
    /// Which others do.
    pub values: Values,
}

/// Values of one type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Values {
    /// All of them.
    Any,
    /// Those whose [`rank`] is in one of these ranges, which are ascending.
    Within(Vec<RangeInclusive<u128>>),
    /// Texts: those that are among these, where true, else the others.
    Among(BTreeSet<Vec<u8>>, bool),
}

/// Returns the place of a boolean, an integer, a date, a timestamp or a UUID in the order of its type; None for what is
/// not as long as one of them.
#[must_use]
pub fn rank(value: &[u8]) -> Option<u128> {
    let signed = |number: i64| Some(u128::from(number as u64 ^ 1 << 63));
    match *value {
        [byte] => signed(i64::from(byte)),
        [a, b] => signed(i64::from(i16::from_be_bytes([a, b]))),
        [a, b, c, d] => signed(i64::from(i32::from_be_bytes([a, b, c, d]))),
        _ => match value.try_into() {
            Ok(bytes) => signed(i64::from_be_bytes(bytes)),
            Err(_) => value.try_into().ok().map(u128::from_be_bytes),
        },
    }
}

impl Test {
    /// Returns whether an encoded field passes, its length included.
    #[must_use]
    pub fn takes(&self, field: &[u8]) -> bool {
        match field.split_at_checked(LENGTH_BYTES) {
            Some((length, _)) if length == [0xFF; LENGTH_BYTES] => self.null,
            Some((_, value)) => self.values.have(value),
            None => true,
        }
    }

    /// Returns whether values none of which is less than `min` or more than `max` may pass, both without their lengths.
    #[must_use]
    pub fn may_take_between(&self, min: &[u8], max: &[u8]) -> bool {
        match &self.values {
            Values::Any => true,
            Values::Within(ranges) if ranges.is_empty() => false,
            Values::Within(ranges) => match (rank(min), rank(max)) {
                (Some(min), Some(max)) if min <= max => {
                    ranges.iter().any(|range| *range.start() <= max && min <= *range.end())
                }
                _ => true,
            },
            Values::Among(texts, true) => min > max || texts.range(min.to_vec()..=max.to_vec()).next().is_some(),
            Values::Among(texts, false) => min != max || !texts.contains(min),
        }
    }
}

impl Values {
    /// None of them.
    #[must_use]
    pub fn none() -> Self {
        Self::Within(Vec::new())
    }

    /// Returns those that are in a range or, if not `inside`, in none.
    #[must_use]
    pub fn within(ranges: impl IntoIterator<Item = RangeInclusive<u128>>, inside: bool) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
        if inside {
            return Self::Within(ranges);
        }
        ranges.sort_unstable_by_key(|range| *range.start());
        let (mut gaps, mut next) = (Vec::new(), Some(0));
        for range in ranges {
            let Some(start) = next else { break };
            if let Some(end) = range.start().checked_sub(1).filter(|end| start <= *end) {
                gaps.push(start..=end);
            }
            next = range.end().checked_add(1).map(|after| after.max(start));
        }
        gaps.extend(next.map(|start| start..=u128::MAX));
        Self::Within(gaps)
    }

    fn have(&self, value: &[u8]) -> bool {
        match self {
            Self::Any => true,
            Self::Within(ranges) => ranges.iter().any(|range| rank(value).is_none_or(|rank| range.contains(&rank))),
            Self::Among(texts, inside) => texts.contains(value) == *inside,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_in_the_order_of_their_types() {
        let ascending = |values: &[&[u8]]| values.windows(2).all(|pair| rank(pair[0]) < rank(pair[1]));
        assert!(ascending(&[&[0], &[1]]));
        let numbers = [i64::MIN, i64::from(i32::MIN), -2, -1, 0, 1, i64::from(i32::MAX), i64::MAX];
        assert!(ascending(&numbers.map(i64::to_be_bytes).each_ref().map(<[u8; 8]>::as_slice)));
        assert_eq!(rank(&(-7i16).to_be_bytes()), rank(&(-7i64).to_be_bytes()));
        assert_eq!(rank(&(-7i32).to_be_bytes()), rank(&(-7i64).to_be_bytes()));
        assert!(ascending(&[&[0; 16], &[0x7f; 16], &[0x80; 16], &[0xff; 16]]));
        assert_eq!(rank(b"abc"), None);
    }

    #[test]
    fn what_is_outside_of_ranges_is_in_the_gaps() {
        let outside = |ranges: &[RangeInclusive<u128>]| Values::within(ranges.iter().cloned(), false);
        assert_eq!(outside(&[]), Values::Within(vec![0..=u128::MAX]));
        assert_eq!(outside(&[5..=5, 2..=3, 3..=4]), Values::Within(vec![0..=1, 6..=u128::MAX]));
        assert_eq!(outside(&[0..=0, u128::MAX..=u128::MAX]), Values::Within(vec![1..=u128::MAX - 1]));
        assert_eq!(outside(&[0..=u128::MAX, 3..=4]), Values::none());
        assert_eq!(outside(&[0..=9, 3..=4]), Values::Within(vec![10..=u128::MAX]));
    }

    #[test]
    fn bounds_tell_when_nothing_between_them_can_pass() {
        let test = |values| Test { null: false, values };
        let int = |number: i64| number.to_be_bytes();
        let at = |number: i64| rank(&int(number)).expect("a rank");
        let may = |values, min: i64, max: i64| test(values).may_take_between(&int(min), &int(max));
        let above_five = || Values::within([at(6)..=u128::MAX], true);
        assert!(!may(above_five(), -3, 5) && may(above_five(), -3, 6) && may(above_five(), 7, 9));
        assert!(may(above_five(), 5, -3), "bounds that are none");
        let not_five = || Values::within([at(5)..=at(5)], false);
        assert!(!may(not_five(), 5, 5) && may(not_five(), 5, 6) && may(not_five(), 4, 5));
        let texts = |inside| test(Values::Among([b"kn".to_vec()].into(), inside));
        assert!(texts(true).may_take_between(b"ka", b"kz") && !texts(true).may_take_between(b"ko", b"kz"));
        assert!(!texts(true).may_take_between(b"a", b"km") && texts(true).may_take_between(b"z", b"a"));
        assert!(!texts(false).may_take_between(b"kn", b"kn") && texts(false).may_take_between(b"km", b"kn"));
    }

    #[test]
    fn a_field_of_no_value_is_null() {
        let is_null = Test { null: true, values: Values::none() };
        assert!(is_null.takes(&[0xFF; 4]) && !is_null.takes(&[0, 0, 0, 1, 1]));
        assert!(!is_null.takes(&[0, 0, 0, 3, b'a', b'b', b'c']));
        let is_there = Test { null: false, values: Values::Any };
        assert!(!is_there.takes(&[0xFF; 4]) && is_there.takes(&[0, 0, 0, 0]));
    }
}
