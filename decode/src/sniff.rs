//! What an object is, from its first bytes, its declared format and its name.

use super::{DecodeError, Format};

/// What to read an object as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Parquet,
    Avro,
    /// With what the JSON reader is told: the declared format, or that of the name.
    Json(Format),
    Csv,
    Text,
}

impl Kind {
    /// Returns what people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Parquet => "Parquet",
            Self::Avro => "Avro",
            Self::Json(_) => "JSON",
            Self::Csv => "CSV",
            Self::Text => "text",
        }
    }
}

/// Formats that are recognised only to say so.
const OTHERS: [(&[u8], &str); 23] = [
    (b"PK\x03\x04", "a zip archive"),
    (b"PK\x05\x06", "a zip archive"),
    (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
    (b"Rar!\x1A\x07", "a RAR archive"),
    (b"\x04\x22\x4D\x18", "lz4"),
    (b"\x02\x21\x4C\x18", "lz4"),
    (b"\x82SNAPPY\0", "snappy in blocks"),
    (b"\x1F\x9D", "compress"),
    (b"\x1F\xA0", "compress"),
    (b"\x89LZO\0", "lzop"),
    (b"LZIP\x01", "lzip"),
    (b"ORC", "ORC"),
    (b"PARE", "encrypted Parquet"),
    (b"ARROW1\0\0", "Arrow"),
    (b"\xFF\xFF\xFF\xFF", "an Arrow stream"),
    (b"FEA1", "Feather"),
    (b"SEQ\x06", "a Hadoop sequence file"),
    (b"RCF\x01", "RCFile"),
    (b"\x89HDF\r\n\x1A\n", "HDF5"),
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Office document"),
    (b"%PDF-", "PDF"),
    (b"SQLite format 3\0", "SQLite"),
    (b"\x89PNG\r\n\x1A\n", "PNG"),
];
/// Those whose first bytes could begin a text: a header may be `PARENT_ID`.
const LIKE_TEXT: [&str; 3] = ["ORC", "encrypted Parquet", "Feather"];

/// Returns what content is that is not read here.
fn other(head: &[u8]) -> Option<&'static str> {
    let by_magic = OTHERS.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, other)| *other);
    // What could begin a text as well needs more to go by.
    let is_text = |byte: &u8| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C);
    let is_binary = head.iter().take(64).any(|byte| !is_text(byte));
    let by_magic = by_magic.filter(|other| is_binary || !LIKE_TEXT.contains(other));
    let is_tar = head.get(257..262) == Some(b"ustar");
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    let begins = |with: &[u8]| text.get(..with.len()).is_some_and(|start| start.eq_ignore_ascii_case(with));
    by_magic
        .or(is_tar.then_some("a tar archive"))
        .or((begins(b"<!doctype html") || begins(b"<html")).then_some("HTML"))
        .or(begins(b"<?xml").then_some("XML"))
}

/// Decides by magic number, then the declared format, then the name, then the look of the content.
///
/// # Errors
/// [`DecodeError::Corrupt`] when the content is not what is declared, or nothing that is read here.
pub fn kind(head: &[u8], declared: Format, name: &str) -> Result<Kind, DecodeError> {
    let magic = match head {
        [b'P', b'A', b'R', b'1', ..] => Some((Kind::Parquet, Format::Parquet)),
        [b'O', b'b', b'j', 1, ..] => Some((Kind::Avro, Format::Avro)),
        _ => None,
    };
    if let Some((kind, format)) = magic {
        return match declared == Format::Auto || declared == format {
            true => Ok(kind),
            false => Err(not_declared(declared, &format!("{format:?}"))),
        };
    }
    // A line may begin with a tag.
    let is_tag = |other: &&str| declared == Format::Text && matches!(*other, "HTML" | "XML");
    if let Some(other) = other(head).filter(|other| !is_tag(other)) {
        return Err(DecodeError::Corrupt(format!("{other}, which is not supported")));
    }
    match declared {
        Format::Parquet | Format::Avro => Err(not_declared(declared, "something else")),
        Format::Json | Format::Ndjson => Ok(Kind::Json(declared)),
        Format::Csv => Ok(Kind::Csv),
        Format::Text => Ok(Kind::Text),
        Format::Auto => by_name(name).map_or_else(|| by_look(head), Ok),
    }
}

/// Returns whether declaration or name say Parquet, so that its magic number is worth a read of its own.
pub fn may_be_parquet(declared: Format, name: &str) -> bool {
    match declared {
        Format::Parquet => true,
        Format::Auto => matches!(extension(name).as_str(), "parquet" | "pq" | "parq"),
        _ => false,
    }
}

fn by_name(name: &str) -> Option<Kind> {
    match extension(name).as_str() {
        "csv" | "tsv" | "tab" => Some(Kind::Csv),
        // Spark and others put a value a line into `.json` too: the reader looks.
        "json" => Some(Kind::Json(Format::Auto)),
        "ndjson" | "jsonl" | "jsonlines" => Some(Kind::Json(Format::Ndjson)),
        _ => None,
    }
}

/// Returns the configured delimiter, or where that is the usual one what the object's name says.
pub fn delimiter(configured: u8, name: &str) -> u8 {
    let is_tab = configured == b',' && matches!(extension(name).as_str(), "tsv" | "tab");
    if is_tab { b'\t' } else { configured }
}

