//! A row group's pages, counted as they are read.

use super::{
    delta::unfolded_bytes,
    groups::Windows,
    object::Object,
    old,
    read_ahead::{ChunkBytes, MAX_PAGE_BYTES},
    schema::{LEVELS_BYTES, value_bytes},
};
use crate::{
    DecodeError,
    budget::{Budget, Reservation},
};
use bytes::Bytes;
use parquet::{
    arrow::arrow_reader::RowGroups,
    column::page::{Page, PageIterator, PageMetadata, PageReader},
    errors::{ParquetError, Result},
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        serialized_reader::SerializedPageReader,
    },
    schema::types::ColumnDescPtr,
};
use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

/// What one batch of rows may take, all columns together: rows are batched by their average size,
/// and some are far from the average.
const MAX_BATCH_VALUES: u64 = 4 * 1024 * 1024;

/// Counts what a batch of rows reads.
pub struct Meter {
    /// Page bytes, beyond each column's first page, after which the batch is tried again with fewer rows.
    max_extra_bytes: u64,
    /// Off while a batch is a single row: that has to be read.
    may_stop: AtomicBool,
    has_stopped: AtomicBool,
    batch: AtomicU64,
    extra_bytes: AtomicU64,
    nested_values: AtomicU64,
    /// Of all batches, those that were given up among them.
    all_nested_values: AtomicU64,
    /// For nested values that the batch reads, and those of the pages in hand, which may be the next batch's.
    nested: Mutex<Nested>,
}

struct Nested {
    reserved: Reservation,
    of_pages: usize,
}

impl Meter {
    /// Returns a meter for batches of about `max_extra_bytes`.
    pub fn new(max_extra_bytes: u64, budget: &Budget) -> Self {
        Self {
            max_extra_bytes,
            may_stop: AtomicBool::new(true),
            has_stopped: AtomicBool::new(false),
            batch: AtomicU64::new(0),
            extra_bytes: AtomicU64::new(0),
            nested_values: AtomicU64::new(0),
            all_nested_values: AtomicU64::new(0),
            nested: Mutex::new(Nested { reserved: budget.nothing(), of_pages: 0 }),
        }
    }

    fn nested(&self) -> MutexGuard<'_, Nested> {
        self.nested.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reserves what a page's nested values take once they are read; `before` is what those of the last page took.
    fn reserve_nested(&self, before: usize, n_bytes: usize) -> std::result::Result<(), DecodeError> {
        let mut nested = self.nested();
        nested.reserved.grow("nested values of a Parquet page", n_bytes)?;
        nested.of_pages = nested.of_pages + n_bytes - before;
        Ok(())
    }

    /// Starts counting again.
    pub fn start_batch(&self, may_stop: bool) {
        self.may_stop.store(may_stop, Relaxed);
        self.has_stopped.store(false, Relaxed);
        self.batch.fetch_add(1, Relaxed);
        self.extra_bytes.store(0, Relaxed);
        self.nested_values.store(0, Relaxed);
        let Nested { reserved, of_pages } = &mut *self.nested();
        reserved.shrink_to(*of_pages);
    }

    /// Returns how many nested values were read so far.
    pub fn nested_values(&self) -> u64 {
        self.all_nested_values.load(Relaxed)
    }

    /// Returns whether the batch was given up because it became too large.
    pub fn has_stopped(&self) -> bool {
        self.has_stopped.load(Relaxed)
    }
}

/// One row group, as arrow's reader wants it.
pub struct RowGroup {
    /// The file's bytes.
    pub object: Arc<Object>,
    /// The file's metadata.
    pub metadata: Arc<ParquetMetaData>,
    /// Which row group it is.
    pub index: usize,
    /// How far to read ahead in each column.
    pub windows: Windows,
    /// What counts the pages.
    pub meter: Arc<Meter>,
}

impl RowGroup {
    fn pages(&self, column: usize) -> Result<Pages> {
        let group = self.metadata.row_group(self.index);
        let chunk = group.columns().get(column).ok_or(ParquetError::IndexOutOfBound(column, group.columns().len()))?;
        let window = self.windows.of(chunk.byte_range().1);
        let bytes = ChunkBytes::new(Arc::clone(&self.object), chunk, window, old::says_plain(&self.metadata))?;
        let bytes = Arc::new(bytes);
        let n_rows = usize::try_from(group.num_rows())?;
        Ok(Pages {
            inner: SerializedPageReader::new(Arc::clone(&bytes), chunk, n_rows, None)?,
            bytes,
            object: Arc::clone(&self.object),
            meter: Arc::clone(&self.meter),
            column: self.metadata.file_metadata().schema_descr().column(column),
            batch: 0,
            nested_bytes: 0,
        })
    }
}

impl RowGroups for RowGroup {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.index).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let pages: Box<dyn PageReader> = Box::new(self.pages(column)?);
        Ok(Box::new(OneChunk(Some(pages))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.index)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The column chunks of one column: one.
struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}

