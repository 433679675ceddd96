//! The reference is what the code says: its pages end with what doc comments and `--help` give.
//!
//! What stands above the mark in a page is written by hand. `UPDATE=1` writes what is below it anew.

use anyhow::{Context as _, Result};
use penstock_tests::{process, repository};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::Lines,
};

/// Begins what a test compares, or writes with `UPDATE=1`.
const MARK: &str = "<!-- From here on written by a test, from the code: see CONTRIBUTING.md. -->\n";

/// Sections of `importer.toml`, and the structs that say what is in them.
const IMPORTER: [(&str, &str); 12] = [
    ("database", "Database"),
    ("queue", "Queue"),
    ("bucket", "Bucket"),
    ("worker", "Worker"),
    ("instance", "Instance"),
    ("limits", "Limits"),
    ("http", "Http"),
    ("dataset", "Dataset"),
    ("dataset.csv", "Csv"),
    ("dataset.tag", "Tag"),
    ("defaults", "Defaults"),
    ("notify", "Notify"),
];

const SCALER: [(&str, &str); 4] =
    [("database", "Database"), ("http", "Http"), ("pool", "Pool"), ("pool.schedule", "ScheduleSettings")];

const CONSOLE: [(&str, &str); 4] =
    [("database", "Database"), ("http", "Http"), ("auth", "Auth"), ("reports", "Reports")];

#[test]
fn the_reference_of_importer_toml_is_that_of_the_doc_comments() -> Result<()> {
    let source = joined("importer/src/config")? + &joined("service/src/config")?;
    let least = "[[dataset]]\nname = 'given'\nmatch = '**/given'\ntable = 'given'\nkey = ['given']\n";
    let config = importer::config::Config::parse(least, "least", |_| None)?;
    let debug = format!("{config:#?}");
    let mut page = String::new();
    for (section, structure) in IMPORTER {
        let values = debug_fields(&debug, structure);
        let is_default = |value: &&String| *value != "None" && !value.contains("given");
        let default = |field: &Field| values.get(&field.rust_name).filter(is_default).cloned();
        write_section(&mut page, section, structure, &source, default)?;
    }
    check("docs/reference/importer-toml.md", &page)
}

#[test]
fn the_reference_of_scaler_toml_is_that_of_the_doc_comments() -> Result<()> {
    let source = joined("scaler/src/config")? + &joined("service/src/config")?;
    let default = |field: &Field| field.default_in(&source);
    let mut page = String::new();
    for (section, structure) in SCALER {
        write_section(&mut page, section, structure, &source, default)?;
    }
    let kinds = fields_of(&source, "WorkersKind")?;
    for kind in &kinds {
        let name = renamed(&kind.rust_name, "snake_case");
        write!(page, "\n## `[pool.workers]`, `kind = \"{name}\"`\n\n{}\n", kind.docs())?;
        for field in &kind.inner {
            write_field(&mut page, "pool.workers", field, default(field), field.is_required(&source, "WorkersKind"))?;
        }
    }
    check("docs/reference/scaler-toml.md", &page)
}

#[test]
fn the_reference_of_console_toml_is_that_of_the_doc_comments() -> Result<()> {
    let source = joined("console/src/config")? + &joined("service/src/config")?;
    let mut page = String::new();
    let top = fields_of(&source, "Config")?;
    for field in top.iter().filter(|field| ["bool", "Option<String>"].contains(&field.kind.as_str())) {
        let default = if field.kind == "bool" { "\nDefault: `false`\n" } else { "" };
        write!(page, "\n## `{}`\n\n{}\n{default}", field.name(), field.docs())?;
    }
    for (section, structure) in CONSOLE {
        write_section(&mut page, section, structure, &source, |field| field.default_in(&source))?;
    }
    check("docs/reference/console-toml.md", &page)
}

#[test]
fn the_reference_of_the_commands_is_what_help_prints() -> Result<()> {
    for program in ["importer", "scaler", "console"] {
        let help = help(program, None)?;
        let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let commands = listed.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
        let mut page = format!("\n## Options of every command\n\n```text\n{help}```\n");
        for command in commands {
            write!(page, "\n## {program} {command}\n\n```text\n{}```\n", self::help(program, Some(command))?)?;
        }
        check(&format!("docs/reference/{program}.md"), &page)?;
    }
    Ok(())
}

/// Returns the source of a module and of those in it.
fn joined(module: &str) -> Result<String> {
    let own = repository().join(format!("{module}.rs"));
    let inner = sources(&repository().join(module))?;
    [own].iter().chain(&inner).map(|path| Ok(fs::read_to_string(path)?)).collect()
}

