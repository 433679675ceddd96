//! What must come of an object's rows, by what was put alone.

use super::content::{Content, Dataset, Flaw, Row};
use std::collections::BTreeMap;

/// What becomes of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It is a reject.
    Reject,
    /// It is left out.
    Filtered,
    /// So many rows are made of it, with this in the column `extra`.
    Rows(Vec<Option<String>>),
}

/// A row that must be in a table.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// Columns.
    pub id: i64,
    /// Columns.
    pub value: String,
    /// Columns; of what a step computes.
    pub extra: Option<String>,
    /// Columns.
    pub version: i64,
    /// Columns.
    pub amount: i32,
}

/// Counts and rejects of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// Count.
    pub read: usize,
    /// Count.
    pub filtered: usize,
    /// Rows beyond the first that were made of one.
    pub added: usize,
    /// The numbers of the rows that are rejects, from 1.
    pub rejects: Vec<i64>,
}

impl Account {
    /// Returns how many rows were for the table.
    #[must_use]
    pub fn made(&self) -> usize {
        self.read + self.added - self.filtered - self.rejects.len()
    }
}

/// Rows of [`Dataset::Site`] by their key.
pub type Sites<'a> = BTreeMap<i64, &'a Row>;

/// Returns whether rows that name this one are left out.
#[must_use]
pub fn hides(site: &Row) -> bool {
    site.version % 10 == 3
}

/// Returns what becomes of a row, with what it looks up as it is now.
#[must_use]
pub fn fate(dataset: Dataset, row: &Row, sites: &Sites<'_>) -> Fate {
    let plain = || if row.flaw.is_some() { Fate::Reject } else { Fate::Rows(vec![None]) };
    match dataset {
        Dataset::Newest | Dataset::Own | Dataset::Whole | Dataset::Log | Dataset::Site => plain(),
        Dataset::Post => {
            let site = row.site.and_then(|site| sites.get(&site).copied());
            match row.flaw {
                Some(Flaw::Unwanted) => Fate::Filtered,
                Some(Flaw::Unfit | Flaw::Refused | Flaw::Undefined) => Fate::Reject,
                None if site.is_some_and(hides) => Fate::Filtered,
                None => Fate::Rows(vec![site.map(|site| site.value.clone())]),
            }
        }
        Dataset::Card => match row.id {
            id if id % 10 == 4 => Fate::Filtered,
            id if id % 100 == 50 => Fate::Reject,
            _ if row.flaw.is_some() => Fate::Reject,
            id => Fate::Rows(vec![Some(format!("{id}:{}", row.version))]),
        },
        Dataset::Fan => match (row.flaw, row.version % 3) {
            (Some(Flaw::Unfit), _) => Fate::Reject,
            (_, 0) => Fate::Filtered,
            (Some(Flaw::Refused), _) => Fate::Reject,
            (_, n) => Fate::Rows((1..=n).map(|part| Some(part.to_string())).collect()),
        },
    }
}

/// Returns the counts and rejects of an object.
#[must_use]
pub fn account(dataset: Dataset, content: &Content, sites: &Sites<'_>) -> Account {
    let mut account = Account { read: content.rows.len(), ..Account::default() };
    for (row, number) in content.rows.iter().zip(1..) {
        match fate(dataset, row, sites) {
            Fate::Reject => account.rejects.push(number),
            Fate::Filtered => account.filtered += 1,
            Fate::Rows(made) => account.added += made.len() - 1,
        }
    }
    account
}

/// Returns the rows of an object, each as often as it must be there, in the order of the object.
#[must_use]
pub fn rows(dataset: Dataset, content: &Content, sites: &Sites<'_>) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for row in &content.rows {
        let Fate::Rows(made) = fate(dataset, row, sites) else { continue };
        wanted.extend(made.into_iter().map(|extra| Wanted {
            id: row.id,
            value: row.value.clone(),
            extra,
            version: row.version,
            amount: row.amount(),
        }));
    }
    wanted
}

/// Returns the row of each key of an object that wins: the newest where the dataset has `newer`, the last of those.
#[must_use]
pub fn by_id(dataset: Dataset, content: &Content) -> BTreeMap<i64, Wanted> {
    let mut standing: BTreeMap<i64, Wanted> = BTreeMap::new();
    for row in rows(dataset, content, &Sites::new()) {
        let gives_way = |known: &Wanted| dataset == Dataset::Newest && known.version > row.version;
        if standing.get(&row.id).is_none_or(|known| !gives_way(known)) {
            standing.insert(row.id, row);
        }
    }
    standing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::torture::content::Format;

    fn row(id: i64, version: i64, value: &str) -> Row {
        Row { id, version, value: value.to_owned(), flaw: None, site: None }
    }

    fn content(rows: Vec<Row>) -> Content {
        Content { format: Format::Csv, rows, spoiled: None, has_sites: false }
    }

    #[test]
    fn the_last_row_of_a_key_stands_unless_an_earlier_one_is_newer() {
        let content = content(vec![row(1, 5, "a"), row(1, 7, "b"), row(1, 6, "c"), row(2, 1, "d"), row(2, 1, "e")]);
        let standing = |dataset| by_id(dataset, &content).values().map(|row| row.value.clone()).collect::<String>();
        assert_eq!(standing(Dataset::Newest), "be");
        assert_eq!(standing(Dataset::Own), "ce");
    }

    #[test]
    fn flawed_rows_are_numbered_from_one() {
        let mut content = content(vec![row(1, 1, "a"), row(2, 1, "b"), row(3, 1, "c")]);
        content.rows[0].flaw = Some(Flaw::Unfit);
        content.rows[2].flaw = Some(Flaw::Refused);
        assert_eq!(account(Dataset::Own, &content, &Sites::new()).rejects, [1, 3]);
    }

    #[test]
    fn a_row_goes_by_what_it_looks_up() {
        let looks_up = Row { site: Some(8), ..row(1, 1, "a") };
        let fate_with =
            |site: Option<&Row>| fate(Dataset::Post, &looks_up, &site.map(|site| (8, site)).into_iter().collect());
        assert_eq!(fate_with(None), Fate::Rows(vec![None]));
        assert_eq!(fate_with(Some(&row(8, 12, "b"))), Fate::Rows(vec![Some("b".into())]));
        assert_eq!(fate_with(Some(&row(8, 13, "b"))), Fate::Filtered);
    }

    #[test]
    fn a_row_becomes_none_or_several() {
        let content = content(vec![row(1, 3, "a"), row(1, 4, "b"), row(1, 5, "c")]);
        let counted = account(Dataset::Fan, &content, &Sites::new());
        assert_eq!((counted.read, counted.filtered, counted.added, counted.made()), (3, 1, 1, 3));
        assert_eq!(rows(Dataset::Fan, &content, &Sites::new()).len(), 3);
    }
}
