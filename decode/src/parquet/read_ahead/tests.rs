use super::*;
use crate::{
    Source,
    budget::{Budget, Pool},
    trial::Memory,
};
use parquet::schema::{parser::parse_message_type, types::SchemaDescriptor};
use std::{
    io::Write as _,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

#[test]
fn a_gzip_page_that_holds_more_than_its_header_says_is_refused_before_it_is_unpacked() {
    let noise = (0..300_000u64)
        .map(|i| (i.wrapping_mul(i).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as u8)
        .collect::<Vec<_>>();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&noise).expect("memory");
    let data = encoder.finish().expect("memory");
    for (stated, fits) in [(noise.len(), true), (noise.len() - 1, false)] {
        let header = header(stated, data.len());
        let (_, chunk) = chunk([&header[..], &data].concat(), Compression::GZIP(Default::default()), 1 << 20);
        assert_eq!(chunk.get_read(0).expect("a header").read(&mut [0]).expect("a header"), 1);
        assert_eq!(chunk.get_bytes(header.len() as u64, data.len()).is_ok(), fits);
    }
}

#[test]
fn an_lz4_frame_of_any_kind_that_holds_more_than_its_header_says_is_refused() {
    let zeros = vec![0; 1 << 20];
    let block = lz4_flex::block::compress(&zeros);
    let legacy = [&[0x02, 0x21, 0x4C, 0x18][..], &(block.len() as u32).to_le_bytes(), &block].concat();
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(&zeros).expect("memory");
    let frame = encoder.finish().expect("memory");
    for (data, buffers) in [(legacy, 24 << 20), (frame, 3 << 20)] {
        assert!(lz4_frame_buffers(&data) >= buffers, "{} bytes", lz4_frame_buffers(&data));
        for (stated, fits) in [(zeros.len(), true), (100, false)] {
            let header = header(stated, data.len());
            let (_, chunk) = chunk([&header[..], &data].concat(), Compression::LZ4, 1 << 20);
            assert_eq!(chunk.get_read(0).expect("a header").read(&mut [0]).expect("a header"), 1);
            assert_eq!(chunk.get_bytes(header.len() as u64, data.len()).is_ok(), fits);
        }
    }
}

#[test]
fn a_dictionary_that_is_read_late_is_held_to_its_own_header() {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&[0; 300_000]).expect("memory");
    let data = encoder.finish().expect("memory");
    for (stated, fits) in [(300_000, true), (299_999, false)] {
        let mut first = header(stated, data.len());
        // A dictionary of one value.
        first[1] = 4;
        first.splice(first.len() - 1.., [0x4c, 0x15, 2, 0, 0]);
        let second = header(1 << 20, 1);
        let content = [&first[..], &data, &second, b"x"].concat();
        let (_, chunk) = chunk(content, Compression::GZIP(Default::default()), 1 << 20);
        for start in [0, first.len() + data.len()] {
            chunk.get_read(start as u64).expect("a header").read_exact(&mut [0]).expect("a header");
        }
        assert_eq!(chunk.get_bytes(first.len() as u64, data.len()).is_ok(), fits);
    }
}

#[test]
fn a_page_too_large_for_memory_is_a_limit_and_one_beyond_the_chunk_is_corrupt() {
    let (object, chunk) = chunk(header(1 << 30, 10), Compression::SNAPPY, 1 << 20);
    assert!(chunk.get_read(0).expect("a header").read(&mut [0]).is_err());
    let error = object.explain(&ParquetError::General("broken".into()));
    assert!(matches!(error, DecodeError::Limits(_)), "{error}");
    assert!(chunk.get_bytes(0, 1 << 20).is_err());
}

#[test]
fn bytes_are_right_however_they_are_asked_for() {
    bytes_are_right(false);
    bytes_are_right(true);
}

/// A source far away: every read takes a while, and begins when it is started.
struct Far {
    content: Bytes,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
}

impl Source for Far {
    fn size(&self) -> u64 {
        self.content.len() as u64
    }

    fn name(&self) -> &str {
        "far"
    }

    fn stream(&self) -> io::Result<Box<dyn Read + Send>> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, offset: u64, len: usize) -> io::Result<Bytes> {
        self.start_read(offset, len)()
    }

    fn start_read(&self, offset: u64, len: usize) -> Reading {
        let bytes = self.content.slice(offset as usize..offset as usize + len);
        let (at_once, most) = (Arc::clone(&self.at_once), Arc::clone(&self.most_at_once));
        most.fetch_max(at_once.fetch_add(1, Relaxed) + 1, Relaxed);
        let running = Running(at_once);
        Box::new(move || {
            drop(running);
            Ok(bytes)
        })
    }
}

