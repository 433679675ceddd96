//! A description as SQL and as TOML.

use super::{identifiers::quoted, plan::Description, types};
use decode::{CsvOptions, ShortRows};
use service::terminal::is_hidden;
use std::fmt::Write as _;

impl Description {
    /// Returns the statements that make the table.
    #[must_use]
    pub fn table_sql(&self) -> String {
        let table = format!("public.{}", quoted(&self.location.name));
        let mut lines: Vec<(String, String)> = Vec::new();
        for column in &self.columns {
            let mut notes = column.notes.clone();
            if !column.null_texts.is_empty() {
                let texts: Vec<&str> = column.null_texts.iter().copied().collect();
                notes.push(format!("{} read as NULL", texts.join(", ")));
            }
            lines.push((format!("{} {}", quoted(&column.name), types::name(&column.sql_type)), notes.join("; ")));
        }
        if let Some(extras) = &self.extras {
            lines.push((format!("{} jsonb", quoted(extras)), "fields that have no column of their own".into()));
        }
        match &self.key[..] {
            [_, ..] => {
                let columns: Vec<String> = self.key.iter().map(|key| quoted(key)).collect();
                lines.push((format!("PRIMARY KEY ({})", columns.join(", ")), self.how_sure(unique(&self.key))));
            }
            [] => lines.push((
                "penstock_object bigint".into(),
                "which object a row came from; mode = \"replace\" needs it".into(),
            )),
        }
        let mut sql = format!("-- From {}.\n", self.looked_at());
        for remark in &self.remarks {
            let _ = writeln!(sql, "-- {}", one_line(remark));
        }
        if let Some(reject) = &self.first_reject {
            let _ = writeln!(
                sql,
                "-- {} of these rows cannot be loaded, the first being {}",
                self.n_rejected,
                one_line(reject)
            );
        }
        let _ = writeln!(sql, "CREATE TABLE {table} (");
        let last = lines.len() - 1;
        for (place, (line, note)) in lines.iter().enumerate() {
            let comma = if place < last { "," } else { "" };
            let note = if note.is_empty() { String::new() } else { format!("  -- {}", one_line(note)) };
            let _ = writeln!(sql, "    {line}{comma}{note}");
        }
        sql.push_str(");\n");
        if self.key.is_empty() {
            let _ = writeln!(sql, "CREATE INDEX ON {table} (penstock_object);");
        }
        sql
    }

    /// Returns the `[[dataset]]`.
    #[must_use]
    pub fn dataset_toml(&self) -> String {
        let mut toml = String::from("[[dataset]]\n");
        for remark in &self.remarks {
            let _ = writeln!(toml, "# {}", one_line(remark));
        }
        let mut line = |text: String, note: &str| {
            let note = if note.is_empty() { String::new() } else { format!("  # {}", one_line(note)) };
            let _ = writeln!(toml, "{text}{note}");
        };
        line(format!("name = {}", string(&self.location.name)), "");
        line(format!("match = {}", string(&self.location.pattern)), "");
        if let Some(pattern) = &self.location.in_bucket {
            line(format!("# match = {}", string(pattern)), "once such files lie in a bucket");
        }
        line(format!("table = {}", string(&format!("public.{}", quoted(&self.location.name)))), "");
        match &self.key[..] {
            [_] => line(format!("key = [{}]", strings(&self.key)), &self.how_sure("unique and never NULL")),
            [_, ..] => line(format!("key = [{}]", strings(&self.key)), &self.how_sure("unique together, never NULL")),
            [] => line(
                "mode = \"replace\"".into(),
                "no key was found: the rows belong to their object, and its next version replaces them",
            ),
        }
        for idea in &self.key_ideas {
            let instead = match self.key.is_empty() {
                false => "instead, with a unique index",
                true => "instead of mode, with a unique index",
            };
            line(format!("# key = [{}]", strings(idea)), &format!("{instead}; {}", self.how_sure(unique(idea))));
        }
        match (&self.newer, !self.key.is_empty()) {
            (Some((newer, true)), true) => {
                line(format!("newer = {}", string(newer)), "a row only gives way to one that is not older")
            }
            (Some((newer, false)), true) => line(format!("# newer = {}", string(newer)), "is NULL in some rows"),
            (Some((newer, _)), false) => line(
                format!("# newer = {}", string(newer)),
                "with a key: a row only gives way to one that is not older",
            ),
            (None, _) => {}
        }
        if self.read.text.preset.is_some() {
            line("format = \"text\"".into(), "");
        }
        if let Some(rows) = &self.read.json.rows {
            line(format!("rows = {}", string(&rows.to_string())), "where the rows are in the document");
        }
        if !self.read.json.fields.is_empty() {
            let pairs = self.read.json.fields.iter();
            let pairs = pairs.map(|(field, place)| format!("{} = {}", string(field), string(&place.to_string())));
            line(format!("fields = {{ {} }}", pairs.collect::<Vec<_>>().join(", ")), "field = where its value is");
        }
        if let Some(format) = self.format {
            line(format!("format = {}", string(format)), "");
        }
        if !self.rename.is_empty() {
            let pairs = self.rename.iter().map(|(field, column)| format!("{} = {}", string(field), string(column)));
            line(format!("rename = {{ {} }}", pairs.collect::<Vec<_>>().join(", ")), "field = column");
        }
        match &self.extras {
            Some(extras) => {
                line("on_new_field = \"extras\"".into(), "fields that come later are kept, too");
                line(format!("extras_column = {}", string(extras)), "");
            }
            None if self.read.csv.header || !self.is_csv => {
                line("# on_new_field = \"add_column\"".into(), "without it fields that come later are left out");
            }
            None => {}
        }
        if let Some(preset) = self.read.text.preset {
            let _ = write!(toml, "\n[dataset.text]\npreset = {}\n", string(preset.as_str()));
        } else if self.is_csv {
            toml.push_str(&self.csv_toml());
        }
        if !self.types.is_empty() {
            toml.push_str("\n[dataset.types]\n");
            for (column, notation) in &self.types {
                let _ = writeln!(toml, "{} = {}", string(column), string(notation.as_str()));
            }
        }
        toml
    }

