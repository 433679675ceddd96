//! The second look: the sample is decoded into the proposed columns, and what refuses a value is made wider.

use super::{plan::Description, sample::Extent, types};
use decode::{Batch, DecodeError, Mapping, MappingSpec, OnNewField, Source};
use std::{collections::BTreeSet, sync::Arc};

/// No type is widened more often than this.
const MAX_ROUNDS: usize = 8;
/// Bytes asked of the decoder at once.
const BATCH_BYTES: usize = 256 * 1024;

/// Widens columns until the sample's rows load, or only rows are left that no column could take.
///
/// # Errors
/// As [`decode::open`] and [`decode::RowReader::fill`].
pub fn widen(source: &Arc<dyn Source>, description: &mut Description, extent: Extent) -> Result<(), DecodeError> {
    for _ in 0..MAX_ROUNDS {
        description.read.csv.null = description.null_texts().into_iter().map(str::to_owned).collect();
        let refusing = refusing_columns(source, description, extent)?;
        let mut any = false;
        for column in description.columns.iter_mut().filter(|column| refusing.contains(&column.name)) {
            let Some(wider) = types::wider(&column.sql_type) else { continue };
            // The first type is the one worth explaining.
            if !std::mem::replace(&mut column.is_widened, true) {
                column.notes.push(format!("{} does not take every value", types::name(&column.sql_type)));
            }
            column.sql_type = wider;
            description.types.remove(&column.name);
            column.null_texts.clear();
            any = true;
        }
        if !any {
            break;
        }
    }
    Ok(())
}

/// Returns the columns that refuse a value, and notes how many rows are refused.
fn refusing_columns(
    source: &Arc<dyn Source>,
    description: &mut Description,
    extent: Extent,
) -> Result<BTreeSet<String>, DecodeError> {
    let mut reader = decode::open(Arc::clone(source), &description.read)?;
    let columns = decoder_columns(description);
    let spec = MappingSpec {
        columns: &columns,
        rename: &description.rename,
        captures: &description.location.captures,
        types: &description.types,
        on_new_field: if description.extras.is_some() { OnNewField::Extras } else { OnNewField::Ignore },
        extras_column: description.extras.as_deref(),
        key: &description.key,
    };
    let mapping = Mapping::new(reader.fields(), &spec).map_err(DecodeError::Schema)?;
    reader.set_mapping(Arc::new(mapping));
    let mut refusing = BTreeSet::new();
    (description.n_rejected, description.first_reject) = (0, None);
    let mut batch = Batch::default();
    let (mut n_rows, mut n_bytes, mut more) = (0, 0, true);
    while more && n_rows < extent.rows && n_bytes < extent.bytes {
        batch.clear();
        more = match reader.fill(&mut batch, BATCH_BYTES) {
            Err(DecodeError::Corrupt(_)) if description.is_broken => false,
            filled => filled?,
        };
        n_rows += batch.n_read;
        n_bytes += batch.size() as u64;
        description.n_rejected += batch.rejects.len() as u64;
        for reject in batch.rejects.drain(..) {
            refusing.extend(reject.column);
            description
                .first_reject
                .get_or_insert_with(|| format!("row {}: {} ({})", reject.row_number, reject.message, reject.class));
        }
    }
    Ok(refusing)
}

/// Says so where the sample has more rejects than a dataset takes.
pub fn say_what_does_not_load(description: &mut Description) {
    let Description { n_rows, n_rejected, is_broken, .. } = *description;
    let is_too_many = n_rejected > 1 && n_rejected * 100 > n_rows;
    if !is_broken && n_rejected > 0 && (is_too_many || n_rejected == n_rows) {
        let problem = format!("the file does not load as it is: {n_rejected} of {n_rows} rows are rejects");
        description.remarks.push(format!("{problem}, and max_rejects is 1%"));
    }
}

/// Returns the columns that the decoder fills.
pub fn decoder_columns(description: &Description) -> Vec<decode::Column> {
    let column = |name: &str, pg_type| decode::Column {
        not_null: description.key.iter().any(|key| key == name),
        name: name.to_owned(),
        pg_type,
        has_default: false,
    };
    let proposed = description.columns.iter().map(|proposed| column(&proposed.name, proposed.sql_type.clone()));
    let extras = description.extras.iter().map(|name| column(name, decode::encode::PgType::Jsonb));
    proposed.chain(extras).collect()
}
