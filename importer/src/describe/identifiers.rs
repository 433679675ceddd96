//! Names as SQL: quoted where Postgres would not take them bare.

use service::terminal::is_hidden;

/// Every key word that Postgres 13 to 18 does not take bare as any name (`pg_get_keywords()`, `catcode <> 'U'`).
const KEYWORDS: &str = "all analyse analyze and any array as asc asymmetric authorization between bigint binary bit \
    boolean both case cast char character check coalesce collate collation column concurrently constraint create cross \
    current_catalog current_date current_role current_schema current_time current_timestamp current_user dec decimal \
    default deferrable desc distinct do else end except exists extract false fetch float for foreign freeze from full \
    grant greatest group grouping having ilike in initially inner inout int integer intersect interval into is isnull \
    join json json_array json_arrayagg json_exists json_object json_objectagg json_query json_scalar json_serialize \
    json_table json_value lateral leading least left like limit localtime localtimestamp merge_action national natural \
    nchar none normalize not notnull null nullif numeric offset on only or order out outer overlaps overlay placing \
    position precision primary real references returning right row select session_user setof similar smallint some \
    substring symmetric system_user table tablesample then time timestamp to trailing treat trim true union unique user \
    using values varchar variadic verbose when where window with xmlattributes xmlconcat xmlelement xmlexists xmlforest \
    xmlnamespaces xmlparse xmlpi xmlroot xmlserialize xmltable";

/// Names that every table's own columns have.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];

/// Postgres's limit: longer names are cut, and then no field finds its column.
const MAX_NAME_BYTES: usize = 63;

/// Returns an identifier as SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
    let is_plain = starts && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    match is_plain && !KEYWORDS.split_whitespace().any(|word| word == name) {
        true => name.to_owned(),
        false => crate::load::sql::quote(name),
    }
}

/// Returns the column's name for a field: the field's own where Postgres takes it, and one that is not in `taken`.
#[must_use]
pub fn column_for(field: &str, is_taken: impl Fn(&str) -> bool) -> String {
    let mut name: String = field.chars().map(|c| if is_hidden(c) { '_' } else { c }).collect();
    if name.trim().is_empty() {
        name = "unnamed".into();
    }
    if SYSTEM_COLUMNS.contains(&name.as_str()) || name.starts_with("penstock_") {
        name.push('_');
    }
    let mut candidate = cut(&name, MAX_NAME_BYTES).to_owned();
    let mut number = 2;
    while is_taken(&candidate) {
        let suffix = format!("_{number}");
        candidate = format!("{}{suffix}", cut(&name, MAX_NAME_BYTES - suffix.len()));
        number += 1;
    }
    candidate
}

fn cut(name: &str, max_bytes: usize) -> &str {
    let end = (0..=max_bytes.min(name.len())).rev().find(|end| name.is_char_boundary(*end)).unwrap_or(0);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_postgres_would_read_them_otherwise() {
        for (name, expected) in [
            ("event_id", "event_id"),
            ("userId", "\"userId\""),
            ("2nd", "\"2nd\""),
            ("order", "\"order\""),
            ("time", "\"time\""),
            ("year", "year"),
            ("a b", "\"a b\""),
            ("a\"b", "\"a\"\"b\""),
            ("é", "\"é\""),
            ("a$b", "\"a$b\""),
        ] {
            assert_eq!(quoted(name), expected);
        }
    }

    #[test]
    fn fields_postgres_would_not_take_get_a_column_of_their_own() {
        let long = "é".repeat(40);
        for (field, expected) in [
            ("id", "id"),
            ("User Id", "User Id"),
            ("", "unnamed"),
            ("a\u{1}b", "a_b"),
            ("a\u{202e}b", "a_b"),
            ("ctid", "ctid_"),
            ("penstock_object", "penstock_object_"),
            ("taken", "taken_2"),
            (&long, &"é".repeat(31)),
        ] {
            assert_eq!(column_for(field, |name| name == "taken"), expected);
        }
    }
}
