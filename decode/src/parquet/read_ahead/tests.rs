use super::*;
use crate::{Source, budget::Budget, trial::Memory};
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
        Box::new(move || {
            at_once.fetch_sub(1, Relaxed);
            Ok(bytes)
        })
    }
}

#[test]
fn columns_are_fetched_side_by_side() {
    for (ahead, expected) in [(true, 3), (false, 1)] {
        let content: Vec<u8> = (0..2_000_000u32).map(|i| (i % 251) as u8).collect();
        let most_at_once = Arc::<AtomicUsize>::default();
        let far =
            Far { content: content.clone().into(), at_once: Arc::default(), most_at_once: Arc::clone(&most_at_once) };
        let object = Arc::new(Object::open(Arc::new(far), &Budget::default()).expect("an object"));
        let window = Window { bytes: 100_000, ahead };
        let columns = [(); 3].map(|()| chunk_of(&object, Compression::SNAPPY, window));
        for at in (0..content.len()).step_by(10_000) {
            for column in &columns {
                assert_eq!(column.get_bytes(at as u64, 10_000).expect("bytes"), content[at..at + 10_000]);
            }
        }
        assert_eq!(most_at_once.load(Relaxed), expected, "reads at once");
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
    let schema = parse_message_type("message m { required int32 a; }").expect("a schema");
    let column = SchemaDescriptor::new(Arc::new(schema)).column(0);
    let builder = ColumnChunkMetaData::builder(column).set_compression(codec).set_data_page_offset(0);
    let metadata = builder.set_total_compressed_size(object.size() as i64).build().expect("metadata");
    ChunkBytes::new(Arc::clone(object), &metadata, window, false).expect("a chunk")
}
