//! A key of several columns, where none identifies rows by itself.

use super::{
    plan::{Description, key_rank, may_be_key},
    sample::{Cells, Extent},
    verify::decoder_columns,
};
use decode::{Batch, DecodeError, Mapping, MappingSpec, OnNewField, Source, encode::PgType};
use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

/// Of more columns there are too many pairs and threes to try.
const MAX_CANDIDATES: usize = 5;
/// Combinations of values remembered at once; beyond it nothing is proposed.
const MAX_REMEMBERED: usize = 4_000_000;
/// Bytes asked of the decoder at once.
const BATCH_BYTES: usize = 256 * 1024;
/// Names of what counts within something else.
const ORDINALS: [&str; 14] = [
    "line",
    "line_no",
    "line_number",
    "linenumber",
    "position",
    "pos",
    "seq",
    "sequence",
    "sequence_number",
    "no",
    "number",
    "version",
    "index",
    "part",
];

/// Columns of which each row has values of its own, together.
struct Combination {
    /// Places among the candidates.
    columns: Vec<usize>,
    seen: HashSet<u64>,
}

/// Looks for columns that identify rows together. By what they are called they are the key, or only an idea of one.
///
/// # Errors
/// As [`decode::open`] and [`decode::RowReader::fill`].
pub fn find_key(source: &Arc<dyn Source>, description: &mut Description, extent: Extent) -> Result<(), DecodeError> {
    let candidates = candidates(description);
    if candidates.len() < 2 || description.n_rows < 2 || description.is_broken {
        return Ok(());
    }
    let n = candidates.len();
    let pairs = (0..n).flat_map(|a| (a + 1..n).map(move |b| vec![a, b]));
    let threes = (0..n).flat_map(|a| (a + 1..n).flat_map(move |b| (b + 1..n).map(move |c| vec![a, b, c])));
    let mut left: Vec<Combination> =
        pairs.chain(threes).map(|columns| Combination { columns, seen: HashSet::new() }).collect();
    each_row(source, description, extent, &candidates, |hashes| {
        left.retain_mut(|combination| {
            let mut hasher = DefaultHasher::new();
            combination.columns.iter().for_each(|column| hashes[*column].hash(&mut hasher));
            combination.seen.insert(hasher.finish())
        });
        if left.iter().map(|combination| combination.seen.len()).sum::<usize>() > MAX_REMEMBERED {
            left.clear();
        }
        !left.is_empty()
    })?;
    let named = |combination: Combination| -> Vec<String> {
        combination.columns.iter().map(|column| candidates[*column].clone()).collect()
    };
    let found: Vec<Vec<String>> = left.into_iter().map(named).collect();
    let table = &description.location.name;
    let of_key = |name: &String| key_rank(name, table).is_some();
    let within = |name: &String| of_key(name) || is_ordinal(name) || is_moment(description, name);
    match found.iter().position(|names| of_key(&names[0]) && names.iter().all(within)) {
        Some(place) => description.key = found[place].clone(),
        None if description.key_ideas.is_empty() => description.key_ideas.extend(found.into_iter().next()),
        None => {}
    }
    Ok(())
}

/// Returns the columns that could be part of a key, the likeliest first.
fn candidates(description: &Description) -> Vec<String> {
    let table = &description.location.name;
    let columns = description.columns.iter().filter(|column| description.complete.contains(&column.name));
    let mut ranked: Vec<(u8, &String)> = columns
        .filter_map(|column| {
            let rank = match key_rank(&column.name, table) {
                Some(rank) => rank,
                None if is_ordinal(&column.name) => 10,
                None if is_moment(description, &column.name) => 11,
                None => 12,
            };
            let is_measure = matches!(column.sql_type, PgType::Numeric(_));
            let is_unique = description.key_ideas.iter().any(|idea| idea[..] == [column.name.clone()]);
            let may_be = may_be_key(&column.sql_type) && !is_measure || is_moment(description, &column.name);
            (may_be && !is_unique).then_some((rank, &column.name))
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().take(MAX_CANDIDATES).map(|(_, name)| name.clone()).collect()
}

fn is_ordinal(name: &str) -> bool {
    ORDINALS.contains(&name.to_ascii_lowercase().as_str())
}

fn is_moment(description: &Description, name: &str) -> bool {
    let column = description.columns.iter().find(|column| column.name == name);
    column.is_some_and(|column| matches!(column.sql_type, PgType::Date | PgType::Timestamp | PgType::TimestampTz))
}

/// Hands hashes of each row's values in these columns to `add`, until that has seen enough.
fn each_row(
    source: &Arc<dyn Source>,
    description: &Description,
    extent: Extent,
    names: &[String],
    mut add: impl FnMut(&[u64]) -> bool,
) -> Result<(), DecodeError> {
    let mut reader = decode::open(Arc::clone(source), &description.read)?;
    let columns = decoder_columns(description);
    let spec = MappingSpec {
        columns: &columns,
        rename: &description.rename,
        captures: &description.location.captures,
        types: &description.types,
        on_new_field: OnNewField::Ignore,
        extras_column: None,
        key: &[],
    };
    let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
    let places: Vec<Option<usize>> =
        mapping.columns().iter().map(|column| names.iter().position(|name| *name == column.name)).collect();
    reader.set_mapping(Arc::new(mapping));
    let mut batch = Batch::default();
    let mut hashes = vec![0; names.len()];
    let (mut n_rows, mut n_bytes, mut more) = (0, 0, true);
    while more && n_rows < extent.rows && n_bytes < extent.bytes {
        batch.clear();
        more = reader.fill(&mut batch, BATCH_BYTES)?;
        n_rows += batch.n_read;
        n_bytes += batch.size() as u64;
        let mut start = 0;
        for &end in &batch.ends {
            // The row's number comes first.
            let cells = Cells::of(&batch.data[start..end]).skip(1);
            for (cell, place) in cells.zip(&places) {
                if let Some(place) = place {
                    let mut hasher = DefaultHasher::new();
                    cell.hash(&mut hasher);
                    hashes[*place] = hasher.finish();
                }
            }
            start = end;
            if !add(&hashes) {
                return Ok(());
            }
        }
    }
    Ok(())
}
