use super::super::testing::{Memory, options};
use super::*;
use proptest::prelude::*;
use std::io::Write;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}

fn read(bytes: Vec<u8>) -> Result<(Vec<u8>, usize), DecodeError> {
    read_source(Memory { bytes, ..Memory::default() })
}

fn read_source(source: Memory) -> Result<(Vec<u8>, usize), DecodeError> {
    let mut content = unpack(&source, &options().limits)?;
    let mut bytes = Vec::new();
    content.input.read_to_end(&mut bytes)?;
    assert!(bytes.starts_with(&content.head));
    assert!(content.head.len() == bytes.len() || content.head.len() == HEAD_BYTES);
    Ok((bytes, content.n_layers))
}

#[track_caller]
fn reads(bytes: Vec<u8>, expected: &[u8], n_layers: usize) {
    let (found, found_layers) = read(bytes).unwrap();
    assert!(found == expected, "{} bytes instead of {}", found.len(), expected.len());
    assert_eq!(found_layers, n_layers);
}

#[track_caller]
fn fails(bytes: Vec<u8>, expected: &str) {
    let error = read(bytes).map(|(bytes, _)| bytes.len()).expect_err("a failure");
    assert_eq!(error.to_string(), expected);
}

/// Text of realistic entropy, larger than any buffer.
fn long_text() -> Vec<u8> {
    let mut state = 1u64;
    let mut line = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        format!("{:x},{}\n", state >> 20, state >> 60)
    };
    (0..40_000).map(&mut line).collect::<String>().into_bytes()
}

#[test]
fn content_decides_and_nothing_is_lost_on_the_way() {
    let text = long_text();
    reads(text.clone(), &text, 0);
    reads(gzip(&text), &text, 1);
    reads(zstd(&text), &text, 1);
    reads(b"a".to_vec(), b"a", 0);
    reads(Vec::new(), b"", 0);
    reads(gzip(b""), b"", 1);
}

#[test]
fn all_members_and_all_frames_are_read() {
    let text = long_text();
    let (first, second) = text.split_at(100_000);
    reads([gzip(first), gzip(b""), gzip(second)].concat(), &text, 1);
    reads([zstd(first), zstd(b""), zstd(second)].concat(), &text, 1);
    let many: Vec<u8> = text.chunks(500).flat_map(gzip).collect();
    reads(many, &text, 1);
    let skippable = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"xyz"].concat();
    reads([skippable.clone(), zstd(first), skippable.clone(), zstd(second), skippable].concat(), &text, 1);
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn xz(bytes: &[u8], dictionary_bytes: u32) -> Vec<u8> {
    let mut options = liblzma::stream::LzmaOptions::new_preset(1).unwrap();
    options.dict_size(dictionary_bytes);
    let mut filters = liblzma::stream::Filters::new();
    filters.lzma2(&options);
    let stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zlib(bytes: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(level));
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = snap::write::FrameEncoder::new(Vec::new());
    encoder.write_all(bytes).unwrap();
    encoder.into_inner().unwrap()
}

#[test]
fn other_packings_are_known_by_their_content_and_read_whole() {
    let text = long_text();
    let (first, second) = text.split_at(100_000);
    type Pack = fn(&[u8]) -> Vec<u8>;
    let packings: [(&str, Pack); 4] =
        [("bzip2", bzip2), ("xz", |bytes| xz(bytes, 1 << 20)), ("zlib", |bytes| zlib(bytes, 6)), ("snappy", snappy)];
    for (name, pack) in packings {
        reads(pack(&text), &text, 1);
        reads(gzip(&pack(&text)), &text, 2);
        if name != "zlib" {
            reads([pack(first), pack(second)].concat(), &text, 1);
        }
        let packed = pack(&text);
        for length in [packed.len() - 1, packed.len() / 2] {
            let error = read(packed[..length].to_vec()).map(|(bytes, _)| bytes.len()).expect_err(name).to_string();
            assert!(error.starts_with(&format!("corrupt: {name}: ")), "{error}");
        }
        let mut torn = packed.clone();
        torn[packed.len() / 2] ^= 0x55;
        assert!(matches!(read(torn), Err(DecodeError::Corrupt(_))), "{name}");
        let zeros = vec![0; 64 << 20];
        assert!(matches!(read(pack(&zeros)), Err(DecodeError::Limits(_))) || name == "snappy", "{name}");
    }
    for level in [0, 1, 9] {
        reads(zlib(b"a", level), b"a", 1);
    }
    reads([zlib(&text, 6), b"\n\0".to_vec()].concat(), &text, 1);
    fails([zlib(&text, 6), b"x".to_vec()].concat(), "corrupt: zlib: something else follows the stream");
    for text in ["x^2,y\n1,2\n", "x\u{1}", "xœ,b\n"] {
        reads(text.as_bytes().to_vec(), text.as_bytes(), 0);
    }
}

