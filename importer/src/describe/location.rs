//! What a file's address says: a name for its table, and a pattern for its like.

use crate::pattern::Pattern;

/// Names that say how a file was written and not what is in it.
const GENERIC: [&str; 10] = ["part", "data", "file", "export", "output", "out", "chunk", "batch", "sample", "dump"];

/// What an address says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Location {
    /// For the table and the dataset: lower case, an identifier without quotes.
    pub name: String,
    /// A `match` that takes the file and its like.
    pub pattern: String,
    /// For a local file: the like of it once it lies in a bucket.
    pub in_bucket: Option<String>,
    /// What the pattern's captures take from this address.
    pub captures: Vec<(String, Option<String>)>,
}

/// Reads an address: `s3://bucket/key`, or a local file's absolute path.
#[must_use]
pub fn locate(address: &str) -> Location {
    let (root, path) = match address.strip_prefix("s3://").and_then(|rest| rest.split_once('/')) {
        Some((bucket, key)) => (format!("s3://{}/", escaped(bucket)), key),
        None => ("/".to_owned(), address.trim_start_matches('/')),
    };
    let mut segments: Vec<&str> = path.split('/').collect();
    let file = segments.pop().unwrap_or_default();
    let mut named = Vec::new();
    let directories: Vec<String> = segments.iter().map(|segment| directory_pattern(segment, &mut named)).collect();
    let (start, file_pattern) = file_pattern(file);

    let proper = |segment: &&&str| !is_partition(segment) && !is_number_like(segment);
    let directory = segments.iter().rev().find(proper).copied();
    let says_nothing = start.is_empty() || GENERIC.contains(&start.to_ascii_lowercase().as_str());
    let is_partitioned = segments.iter().any(|segment| is_partition(segment));
    let by_directory = (says_nothing || is_partitioned) && directory.is_some();
    let name = identifier(if by_directory { directory.unwrap_or_default() } else { start });

    // A partition holds one kind of rows, whatever its files are called; another directory may hold several.
    let file_pattern = if is_partitioned && says_nothing { "**".to_owned() } else { file_pattern };
    let joined = |from: usize| {
        let mut parts: Vec<&str> = directories[from..].iter().map(String::as_str).collect();
        parts.push(&file_pattern);
        parts.join("/")
    };
    let pattern = format!("{root}{}", joined(0));
    let from = match segments.iter().rposition(|segment| proper(&segment)) {
        Some(place) => place,
        None => segments.len(),
    };
    let in_bucket = (root == "/").then(|| format!("s3://BUCKET/{}", joined(from)));
    let captures = Pattern::for_addresses(&pattern).ok().and_then(|pattern| pattern.captures(address));
    Location { name, pattern, in_bucket, captures: captures.unwrap_or_default() }
}

/// Returns whether a directory is a partition as Hive and Spark write them, `name=value`.
fn is_partition(segment: &str) -> bool {
    segment.split_once('=').is_some_and(|(name, value)| !name.is_empty() && !value.is_empty())
}

/// Returns whether a directory is a number or a date, which others beside it are not.
fn is_number_like(segment: &str) -> bool {
    segment.starts_with(|c: char| c.is_ascii_digit())
        && segment.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '_' | ':' | 'T' | 'Z'))
}

fn directory_pattern<'a>(segment: &'a str, named: &mut Vec<&'a str>) -> String {
    match segment.split_once('=') {
        Some((name, value)) if !value.is_empty() && may_be_captured(name) && !named.contains(&name) => {
            named.push(name);
            format!("{name}={{{name}}}")
        }
        Some((name, value)) if !name.is_empty() && !value.is_empty() => format!("{}=*", escaped(name)),
        _ if is_number_like(segment) => "*".to_owned(),
        _ => escaped(segment),
    }
}

fn may_be_captured(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-'))
}

/// Returns the part of a file's name that stays the same, and a pattern for the whole.
fn file_pattern(file: &str) -> (&str, String) {
    let stem_bytes = file.find('.').filter(|dot| *dot > 0).unwrap_or(file.len());
    let (stem, extensions) = file.split_at(stem_bytes);
    // What is between dots may vary as well: part-00000-….c000.snappy.parquet.
    let varies = |piece: &str| piece.chars().any(|c| c.is_ascii_digit());
    let first_varying = stem.split_inclusive(['-', '_', ' ']).scan(0, |at, piece| {
        let start = *at;
        *at += piece.len();
        Some((start, piece))
    });
    let Some((start, _)) = first_varying.into_iter().find(|(_, piece)| varies(piece)) else {
        return (stem, escaped(file));
    };
    let kept = &stem[..start];
    let extension = kept_extension(extensions);
    (kept.trim_end_matches(['-', '_', ' ']), format!("{}*{}", escaped(kept), escaped(extension)))
}

