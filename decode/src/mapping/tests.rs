use super::super::{Field, OnNewField};
use super::*;
use crate::encode::PgType;
use std::collections::BTreeMap;

/// What a test says about a dataset; everything else is as by default.
#[derive(Default)]
struct Dataset {
    columns: Vec<Column>,
    rename: BTreeMap<String, String>,
    captures: Vec<(String, Option<String>)>,
    on_new_field: OnNewField,
    extras_column: Option<&'static str>,
    key: Vec<String>,
}

impl Dataset {
    fn map(&self, fields: &Fields) -> Result<Mapping, String> {
        let spec = MappingSpec {
            columns: &self.columns,
            rename: &self.rename,
            captures: &self.captures,
            types: &Default::default(),
            on_new_field: self.on_new_field,
            extras_column: self.extras_column,
            key: &self.key,
        };
        Mapping::new(fields, &spec)
    }
}

/// A table of text columns; a name that ends with `:date`, `:int` or `:jsonb` has that type, `!` is NOT NULL, `=` has a default.
fn table(columns: &str) -> Dataset {
    let columns = columns.split_whitespace().map(|column| {
        let (column, has_default) = column.strip_suffix('=').map_or((column, false), |column| (column, true));
        let (column, not_null) = column.strip_suffix('!').map_or((column, false), |column| (column, true));
        let (name, pg_type) = match column.split_once(':') {
            Some((name, "date")) => (name, PgType::Date),
            Some((name, "int")) => (name, PgType::Int4),
            Some((name, _)) => (name, PgType::Jsonb),
            None => (column, PgType::Text(None)),
        };
        Column { name: name.into(), pg_type, not_null, has_default }
    });
    Dataset { columns: columns.collect(), ..Dataset::default() }
}

fn named(names: &str) -> Fields {
    Fields::Named(names.split_whitespace().map(|name| Field { name: name.into(), nested: false }).collect())
}

fn captured(name: &str, text: &str) -> Vec<(String, Option<String>)> {
    vec![(name.into(), Some(text.into()))]
}

/// Shows columns and where each field goes: `a b | b a -`.
fn shown(mapping: &Mapping, n_fields: usize) -> String {
    let columns: Vec<&str> = mapping.columns().iter().map(|column| column.name.as_str()).collect();
    let slots: Vec<&str> = (0..n_fields)
        .map(|index| match mapping.slot(index) {
            Slot::Column(column) => columns[column],
            Slot::Extras => "+",
            Slot::Ignored => "-",
            Slot::Reject => "!",
        })
        .collect();
    format!("{} | {}", columns.join(" "), slots.join(" "))
}

#[track_caller]
fn check(dataset: &Dataset, fields: &str, expected: &str) {
    let n_fields = fields.split_whitespace().count();
    match dataset.map(&named(fields)) {
        Ok(mapping) => assert_eq!(shown(&mapping, n_fields), expected),
        Err(error) => assert_eq!(error, expected),
    }
}

#[test]
fn fields_find_columns_by_rename_then_name_then_name_without_case() {
    let mut dataset = table("id user_id Name");
    dataset.rename.insert("userId".into(), "user_id".into());
    check(&dataset, "name userId id other", "id user_id Name | Name user_id id -");
    check(&dataset, "ID", "id | id");
    // The exact name wins over the one that differs in case, wherever they stand.
    check(&dataset, "ID id", "id | - id");
    check(&dataset, "id ID", "id | id -");
    check(&table("a A b"), "a b", "a b | a b");
    check(&table("aa Aa b"), "AA b", "b | - b");
    check(&table("straße"), "STRASSE straßE", "straße | - straße");
}