/// A read under way, which ends with its answer or when nobody waits for it.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[test]
fn columns_are_fetched_side_by_side_as_far_as_memory_goes() {
    // Planned, with memory for it although it is not, and without.
    let little = || Budget::new(3 * 2 * 100_000, Pool::new(0, 1));
    for (ahead, budget, expected) in [(true, Budget::default(), 3), (false, Budget::default(), 3), (false, little(), 1)]
    {
        let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let most_at_once = Arc::<AtomicUsize>::default();
        let at_once = Arc::<AtomicUsize>::default();
        let (content_there, most) = (content.clone().into(), Arc::clone(&most_at_once));
        let far = Far { content: content_there, at_once: Arc::clone(&at_once), most_at_once: most };
        let object = Arc::new(Object::open(Arc::new(far), &budget).expect("an object"));
        let window = Window { bytes: 100_000, ahead };
        let columns = [(); 3].map(|()| chunk_of(&object, Compression::SNAPPY, window));
        most_at_once.store(at_once.load(Relaxed), Relaxed);
        for at in (0..content.len()).step_by(10_000) {
            for column in &columns {
                assert_eq!(column.get_bytes(at as u64, 10_000).expect("bytes"), content[at..at + 10_000]);
            }
        }
        assert_eq!(most_at_once.load(Relaxed), expected, "reads at once");
    }
}

#[test]
fn a_dictionary_and_pages_longer_than_a_window_are_one_read_each() {
    let content = vec![0; 2_000_000];
    let memory = Arc::new(Memory::new(content));
    let object = Arc::new(Object::open(Arc::clone(&memory) as Arc<dyn Source>, &Budget::default()).expect("an object"));
    let n_reads = || memory.n_reads.load(Relaxed);
    let chunk = chunk_with(&object, Compression::SNAPPY, Window { bytes: 100_000, ahead: true }, Some(500_000));
    chunk.get_bytes(0, 500_000).expect("the dictionary");
    // And one is under way.
    assert_eq!(n_reads(), 2);
    chunk.shared.state().longest = 400_000;
    for start in [500_000, 900_000, 1_300_000] {
        chunk.get_bytes(start, 400_000).expect("a page");
    }
    assert_eq!(n_reads(), 6, "one that was too short as pages were not known yet, one for each page");
}

#[test]
fn what_is_read_ahead_without_a_plan_is_given_up_for_what_needs_memory() {
    let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
    let object = Object::open(Arc::new(Memory::new(content.clone())), &Budget::new(400_000, Pool::new(0, 1)));
    let object = Arc::new(object.expect("an object"));
    let chunk = chunk_of(&object, Compression::SNAPPY, Window { bytes: 100_000, ahead: false });
    chunk.get_bytes(0, 10_000).expect("bytes");
    assert!(chunk.shared.state().ahead.is_some());
    let _page = object.budget.reserve("a page", 150_000).expect("instead of it");
    assert!(chunk.shared.state().ahead.is_none());
    for at in (10_000..content.len()).step_by(10_000) {
        assert_eq!(chunk.get_bytes(at as u64, 10_000).expect("bytes"), content[at..at + 10_000]);
    }
}

fn bytes_are_right(ahead: bool) {
    let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
    let memory = Arc::new(Memory::new(content.clone()));
    let object = Arc::new(Object::open(Arc::clone(&memory) as Arc<dyn Source>, &Budget::default()).expect("an object"));
    let chunk = chunk_of(&object, Compression::SNAPPY, Window { bytes: 200_000, ahead });
    let mut at = 0;
    for length in (0..).map(|i| i * 7_919 % 90_000) {
        let end = content.len().min(at + length);
        let view = chunk.shared.view(&mut chunk.shared.state(), at as u64, 20).expect("bytes");
        assert_eq!(view, content[at..at + view.len()]);
        assert_eq!(chunk.get_bytes(at as u64, end - at).expect("bytes"), content[at..end]);
        at = end;
        if at == content.len() {
            break;
        }
    }
    assert!(memory.n_reads.load(Relaxed) < 20, "{} reads", memory.n_reads.load(Relaxed));
}

fn header(uncompressed: usize, compressed: usize) -> Vec<u8> {
    let mut out = vec![0x15, 0x00];
    for length in [uncompressed, compressed] {
        out.push(0x15);
        let mut value = length << 1;
        while value > 0x7f {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
    }
    out.push(0);
    out
}

fn chunk(content: Vec<u8>, codec: Compression, bytes: usize) -> (Arc<Object>, ChunkBytes) {
    let object = Arc::new(Object::open(Arc::new(Memory::new(content)), &Budget::default()).expect("an object"));
    let chunk = chunk_of(&object, codec, Window { bytes, ahead: false });
    (object, chunk)
}

fn chunk_of(object: &Arc<Object>, codec: Compression, window: Window) -> ChunkBytes {
    chunk_with(object, codec, window, None)
}

fn chunk_with(object: &Arc<Object>, codec: Compression, window: Window, dictionary: Option<i64>) -> ChunkBytes {
    let schema = parse_message_type("message m { required int32 a; }").expect("a schema");
    let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
    let builder = ColumnChunkMetaData::builder(column).set_compression(codec);
    let builder = builder.set_data_page_offset(dictionary.unwrap_or(0));
    let builder = builder.set_dictionary_page_offset(dictionary.map(|_| 0));
    let metadata = builder.set_total_compressed_size(object.size() as i64).build().expect("metadata");
    ChunkBytes::new(Arc::clone(object), &metadata, window, false).expect("a chunk")
}