/// Returns the last extension that is not a compression's, in lower case.
fn extension(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name).to_ascii_lowercase();
    let mut extensions = file.rsplit('.');
    let found = extensions
        .by_ref()
        .find(|ext| !matches!(*ext, "gz" | "gzip" | "zst" | "zstd" | "bz2" | "xz" | "zz" | "zlib" | "sz" | "snappy"));
    // The last piece is the name itself: `csv` alone is no extension.
    match (found, extensions.next()) {
        (Some(extension), Some(_)) => extension.to_owned(),
        _ => String::new(),
    }
}

fn by_look(head: &[u8]) -> Result<Kind, DecodeError> {
    if super::encoding::is_utf16(head) {
        // A bracket and a zero, in either order, after the two bytes of the BOM.
        let is_json =
            head.get(2..4).is_some_and(|pair| pair.iter().any(|byte| matches!(byte, b'{' | b'[')) && pair.contains(&0));
        return Ok(if is_json { Kind::Json(Format::Auto) } else { Kind::Csv });
    }
    let text = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
    if matches!(text.first(), Some(b'{' | b'[')) {
        return Ok(Kind::Json(Format::Auto));
    }
    if text.iter().any(|byte| byte.is_ascii_control() && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0C | 0x1B)) {
        return Err(DecodeError::Corrupt("binary, and neither Parquet nor Avro".into()));
    }
    Ok(Kind::Csv)
}

fn not_declared(declared: Format, found: &str) -> DecodeError {
    let declared = format!("{declared:?}").to_lowercase();
    DecodeError::Corrupt(format!("declared as {declared}, but the content is {}", found.to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn is(head: &[u8], declared: Format, name: &str, expected: &str) {
        let kind = match kind(head, declared, name) {
            Ok(kind) => format!("{kind:?}"),
            Err(error) => error.to_string(),
        };
        assert_eq!(kind, expected, "{name}");
    }

    #[test]
    fn magic_numbers_win_unless_something_else_is_declared() {
        is(b"PAR1....", Format::Auto, "a.csv", "Parquet");
        is(b"Obj\x01....", Format::Avro, "a", "Avro");
        is(b"PAR1", Format::Csv, "a.csv", "corrupt: declared as csv, but the content is parquet");
        is(b"a,b\n", Format::Parquet, "a.parquet", "corrupt: declared as parquet, but the content is something else");
        is(b"PK\x03\x04..", Format::Csv, "a.csv", "corrupt: a zip archive, which is not supported");
    }

    #[test]
    fn what_is_not_read_is_named_whatever_is_declared() {
        let mut tar = b"a.json\0".to_vec();
        tar.resize(257, 0);
        tar.extend(b"ustar\x0000");
        for (head, other) in [
            (&tar[..], "a tar archive"),
            (b"7z\xBC\xAF\x27\x1C", "a 7z archive"),
            (b"PARE\x15\0..", "encrypted Parquet"),
            (b"ARROW1\0\0", "Arrow"),
            (b" <!DOCTYPE HTML>", "HTML"),
            (b"<?xml version='1.0'?>", "XML"),
        ] {
            for declared in [Format::Auto, Format::Csv, Format::Ndjson] {
                is(head, declared, "a.json", &format!("corrupt: {other}, which is not supported"));
            }
        }
    }

    #[test]
    fn a_text_that_begins_like_something_else_is_a_text() {
        for text in ["PARENT_ID,x\n1,2\n", "FEA1,b\n", "ORC,ä\n"] {
            is(text.as_bytes(), Format::Auto, "a.csv", "Csv");
        }
    }

    #[test]
    fn declared_formats_win_over_names_and_names_over_looks() {
        is(b"{}", Format::Csv, "a.json", "Csv");
        is(b"a\tb", Format::Csv, "a.tsv.gz", "Csv");
        is(b"a,b", Format::Json, "a.csv", "Json(Json)");
        is(b"{", Format::Auto, "a.CSV.gz", "Csv");
        is(b"x", Format::Auto, "dir.csv/a.jsonl.zst", "Json(Ndjson)");
        is(b"x", Format::Auto, "a.json.gz.gz", "Json(Auto)");
    }

    #[test]
    fn the_name_says_the_delimiter_unless_one_is_configured() {
        for (configured, name, expected) in
            [(b',', "a.tsv.gz", b'\t'), (b',', "a.TAB", b'\t'), (b';', "a.tsv", b';'), (b',', "tsv", b',')]
        {
            assert_eq!(delimiter(configured, name), expected, "{name}");
        }
    }

    #[test]
    fn nameless_content_is_known_by_its_look() {
        is(b" \n{\"a\":1}", Format::Auto, "part-0000", "Json(Auto)");
        is(b"\xEF\xBB\xBF[1]", Format::Auto, "json", "Json(Auto)");
        is(b"\xFF\xFE{\0", Format::Auto, "a", "Json(Auto)");
        is(b"\xFE\xFF\0a\0,", Format::Auto, "a", "Csv");
        is(b"id,n\xE4me\n", Format::Auto, "a.txt", "Csv");
        is(b"\x7FELF\x02\x01\x01\0", Format::Auto, "a", "corrupt: binary, and neither Parquet nor Avro");
        is(b"", Format::Auto, ".csv", "Csv");
    }
}
