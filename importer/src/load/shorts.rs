//! `name` and `"char"` inside of other types: Postgres cuts what does not fit them, in silence, also where an INSERT
//! assigns it. So the texts that become such values are looked at before.

use std::collections::{BTreeSet, HashMap};

/// How deep types are looked into.
const MAX_DEPTH: usize = 16;

/// A type as far as it can cut what it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cuts {
    /// Beyond this many bytes.
    Beyond(usize),
    /// In its elements.
    Array(Box<Cuts>),
    /// In some of its attributes.
    Composite(Vec<Option<Cuts>>),
}

/// The types that a table's columns are made of, by oid: the kind of each, and its parts (`read_types.sql`).
pub type Types = HashMap<i64, (String, Vec<i64>)>;

/// Returns what values of `name` and `"char"` have room for, also below a domain: Postgres cuts texts it makes such
/// values of, also where they are assigned.
pub fn n_bytes(oid: i64) -> Option<usize> {
    match oid {
        19 => Some(63),
        18 => Some(1),
        _ => None,
    }
}

impl Cuts {
    /// Returns where a type cuts; none where it does not.
    #[must_use]
    pub fn of(oid: i64, types: &Types) -> Option<Self> {
        Self::within(oid, types, MAX_DEPTH)
    }

    fn within(oid: i64, types: &Types, depth: usize) -> Option<Self> {
        let depth = depth.checked_sub(1)?;
        if let Some(n_bytes) = n_bytes(oid) {
            return Some(Self::Beyond(n_bytes));
        }
        let (kind, parts) = types.get(&oid)?;
        let mut inner = parts.iter().map(|part| Self::within(*part, types, depth));
        match kind.as_str() {
            "d" => inner.next()?,
            "a" => inner.next()?.map(|element| Self::Array(Box::new(element))),
            "c" => {
                let attributes: Vec<_> = inner.collect();
                attributes.iter().any(Option::is_some).then_some(Self::Composite(attributes))
            }
            _ => None,
        }
    }

    /// Returns the condition under which the text `value`, an SQL expression, is cut.
    ///
    /// A literal's parts are texts in the same manner: arrays are taken apart as arrays of texts, composites as records
    /// of as many texts ([`record_type`]).
    #[must_use]
    pub fn condition(&self, value: &str) -> String {
        self.condition_at(value, 0)
    }

    fn condition_at(&self, value: &str, depth: usize) -> String {
        let part = format!("penstock_part_{depth}");
        match self {
            Self::Beyond(n_bytes) => format!("octet_length({value}) > {n_bytes}"),
            Self::Array(element) => format!(
                "EXISTS (SELECT FROM unnest(({value})::text[]) {part} (t) WHERE {})",
                element.condition_at(&format!("{part}.t"), depth + 1)
            ),
            Self::Composite(attributes) => {
                let cutting = attributes.iter().enumerate().filter_map(|(place, cuts)| Some((place, cuts.as_ref()?)));
                let conditions: Vec<String> = cutting
                    .map(|(place, cuts)| cuts.condition_at(&format!("({part}.r).t{place}"), depth + 1))
                    .collect();
                let record = record_type(attributes.len());
                format!(
                    "EXISTS (SELECT FROM (SELECT ({value})::{record} AS r) {part} WHERE {})",
                    conditions.join(" OR ")
                )
            }
        }
    }

    /// Adds the numbers of attributes of the composites in it.
    pub fn add_widths(&self, widths: &mut BTreeSet<usize>) {
        match self {
            Self::Beyond(_) => {}
            Self::Array(element) => element.add_widths(widths),
            Self::Composite(attributes) => {
                widths.insert(attributes.len());
                attributes.iter().flatten().for_each(|cuts| cuts.add_widths(widths));
            }
        }
    }
}

/// Returns the session's name of a record of this many texts.
#[must_use]
pub fn record_type(width: usize) -> String {
    format!("pg_temp.penstock_texts_{width}")
}

/// Returns the statement that makes it.
#[must_use]
pub fn create_record_type(width: usize) -> String {
    let attributes: Vec<String> = (0..width).map(|place| format!("t{place} text")).collect();
    format!("CREATE TYPE {} AS ({})", record_type(width), attributes.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types() -> Types {
        let types = [
            (100, "c", vec![25, 19]),
            (101, "a", vec![100]),
            (102, "d", vec![101]),
            (103, "c", vec![25, 102, 18]),
            (104, "c", vec![25, 23]),
            (105, "a", vec![104]),
            // A composite type may have an array of itself.
            (106, "c", vec![107, 19]),
            (107, "a", vec![106]),
        ];
        types.into_iter().map(|(oid, kind, parts)| (oid, (kind.to_owned(), parts))).collect()
    }

    #[test]
    fn types_that_cut_are_found_at_any_depth() {
        let named = Cuts::Composite(vec![None, Some(Cuts::Beyond(63))]);
        assert_eq!(Cuts::of(100, &types()), Some(named.clone()));
        let array = Cuts::Array(Box::new(named));
        assert_eq!(Cuts::of(102, &types()), Some(array.clone()));
        assert_eq!(Cuts::of(103, &types()), Some(Cuts::Composite(vec![None, Some(array), Some(Cuts::Beyond(1))])));
        for plain in [25, 104, 105] {
            assert_eq!(Cuts::of(plain, &types()), None);
        }
        assert!(Cuts::of(106, &types()).is_some());
    }

    #[test]
    fn a_text_is_taken_apart_as_its_type_is() {
        let cuts = Cuts::Array(Box::new(Cuts::Composite(vec![None, Some(Cuts::Beyond(63))])));
        let expected = "EXISTS (SELECT FROM unnest((v)::text[]) penstock_part_0 (t) WHERE EXISTS (SELECT FROM (SELECT \
            (penstock_part_0.t)::pg_temp.penstock_texts_2 AS r) penstock_part_1 WHERE octet_length((penstock_part_1.r).t1) > 63))";
        assert_eq!(cuts.condition("v"), expected);
        let mut widths = BTreeSet::new();
        cuts.add_widths(&mut widths);
        assert_eq!(widths.into_iter().collect::<Vec<_>>(), [2]);
    }
}