#[test]
fn what_cannot_be_told_apart_is_an_error() {
    let mut dataset = table("id n");
    check(&dataset, "Id ID", r#"fields 1 and 2 both fill column "id""#);
    check(&dataset, "id id", "fields 1 and 2 have one name");
    // A column that was added for the file has its name from there, where that may be a value.
    let added = Dataset { on_new_field: OnNewField::AddColumn, ..table("id n") };
    check(&added, "Id ID", "fields 1 and 2 both fill the same column");
    dataset.rename.insert("number".into(), "n".into());
    check(&dataset, "n number", r#"fields 1 and 2 both fill column "n""#);
    dataset.rename.insert("x".into(), "y".into());
    check(&dataset, "id", r#"rename of field "x" names "y", which is no column to fill"#);
}

#[test]
fn a_file_without_key_or_any_column_is_an_error() {
    let mut dataset = table("id n");
    check(&dataset, "x y", "no field matches a column of the table (2 fields)");
    dataset.key = vec!["id".into()];
    check(&dataset, "n", r#"no field fills the key column "id""#);
    check(&dataset, "ID", "id | id");
    dataset.captures = captured("id", "7");
    check(&dataset, "n", "id n | n");
    dataset.key = vec!["nowhere".into()];
    check(&dataset, "n", r#"key column "nowhere" is no column to fill"#);
    assert!(dataset.map(&Fields::Open).is_err());
}

#[test]
fn captures_are_constants_and_win_over_fields() {
    let mut dataset = table("id dt:date");
    dataset.captures = captured("dt", "2000-01-02");
    check(&dataset, "id DT dt", "id dt | id - -");
    let mapping = dataset.map(&named("id")).expect("a mapping");
    assert_eq!(mapping.constant(1), Some(&[0, 0, 0, 4, 0, 0, 0, 1][..]));
    assert!(mapping.is_captured(1) && !mapping.is_captured(0));
    let open = dataset.map(&Fields::Open).expect("a mapping");
    assert_eq!((open.slot_of("dt"), open.slot_of("id")), (Slot::Ignored, Slot::Column(0)));
    dataset.captures = captured("nothing", "x");
    check(&dataset, "id", "id | id");
}

#[test]
fn a_capture_that_does_not_fit_is_an_error_that_names_it() {
    let mut dataset = table("id dt:date!");
    dataset.captures = captured("dt", "latest");
    let error = dataset.map(&named("id")).expect_err("no date");
    assert!(error.starts_with(r#"capture {dt} does not fit column "dt": "#), "{error}");
    dataset.captures = vec![("dt".into(), None)];
    check(&dataset, "id", r#"capture {dt} is NULL, which column "dt" does not allow"#);
    dataset.captures = [captured("dt", "2000-01-02"), captured("DT", "2000-01-02")].concat();
    check(&dataset, "id", r#"two captures for column "dt""#);
}

#[test]
fn new_fields_go_where_the_dataset_says() {
    let mut dataset = table("id extra:jsonb");
    check(&dataset, "id new", "id | id -");
    dataset.on_new_field = OnNewField::Reject;
    check(&dataset, "id new", "id | id !");
    dataset.on_new_field = OnNewField::AddColumn;
    check(&dataset, "id new", "id | id -");
    dataset.on_new_field = OnNewField::Extras;
    check(&dataset, "id", "on_new_field is extras, but extras_column is not set");
    dataset.extras_column = Some("extra");
    check(&dataset, "new id extra", "id extra | + id +");
    check(&dataset, "id", "id | id");
    check(&dataset, "only new", "extra | + +");
    assert_eq!(dataset.map(&named("new id")).expect("a mapping").extras(), Some(1));
    dataset.extras_column = Some("id");
    check(&dataset, "id", r#"extras_column "id" is neither jsonb nor json"#);
}

#[test]
fn open_fields_fill_every_column_and_are_found_by_name() {
    let mut dataset = table("id user_id Name n=");
    dataset.rename.insert("id".into(), "user_id".into());
    let mapping = dataset.map(&Fields::Open).expect("a mapping");
    assert_eq!(shown(&mapping, 0), "id user_id Name n | ");
    assert_eq!(mapping.absent_flags(), [3]);
    assert_eq!(mapping.slot_of("id"), Slot::Column(1));
    assert_eq!(mapping.slot_of("ID"), Slot::Column(0));
    assert_eq!(mapping.slot_of("name"), Slot::Column(2));
    assert_eq!(mapping.slot_of("nam"), Slot::Ignored);
    assert_eq!(mapping.slot_of(&"n".repeat(1000)), Slot::Ignored);
    assert_eq!(mapping.slot_of(""), Slot::Ignored);
    assert_eq!(mapping.extras(), None);
}

#[test]
fn open_fields_carry_new_columns_values_at_the_end() {
    let mut dataset = table("id extra:jsonb=");
    dataset.on_new_field = OnNewField::AddColumn;
    let mapping = dataset.map(&Fields::Open).expect("a mapping");
    assert_eq!(shown(&mapping, 0), "id extra penstock_extras | ");
    assert_eq!((mapping.extras(), mapping.slot_of("new")), (Some(2), Slot::Extras));
    assert_eq!(mapping.absent_flags(), [1]);
    dataset.on_new_field = OnNewField::Extras;
    dataset.extras_column = Some("extra");
    let mapping = dataset.map(&Fields::Open).expect("a mapping");
    assert_eq!((mapping.extras(), mapping.slot_of("extra")), (Some(1), Slot::Extras));
}

#[test]
fn fields_without_names_are_the_columns_in_order() {
    let map = |dataset: &Dataset, n_fields: usize| {
        dataset.map(&Fields::Positional(n_fields)).map(|mapping| shown(&mapping, n_fields))
    };
    let mut dataset = table("id dt n");
    dataset.key = vec!["id".into()];
    assert_eq!(map(&dataset, 3).as_deref(), Ok("id dt n | id dt n"));
    assert_eq!(map(&dataset, 2).as_deref(), Ok("id dt | id dt"));
    assert!(map(&dataset, 4).is_err());
    dataset.captures = captured("dt", "x");
    assert_eq!(map(&dataset, 2).as_deref(), Ok("id dt n | id n"));
    assert_eq!(map(&dataset, 3).as_deref(), Ok("id dt n | id - n"));
    dataset.key = vec!["n".into()];
    assert_eq!(map(&dataset, 1), Err(r#"no field fills the key column "n""#.into()));
}