    fn csv_toml(&self) -> String {
        let CsvOptions {
            header,
            delimiter,
            quote,
            escape,
            comment,
            skip_lines,
            short_rows,
            trailing_delimiter,
            encoding,
            ..
        } = &self.read.csv;
        let mut toml = String::new();
        if !header {
            toml.push_str("header = false  # its first record looks like data\n");
        }
        if *delimiter != b',' {
            let _ = writeln!(toml, "delimiter = {}", string(&char::from(*delimiter).to_string()));
        }
        if quote.is_none() {
            toml.push_str("quote = \"\"  # its quotes do not pair up: they are characters like others\n");
        }
        let why = ["stands before quotes within fields", "lines that begin so are no rows"];
        for ((setting, byte), why) in [("escape", escape), ("comment", comment)].into_iter().zip(why) {
            if let Some(byte) = byte {
                let _ = writeln!(toml, "{setting} = {}  # {why}", string(&char::from(*byte).to_string()));
            }
        }
        if *skip_lines > 0 {
            let _ = writeln!(toml, "skip_lines = {skip_lines}");
        }
        if self.n_short > 0 {
            let mark = if *short_rows == ShortRows::Null { "" } else { "# " };
            let without = if mark.is_empty() { "; without it they are rejects" } else { " and are rejects without it" };
            let _ = writeln!(
                toml,
                "{mark}short_rows = \"null\"  # {} of {} rows end early{without}",
                self.n_short, self.n_rows
            );
        }
        if self.read.csv.decimal_comma {
            toml.push_str("decimal = \",\"\n");
        }
        if *trailing_delimiter {
            toml.push_str("trailing_delimiter = true  # a delimiter follows the last field\n");
        }
        if encoding != "utf-8" {
            let _ = writeln!(toml, "encoding = {}  # not UTF-8; a guess", string(encoding));
        }
        let nulls = self.null_texts();
        if !nulls.is_empty() {
            let texts: Vec<String> = nulls.iter().map(|text| string(text)).collect();
            let _ = write!(toml, "null = [{}]", texts.join(", "));
            let lost: Vec<String> =
                self.texts_lost_to_null().iter().map(|(text, column)| format!("{text} in {column}")).collect();
            if !lost.is_empty() {
                let _ = write!(toml, "  # reads {} as NULL, too", one_line(&lost.join(", ")));
            }
            toml.push('\n');
        }
        if toml.is_empty() { toml } else { format!("\n[dataset.csv]\n{toml}") }
    }

    fn looked_at(&self) -> String {
        let rows = if self.n_rows == 1 { "row" } else { "rows" };
        match self.is_whole {
            true => format!("all {} {rows} of the sample", self.n_rows),
            false => {
                format!("the first {} {rows} of the sample; importer load --dry-run reads all of them", self.n_rows)
            }
        }
    }

    fn how_sure(&self, claim: &str) -> String {
        let rows = if self.n_rows == 1 { "the only row".into() } else { format!("{} rows", self.n_rows) };
        format!("{claim} in {rows}")
    }
}

/// Returns texts as TOML strings.
fn strings(texts: &[String]) -> String {
    texts.iter().map(|text| string(text)).collect::<Vec<_>>().join(", ")
}

fn unique(key: &[String]) -> &'static str {
    if key.len() > 1 { "unique together" } else { "unique" }
}

/// Returns a text as a TOML string that may also be a key: on one line, whatever is in it.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if is_hidden(c) => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Returns a text that cannot end the comment it stands in, nor act on a terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if is_hidden(c) { ' ' } else { c }).collect()
}