/// Compares what a page has below the mark, or writes it.
fn check(page: &str, expected: &str) -> Result<()> {
    let path = repository().join(page);
    let text = fs::read_to_string(&path)?;
    let (by_hand, found) = text.split_once(MARK).with_context(|| format!("{page} lacks the mark"))?;
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{by_hand}{MARK}{expected}"))?;
    } else if found != expected {
        let line = found.lines().zip(expected.lines()).find(|(found, expected)| found != expected);
        panic!("{page} is not what the code says; UPDATE=1 writes it anew. First difference: {line:?}");
    }
    Ok(())
}

/// Returns what `--help` prints, without the blanks at the ends of lines.
fn help(program: &str, command: Option<&str>) -> Result<String> {
    let mut run = Command::new(process::binary(program)?);
    let output = run.env_clear().args(command).arg("--help").output()?;
    anyhow::ensure!(output.status.success(), "{program} {command:?} --help: {}", output.status);
    let text = String::from_utf8(output.stdout)?;
    Ok(text.lines().map(|line| format!("{}\n", line.trim_end())).collect())
}

/// A field of a struct or a variant of an enum, as its source has it.
#[derive(Debug)]
struct Field {
    rust_name: String,
    /// A field's type.
    kind: String,
    attributes: String,
    comment: Vec<String>,
    /// A variant's fields.
    inner: Vec<Field>,
}

impl Field {
    /// Returns its name in the file.
    fn name(&self) -> &str {
        between(&self.attributes, "rename = \"", '"').unwrap_or(&self.rust_name)
    }

    /// Returns its documentation, a paragraph a line.
    fn docs(&self) -> String {
        let paragraphs = self.comment.split(|line| line.is_empty()).map(|lines| lines.join(" "));
        paragraphs.collect::<Vec<_>>().join("\n\n")
    }

    fn is_required(&self, source: &str, structure: &str) -> bool {
        let of_the_struct = header(source, structure).is_some_and(|at| source[..at].ends_with("default)]\n"));
        !of_the_struct && !self.attributes.contains("default") && !self.kind.starts_with("Option")
    }

    /// Returns what its attribute names as its default, read from the function or by the type.
    fn default_in(&self, source: &str) -> Option<String> {
        let Some(function) = between(&self.attributes, "default = \"", '"') else {
            let is_zero = self.attributes.contains("default") && self.kind == "u32";
            return is_zero.then(|| "0".to_owned());
        };
        let value = between(source, &format!("fn {function}() -> "), '}')?.lines().nth(1)?.trim();
        let value = value.trim_end_matches(".to_owned()");
        let is_duration = self.attributes.contains("duration::");
        Some(if is_duration { format!("\"{}s\"", value.trim_end_matches(".0")) } else { value.to_owned() })
    }
}

/// Writes a section: what it is for, and its settings; the documentation of the section stands where it is nested.
fn write_section(
    page: &mut String,
    section: &str,
    structure: &str,
    source: &str,
    default: impl Fn(&Field) -> Option<String>,
) -> Result<()> {
    let (outer, last) = match section.rsplit_once('.') {
        None => ("Config", section),
        Some(("pool", last)) => ("Pool", last),
        Some((_, last)) => ("Dataset", last),
    };
    let fields = fields_of(source, outer)?;
    let nested = fields.iter().find(|field| [field.name(), field.name().trim_end_matches('s')].contains(&last));
    let nested = nested.with_context(|| format!("{outer} has no {last}"))?;
    let brackets = if nested.kind.starts_with("Vec<") { ("[[", "]]") } else { ("[", "]") };
    write!(page, "\n## `{}{section}{}`\n\n{}\n", brackets.0, brackets.1, nested.docs())?;
    for field in fields_of(source, structure)? {
        let is_section = source.contains(&format!("pub struct {} {{", field.kind))
            || ["WorkersKind", "ScheduleSettings"].iter().any(|kind| field.kind.contains(kind));
        if !field.attributes.contains("skip") && !is_section {
            write_field(page, section, &field, default(&field), field.is_required(source, structure))?;
        }
    }
    Ok(())
}

fn write_field(page: &mut String, section: &str, field: &Field, default: Option<String>, required: bool) -> Result<()> {
    let variants = variants(&field.kind)?;
    write!(page, "\n### `{section}.{}`\n\n{}\n", field.name(), field.docs())?;
    if !variants.is_empty() {
        page.push('\n');
    }
    for (name, docs) in &variants {
        writeln!(page, "- `\"{name}\"`: {docs}")?;
    }
    let default = default.map(|value| {
        match variants.iter().find(|(name, _)| name.replace(['-', '_'], "") == value.to_lowercase()) {
            Some((name, _)) => format!("\"{name}\""),
            None => in_toml(&value),
        }
    });
    match default {
        Some(value) => writeln!(page, "\nDefault: `{value}`")?,
        None if required => writeln!(page, "\nRequired.")?,
        None => {}
    }
    Ok(())
}

