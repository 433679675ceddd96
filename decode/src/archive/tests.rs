use super::*;
use crate::testing::{Memory, options, read_rows, text_columns};
use crate::{MappingSpec, OnNewField};
use std::io::Write;

fn tar(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = ::tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = ::tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        if name.ends_with('/') {
            header.set_entry_type(::tar::EntryType::Directory);
        }
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn zip(members: &[(&str, &[u8])], method: rawzip::CompressionMethod) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = rawzip::ZipArchiveWriter::new(&mut bytes);
    for (name, content) in members {
        let (mut entry, config) = archive.new_file(name).compression_method(method).start().unwrap();
        if method == rawzip::CompressionMethod::DEFLATE {
            let packed = flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::default());
            let mut writer = config.wrap(packed);
            writer.write_all(content).unwrap();
            let (packed, descriptor) = writer.finish().unwrap();
            packed.finish().unwrap();
            entry.finish(descriptor).unwrap();
        } else {
            let mut writer = config.wrap(&mut entry);
            writer.write_all(content).unwrap();
            let (_, descriptor) = writer.finish().unwrap();
            entry.finish(descriptor).unwrap();
        }
    }
    archive.finish().unwrap();
    bytes
}

fn rows(name: &'static str, bytes: Vec<u8>) -> Result<Vec<String>, DecodeError> {
    let source = Memory { name, bytes, ..Memory::default() };
    let reader = crate::open(Arc::new(source), &options())?;
    read_rows(reader, &text_columns(&["a", "b", MEMBER_FIELD]))
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn all_members_rows_are_read_with_their_members_name_and_numbered_on() {
    let long = format!("dir/{}.csv", "n".repeat(200));
    let packed = gzip(b"a,b\n5,6\n");
    let members: [(&str, &[u8]); 8] = [
        ("dir/", b""),
        ("one.csv", b"a,b\n1,2\nx\n"),
        ("._one.csv", b"\0\0"),
        ("__MACOSX/one.csv", b"\0\0"),
        ("dir/_SUCCESS", b""),
        (&long, b"a,b\n3,4\ny,y,y\n"),
        ("empty.csv", b""),
        ("three.csv.gz", &packed),
    ];
    let expected = ["1|2|one.csv", "2 syntax: x", &format!("3|4|{long}"), "4 syntax: y,y,y", "5|6|three.csv.gz"];
    for bytes in [
        tar(&members),
        gzip(&tar(&members)),
        zip(&members, rawzip::CompressionMethod::STORE),
        zip(&members, rawzip::CompressionMethod::DEFLATE),
    ] {
        assert_eq!(rows("x", bytes).expect("an archive"), expected);
    }
    let json: [(&str, &[u8]); 2] = [("a.json", b"[{\"a\":1}]"), ("b.ndjson", b"{\"a\":2}\n{\"b\":3}\n")];
    let expected = ["1|∅|a.json", "2|∅|b.ndjson", "∅|3|b.ndjson"];
    assert_eq!(rows("x", tar(&json)).expect("an archive"), expected);
    for bytes in [zip(&[], rawzip::CompressionMethod::STORE), zip(&members[..1], rawzip::CompressionMethod::STORE)] {
        assert_eq!(rows("x", bytes).expect("no member"), [""; 0]);
    }
}

#[test]
fn what_cannot_be_read_names_its_member() {
    let fails = |bytes: Vec<u8>, expected: &str| {
        assert_eq!(rows("x", bytes).expect_err(expected).to_string(), expected);
    };
    fails(
        tar(&[("a.csv", b"a,b\n1,2\n"), ("b.csv", b"b,a\n1,2\n")]),
        "schema: member \"b.csv\": its fields are not those of member \"a.csv\"",
    );
    fails(tar(&[("a.orc", b"ORC\0\0")]), "corrupt: member \"a.orc\": ORC, which is not supported");
    let inner = zip(&[("a.csv", b"a\n1\n")], rawzip::CompressionMethod::STORE);
    fails(tar(&[("a.zip", &inner)]), "corrupt: member \"a.zip\": a zip archive, which is not supported");
    fails(gzip(&inner), "corrupt: a zip archive, which is not supported");
    let whole = tar(&[("a.csv", b"a,b\n1,2\n"), ("b.csv", &[b'x'; 2000])]);
    fails(whole[..2000].to_vec(), "corrupt: member \"b.csv\": tar: cut short");
    let mut torn = whole.clone();
    torn[1024 + 10] ^= 1;
    fails(torn, "corrupt: tar: a header whose checksum is another");
}

#[test]
fn of_a_long_name_an_error_has_the_end() {
    let folder = "é".repeat(200);
    let path = format!("{folder}/a.orc");
    // Quoted as it is, it could be a line of 64 KiB.
    let error = of_member(&path, DecodeError::Corrupt("torn".into())).to_string();
    assert!(error.starts_with("corrupt: member …\"é") && error.ends_with("/a.orc\": torn"), "{error}");
    assert!(error.len() < 130, "{error}");
    assert_eq!(quoted("a\n.csv"), "\"a\\n.csv\"");
}

#[test]
fn a_reject_says_which_member_it_is_from() {
    let bytes = tar(&[("a.csv", b"a,b\n1,2\n"), ("b.csv", b"a,b\n1,2,3\n")]);
    let source = Memory { name: "x", bytes, ..Memory::default() };
    let mut reader = crate::open(Arc::new(source), &options()).expect("an archive");
    let columns = text_columns(&["a", "b"]);
    let spec = MappingSpec {
        columns: &columns,
        rename: &Default::default(),
        captures: &[],
        types: &Default::default(),
        on_new_field: OnNewField::Ignore,
        extras_column: None,
        key: &[],
    };
    reader.set_mapping(Arc::new(Mapping::new(reader.fields(), &spec).expect("a mapping")));
    let mut batch = Batch::default();
    while reader.fill(&mut batch, usize::MAX).expect("rows") {}
    let members: Vec<_> = batch.rejects.iter().map(|reject| (reject.row_number, reject.member.as_deref())).collect();
    assert_eq!(members, [(2, Some("b.csv"))]);
}

#[test]
fn a_zip_archives_members_are_compared_with_its_directory() {
    let bytes = zip(&[("a.csv", b"a,b\n1,2\n")], rawzip::CompressionMethod::STORE);
    let mut torn = bytes.clone();
    let at = torn.windows(4).position(|window| window == b"1,2\n").unwrap();
    torn[at] = b'3';
    let problem = "zip: a member unpacks to something else than the directory says";
    assert_eq!(rows("x", torn).expect_err("torn").to_string(), format!("corrupt: member \"a.csv\": {problem}"));
    assert!(rows("x", bytes[..bytes.len() - 10].to_vec()).expect_err("cut").to_string().starts_with("corrupt: zip: "));
}

#[test]
fn what_members_unpack_to_is_counted_together() {
    let zeros = vec![b'\n'; 400 << 10];
    let members: Vec<(String, &[u8])> = (0..4).map(|number| (format!("{number}.csv"), &zeros[..])).collect();
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, content)| (name.as_str(), *content)).collect();
    let error = rows("x", zip(&members, rawzip::CompressionMethod::DEFLATE)).expect_err("too many").to_string();
    assert!(error.ends_with("bytes unpack to more than 200 times as many"), "{error}");
}