#[test]
fn the_dictionary_of_xz_is_reserved() {
    let text = long_text();
    let read = |megabytes: usize| {
        let limits =
            Limits { budget: Budget::new(megabytes << 20, crate::budget::Pool::new(0, 1)), ..options().limits };
        let source = Memory { bytes: xz(&text, 8 << 20), ..Memory::default() };
        let mut bytes = Vec::new();
        unpack(&source, &limits)?.input.read_to_end(&mut bytes)?;
        Ok::<_, DecodeError>(bytes)
    };
    assert!(read(16).expect("it fits") == text);
    let error = read(4).expect_err("eight do not fit").to_string();
    assert!(error.starts_with("limits: an xz dictionary takes "), "{error}");
}

#[test]
fn zeros_and_blanks_may_follow_a_member_and_nothing_else() {
    let text = long_text();
    reads([gzip(&text), vec![0; 200_000]].concat(), &text, 1);
    let garbage = "corrupt: gzip: something else follows the last member";
    fails([gzip(&text), b"x".to_vec()].concat(), garbage);
    fails([gzip(&text), vec![0; 200_000], b"x".to_vec()].concat(), garbage);
    let (first, second) = text.split_at(text.len() / 2);
    reads([gzip(first), b"\n".to_vec(), gzip(second), b"\r\n".to_vec()].concat(), &text, 1);
    reads([gzip(first), vec![0; 10], gzip(second)].concat(), &text, 1);
    fails([gzip(&text), b"\n\n{}".to_vec()].concat(), garbage);
    fails([gzip(&text), b"\x1F\x8Bx".to_vec()].concat(), "corrupt: gzip: cut short");
    fails([zstd(&text), b"xxxx".to_vec()].concat(), "corrupt: zstd: Unknown frame descriptor");
}

#[test]
fn broken_content_is_corrupt() {
    let text = long_text();
    for packed in [gzip(&text), zstd(&text)] {
        for cut in [5, packed.len() / 2, packed.len() - 1] {
            let error = read(packed[..cut].to_vec()).map(|_| ()).expect_err("cut short");
            assert!(matches!(error, DecodeError::Corrupt(_)), "{error}");
        }
    }
    let mut packed = gzip(&text);
    let crc = packed.len() - 8;
    packed[crc] ^= 1;
    fails(packed, "corrupt: gzip: corrupt gzip stream does not have a matching checksum");
    let mut packed = gzip(&text);
    packed[50_000] ^= 0xFF;
    assert!(matches!(read(packed).map(|_| ()), Err(DecodeError::Corrupt(_))));
}

#[test]
fn doubly_packed_content_is_unwrapped_up_to_three_layers() {
    let text = long_text();
    reads(gzip(&gzip(&text)), &text, 2);
    reads(zstd(&gzip(&zstd(&text))), &text, 3);
    fails(gzip(&zstd(&gzip(&zstd(&text)))), "limits: packed more than 3 times");
}

#[test]
fn bombs_end_at_the_limits() {
    let zeros = vec![0u8; 8 << 20];
    let packed = gzip(&zeros);
    let message = format!("limits: {} bytes unpack to more than 200 times as many", packed.len());
    fails(packed, &message);
    assert!(matches!(read(zstd(&zeros)).map(|_| ()), Err(DecodeError::Limits(_))));
    // A bomb in a bomb is counted against what the object has.
    assert!(matches!(read(gzip(&gzip(&zeros))), Err(DecodeError::Limits(_))));
    // Small content is free to be as dense as it likes.
    reads(gzip(&zeros[..1 << 20]), &zeros[..1 << 20], 1);
}

#[test]
fn a_zstd_window_beyond_the_limit_is_a_limit() {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(28).unwrap();
    encoder.write_all(b"x").unwrap();
    let packed = encoder.finish().unwrap();
    fails(packed, "limits: zstd: a window larger than 131072 KiB");
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(b"x").unwrap();
    reads(encoder.finish().unwrap(), b"x", 1);
}

#[test]
fn a_failure_of_the_store_is_never_the_contents() {
    let text = long_text();
    for bytes in [text.clone(), gzip(&text), zstd(&text), gzip(&zstd(&text))] {
        for breaks_at in [0, 3, 100, bytes.len() / 2, bytes.len() - 1, bytes.len()] {
            let source = Memory { bytes: bytes.clone(), breaks_at: Some(breaks_at), ..Memory::default() };
            let error = read_source(source).map(|_| ()).expect_err("the store fails");
            assert!(matches!(&error, DecodeError::Source(_)), "at {breaks_at}: {error}");
            assert_eq!(format!("{:#}", anyhow::Error::from(error)), "read object: 503");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_anywhere_is_found_or_harmless(at in any::<prop::sample::Index>(), flip in 1..=255u8, is_gzip in any::<bool>()) {
        let text = &long_text()[..20_000];
        let mut packed = if is_gzip { gzip(text) } else { zstd(text) };
        let at = at.index(packed.len());
        packed[at] ^= flip;
        match read(packed) {
            // zstd as its command line writes it has a checksum; as this test writes it, it has none.
            Ok((bytes, n_layers)) => prop_assert!(bytes == text || !is_gzip || n_layers == 0, "at {at}"),
            Err(error) => prop_assert!(!matches!(error, DecodeError::Source(_)), "{error}"),
        }
    }
}