/// Returns the format's extension and that of its compression, without what may come before.
fn kept_extension(extensions: &str) -> &str {
    let Some(last) = extensions.rfind('.') else { return "" };
    let is_compression = matches!(extensions[last..].to_ascii_lowercase().as_str(), ".gz" | ".gzip" | ".zst" | ".zstd");
    match extensions[..last].rfind('.') {
        Some(before) if is_compression => &extensions[before..],
        _ => &extensions[last..],
    }
}

/// Returns a text as a pattern that matches just that.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '{' | '}' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

/// Returns a text as an identifier that needs no quotes.
pub fn identifier(text: &str) -> String {
    let folded = text.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    let name: String = folded.collect();
    let name = name.trim_matches('_');
    let mut pieces = name.split('_').filter(|piece| !piece.is_empty()).collect::<Vec<_>>().join("_");
    if !pieces.starts_with(|c: char| c.is_ascii_lowercase()) {
        pieces.insert_str(0, "t_");
    }
    pieces.truncate(48);
    pieces.trim_end_matches('_').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(address: &str, name: &str, pattern: &str, captures: &str) {
        let found = locate(address);
        let captured: Vec<String> =
            found.captures.iter().map(|(name, value)| format!("{name}={}", value.as_deref().unwrap_or("~"))).collect();
        assert_eq!(
            (found.name.as_str(), found.pattern.as_str(), captured.join(" ").as_str()),
            (name, pattern, captures)
        );
        let pattern = Pattern::for_addresses(&found.pattern).expect("a pattern");
        assert!(pattern.is_match(address), "{address} is not matched by its own pattern");
    }

    #[test]
    fn a_file_s_pattern_takes_it_and_its_like() {
        check("/data/flights/flights.csv.gz", "flights", "/data/flights/flights.csv.gz", "");
        check("s3://b/events/events-2026-01-31.ndjson.zst", "events", "s3://b/events/events-*.ndjson.zst", "");
        check("/data/json_gz/part-00000-77dd.c000.json.gz", "json_gz", "/data/json_gz/part-*.json.gz", "");
        check("s3://b/telemetry/2026/01/31/x9.avro", "telemetry", "s3://b/telemetry/*/*/*/*.avro", "");
        check("s3://b/part-0001", "part", "s3://b/part-*", "");
        check("s3://b/54ecdd60-965e.parquet", "t", "s3://b/*.parquet", "");
        check("/orders 2026.csv", "orders", "/orders *.csv", "");
        check("/a/odd{name}*.csv", "odd_name", r"/a/odd\{name\}\*.csv", "");
        check("/in/.hidden/data.csv", "hidden", "/in/.hidden/data.csv", "");
    }

    #[test]
    fn hive_partitions_become_captures() {
        check("/d/spark/dt=2026-01-31/part-00000-54.snappy.parquet", "spark", "/d/spark/dt={dt}/**", "dt=2026-01-31");
        check(
            "s3://b/t/country=%C3%85land/hour=__HIVE_DEFAULT_PARTITION__/000000_0",
            "t",
            "s3://b/t/country={country}/hour={hour}/**",
            "country=Åland hour=~",
        );
        check("s3://b/t/a=1/a=2/x.csv", "t", "s3://b/t/a={a}/a=*/x.csv", "a=1");
        check("s3://b/t/a.b=1/x1.csv", "t", "s3://b/t/a.b=*/**", "");
        check("s3://b/dt=2026-01-31/orders-1.csv", "orders", "s3://b/dt={dt}/orders-*.csv", "dt=2026-01-31");
    }

    #[test]
    fn a_local_file_s_like_in_a_bucket_is_named_from_its_directory_on() {
        let in_bucket = |address| locate(address).in_bucket;
        let expected = |pattern: &str| Some(pattern.to_owned());
        assert_eq!(in_bucket("/d/spark/dt=2026-01-31/part-00000.parquet"), expected("s3://BUCKET/spark/dt={dt}/**"));
        assert_eq!(in_bucket("/d/flights/planes.csv"), expected("s3://BUCKET/flights/planes.csv"));
        assert_eq!(in_bucket("/planes.csv"), expected("s3://BUCKET/planes.csv"));
        assert_eq!(in_bucket("s3://b/planes.csv"), None);
    }
}