/// Returns an enum's values as the file has them, each with its documentation; none for other types.
fn variants(kind: &str) -> Result<Vec<(String, String)>> {
    for directory in ["importer/src/config.rs", "importer/src", "decode/src"] {
        for path in sources(&repository().join(directory))? {
            let source = fs::read_to_string(path)?;
            let Some(at) = source.find(&format!("pub enum {kind} {{\n")) else { continue };
            let Some(style) = source[..at].lines().last().and_then(|line| between(line, "rename_all = \"", '"')) else {
                continue;
            };
            let fields = fields_of(&source, kind)?;
            return Ok(fields.iter().map(|field| (renamed(&field.rust_name, style), field.docs())).collect());
        }
    }
    Ok(Vec::new())
}

/// Returns where a struct or enum begins.
fn header(source: &str, name: &str) -> Option<usize> {
    ["pub struct", "struct", "pub enum"].iter().find_map(|word| source.find(&format!("{word} {name} {{\n")))
}

fn fields_of(source: &str, name: &str) -> Result<Vec<Field>> {
    let at = header(source, name).with_context(|| format!("there is no {name}"))?;
    let mut lines = source[at..].lines();
    lines.next();
    Ok(fields(&mut lines))
}

/// Reads fields or variants up to the closing brace.
fn fields(lines: &mut Lines<'_>) -> Vec<Field> {
    let mut found = Vec::new();
    let (mut comment, mut attributes) = (Vec::new(), String::new());
    while let Some(line) = lines.next().map(str::trim).filter(|line| !line.starts_with('}')) {
        if let Some(text) = line.strip_prefix("///") {
            comment.push(text.trim().to_owned());
        } else if line.starts_with("#[") {
            attributes.push_str(line);
        } else if !line.is_empty() {
            let inner = if line.ends_with('{') { fields(lines) } else { Vec::new() };
            let text = line.trim_start_matches("pub ").trim_end_matches([',', '{', '}', ' ']);
            let (name, kind) = text.split_once(": ").unwrap_or((text, ""));
            found.push(Field {
                rust_name: name.to_owned(),
                kind: kind.to_owned(),
                attributes: std::mem::take(&mut attributes),
                comment: std::mem::take(&mut comment),
                inner,
            });
        }
    }
    found
}

/// Returns the values of a struct's fields, as `{:#?}` shows them, each in one line.
fn debug_fields(debug: &str, structure: &str) -> BTreeMap<String, String> {
    let mut found: Vec<(String, String)> = Vec::new();
    let mut lines = debug.lines().skip_while(|line| !line.ends_with(&format!(" {structure} {{")));
    let indent = |line: &str| line.len() - line.trim_start().len();
    let outer = lines.next().map_or(0, indent);
    for line in lines.take_while(|line| indent(line) > outer) {
        match line.trim().split_once(": ") {
            Some((name, value)) if indent(line) == outer + 4 => found.push((name.to_owned(), value.to_owned())),
            _ => found.last_mut().into_iter().for_each(|(_, value)| *value = format!("{value} {}", line.trim())),
        }
    }
    let tidy = |value: String| value.trim_end_matches(',').replace("[ ", "[").replace(", ]", "]");
    found.into_iter().map(|(name, value)| (name, tidy(value))).collect()
}

/// Returns a value of `{:#?}` as TOML has it.
fn in_toml(value: &str) -> String {
    let value = value.strip_prefix("Some( ").and_then(|rest| rest.strip_suffix(", )")).unwrap_or(value);
    match between(value, "Percent( ", ',').and_then(|millionths| millionths.parse::<f64>().ok()) {
        Some(millionths) => format!("\"{}%\"", millionths / 1_000_000.0),
        None => value.to_owned(),
    }
}

fn between<'t>(text: &'t str, start: &str, end: char) -> Option<&'t str> {
    text.split_once(start)?.1.split(end).next()
}

/// Returns a variant's name as serde writes it.
fn renamed(name: &str, style: &str) -> String {
    let joint = match style {
        "kebab-case" => "-",
        "snake_case" => "_",
        _ => "",
    };
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push_str(joint);
        }
        text.extend(letter.to_lowercase());
    }
    text
}

/// Returns a file, or the sources below a directory, where it is there.
fn sources(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).into_iter().flatten() {
        let path = entry?.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "rs") {
            found.extend(sources(&path)?);
        }
    }
    found.sort();
    Ok(found)
}