/// A column chunk's pages.
struct Pages {
    inner: SerializedPageReader<ChunkBytes>,
    bytes: Arc<ChunkBytes>,
    object: Arc<Object>,
    meter: Arc<Meter>,
    column: ColumnDescPtr,
    /// The batch that read the last page.
    batch: u64,
    /// What nested values of the last page take.
    nested_bytes: usize,
}

impl Drop for Pages {
    fn drop(&mut self) {
        self.meter.nested().of_pages -= self.nested_bytes;
    }
}

impl Pages {
    /// Counts a page; returns how many bytes it takes beside its own once it is read.
    fn count(&mut self, page: &Page) -> Result<u64> {
        let meter = &*self.meter;
        if page.is_dictionary_page() {
            // Memory for them is reserved before they are read. Each takes a byte at least.
            return match page.num_values() as usize > page.buffer().len() {
                true => Err(ParquetError::General("dictionary has more values than bytes".into())),
                false => Ok(0),
            };
        }
        let unfolded_bytes = unfolded_bytes(page, &self.column)?;
        if unfolded_bytes > MAX_PAGE_BYTES {
            let problem = format!("Parquet page that expands to {unfolded_bytes} bytes, {MAX_PAGE_BYTES} are allowed");
            return Err(self.object.refuse(DecodeError::Limits(problem), "page too large"));
        }
        let batch = meter.batch.load(Relaxed);
        if std::mem::replace(&mut self.batch, batch) == batch {
            let length = unfolded_bytes.max(page.buffer().len() as u64);
            let extra_bytes = meter.extra_bytes.fetch_add(length, Relaxed) + length;
            if extra_bytes > meter.max_extra_bytes && meter.may_stop.load(Relaxed) {
                meter.has_stopped.store(true, Relaxed);
                return Err(ParquetError::General("batch too large".into()));
            }
        }
        if self.column.max_rep_level() == 0 {
            return Ok(unfolded_bytes);
        }
        // A row's repeated values are all read before the row can be looked at, and they can be
        // packed into next to nothing.
        let n_values = u64::from(page.num_values());
        meter.all_nested_values.fetch_add(n_values, Relaxed);
        if meter.nested_values.fetch_add(n_values, Relaxed) + n_values > MAX_BATCH_VALUES {
            let problem = format!("more than {MAX_BATCH_VALUES} nested values at once");
            return Err(self.too_many_nested(DecodeError::Limits(problem)));
        }
        let n_bytes = n_values as usize * (value_bytes(&self.column) + 2 * LEVELS_BYTES);
        meter.reserve_nested(self.nested_bytes, n_bytes).map_err(|error| self.too_many_nested(error))?;
        self.nested_bytes = n_bytes;
        Ok(unfolded_bytes)
    }

    /// Gives the batch up, to be tried again with fewer rows; where that cannot be, the file.
    fn too_many_nested(&self, error: DecodeError) -> ParquetError {
        const WHAT: &str = "too many nested values";
        if self.meter.may_stop.load(Relaxed) {
            self.meter.has_stopped.store(true, Relaxed);
            return ParquetError::General(WHAT.into());
        }
        self.object.refuse(error, WHAT)
    }

    /// Ties the memory that was reserved for a page to its bytes: values that are read point into them.
    fn with_reservation(&self, mut page: Page, unfolded_bytes: u64) -> Result<Page> {
        let Some(mut reserved) = self.bytes.take_page_bytes(page.is_dictionary_page()) else {
            return Err(ParquetError::General("page whose header was not read".into()));
        };
        let unfolding = reserved.grow("a Parquet page that expands", unfolded_bytes as usize);
        unfolding.map_err(|error| self.object.refuse(error, "page too large"))?;
        let (Page::DataPage { buf, .. } | Page::DataPageV2 { buf, .. } | Page::DictionaryPage { buf, .. }) = &mut page;
        *buf = Bytes::from_owner(Reserved { bytes: std::mem::take(buf), _reserved: reserved });
        Ok(page)
    }

    fn counted(&mut self, page: Option<Page>) -> Result<Option<Page>> {
        let Some(page) = page else { return Ok(None) };
        let unfolded_bytes = self.count(&page)?;
        self.with_reservation(page, unfolded_bytes).map(Some)
    }
}

/// Bytes with the memory that was reserved for them.
struct Reserved {
    bytes: Bytes,
    _reserved: Reservation,
}

impl AsRef<[u8]> for Reserved {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl PageReader for Pages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let page = self.inner.get_next_page()?;
        self.counted(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.inner.skip_next_page()?;
        self.bytes.take_page_bytes(false);
        Ok(())
    }

    fn supports_deferred_dictionary(&self) -> bool {
        self.inner.supports_deferred_dictionary()
    }

    fn take_deferred_dictionary(&mut self) -> Result<Option<Page>> {
        let page = self.inner.take_deferred_dictionary()?;
        self.counted(page)
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        self.inner.at_record_boundary()
    }
}

impl Iterator for Pages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
