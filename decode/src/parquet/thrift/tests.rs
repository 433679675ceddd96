use super::*;
use proptest::prelude::*;

#[test]
fn child_counts_must_hold() {
    // Elements with a name and a child count; the first is the root.
    assert_eq!(check_schema(&footer(&[2, 0, 0]), 8).map(drop), Ok(()));
    assert_eq!(check_schema(&footer(&[1, 1, 1, 0]), 4).map(drop), Ok(()));
    assert_eq!(check_schema(&footer(&[1, 1, 1, 0]), 3).map(drop), Err("schema is nested too deep"));
    assert_eq!(check_schema(&footer(&[2_000_000, 0]), 8).map(drop), Err("schema lacks elements"));
    assert_eq!(check_schema(&footer(&[2, 0]), 8).map(drop), Err("schema lacks elements"));
    assert_eq!(check_schema(&footer(&[1, 0, 0]), 8).map(drop), Err("schema has more than one root"));
}

#[test]
fn names_are_counted_in_the_path_of_each_column() {
    // A root with a group of three columns, and a column.
    let counts = check_schema(&footer(&[2, 3, 0, 0, 0, 0]), 8).expect("a schema").counts;
    assert_eq!((counts.elements, counts.names, counts.longest_name), (6, 6, 1));
    assert_eq!(counts.paths, (3 * 2 + 1) * (1 + NAME_BYTES));
}

#[test]
fn a_long_list_of_what_nobody_has_many_of_is_refused() {
    let statistics = |n: u8| {
        // Field 2 of a column's geospatial statistics: a list of 32-bit numbers.
        let list = [&[0x29, 0xf5, n | 0x80, 2][..], &vec![0; 256 + usize::from(n)], &[0]].concat();
        // The metadata's row groups, with a chunk, its metadata and that.
        let chunk = [&[0x49, 0x1c, 0x19, 0x1c, 0x3c, 0x0c, 0x22][..], &list, &[0, 0, 0, 0]].concat();
        check_schema(&chunk, 8).map(drop)
    };
    assert_eq!(statistics(0), Err("no schema"));
    assert_eq!(statistics(1), Err("a list is too long"));
}

#[test]
fn a_long_chain_of_groups_is_refused_quickly() {
    let mut chain = vec![1; 100_000];
    chain.push(0);
    assert_eq!(check_schema(&footer(&chain), 200).map(drop), Err("schema is nested too deep"));
}

#[test]
fn page_lengths_are_read() {
    // Type 0, uncompressed 300, compressed 7.
    let header = [0x15, 0x00, 0x15, 0xd8, 0x04, 0x15, 0x0e, 0x00];
    let sizes = PageSizes { header: 8, uncompressed: 300, compressed: 7, ..PageSizes::default() };
    assert_eq!(page_sizes(&header), Ok(sizes));
    assert!(page_sizes(&[0x15, 0x00, 0x15, 0x01, 0x15, 0x0e, 0x00]).is_err(), "negative");
}

#[test]
fn a_page_header_has_no_part_of_another_type() {
    // The type, and the part that follows at once: of a dictionary, of a page of the second version.
    let header = |kind: u8, part: &[u8]| page_sizes(&[&[0x15, kind << 1], part, &[0]].concat());
    let (dictionary, second): (&[u8], &[u8]) = (&[0x6c, 0x15, 0x0a, 0], &[0x7c, 0]);
    assert_eq!(header(2, dictionary).map(|sizes| sizes.dictionary_values), Ok(Some(5)));
    assert_eq!(header(3, second).map(|sizes| sizes.dictionary_values), Ok(None));
    for (kind, part) in [(0, dictionary), (0, second), (2, second), (3, dictionary), (7, dictionary)] {
        assert_eq!(header(kind, part), Err("page header has another type's part"), "{kind}");
    }
}

#[test]
fn booleans_in_lists_are_refused_for_the_library_steps_over_any_number_of_them() {
    for collection in [&[0x29, 0x12, 1][..], &[0x2a, 0x11, 1], &[0x2b, 1, 0x22, 1, 1], &[0x2b, 1, 0x52, 2, 1]] {
        // In an unknown field: number 100.
        let bytes = [&[collection[0] & 15, 200, 1], &collection[1..], &[0]].concat();
        assert_eq!(check_schema(&bytes, 8).map(drop), Err("list of booleans"), "{collection:x?}");
        assert_eq!(page_sizes(&bytes), Err("list of booleans"), "{collection:x?}");
    }
}

#[test]
fn known_fields_of_other_types_are_refused_for_the_library_reads_them_as_what_they_should_be() {
    // Where a number should be: a text; a structure; a list, which is read as a number of a byte.
    for field in [&[0x18, 1, b'a'][..], &[0x1c, 0], &[0x19, 0x10]] {
        let bytes = [field, &[0]].concat();
        assert_eq!(check_schema(&bytes, 8).map(drop), Err("a field is not of its type"), "{field:x?}");
        assert_eq!(page_sizes(&bytes), Err("a field is not of its type"), "{field:x?}");
    }
    // Within: a dictionary's number of values as text; a list of schema elements as one of numbers.
    assert_eq!(page_sizes(&[0x7c, 0x18, 1, b'a', 0, 0]), Err("a field is not of its type"));
    assert_eq!(check_schema(&[0x29, 0x15, 2, 0], 8).map(drop), Err("a field is not of its type"));
    // A number of another width is written the same.
    assert_eq!(page_sizes(&[0x26, 0x02, 0x16, 0x02, 0]).map(|sizes| sizes.compressed), Ok(1));
}

#[test]
fn a_field_that_is_not_of_its_type_and_not_needed_gets_a_number_that_nobody_knows() {
    // A column's metadata with number 13, 15 as a list of numbers, and perhaps one more.
    let footer = |more: &[u8]| {
        let chunk = [&[0x49, 0x1c, 0x19, 0x1c, 0x3c, 0xd6, 0, 0x29, 0x15, 2][..], more, &[0, 0, 0]].concat();
        let schema = [&[0x29, 0x1c][..], &[0x48, 1, b'a', 0], &[0x29], &chunk[1..], &[0]].concat();
        let seen = check_schema(&schema, 8)?;
        let patched = seen.patches.iter().map(|patch| (schema[schema.len() - patch.from_end], patch.byte));
        Ok(patched.collect::<Vec<_>>())
    };
    assert_eq!(footer(&[]), Ok(vec![(0x29, 0xf9)]));
    assert_eq!(footer(&[0x16, 0]), Err("a field is not of its type"));
}

#[test]
fn encrypted_columns_are_found() {
    // Two chunks, the second with field 8: a structure.
    let groups = [0x49, 0x1c, 0x19, 0x2c, 0x26, 8, 0, 0x26, 8, 0x6c, 0, 0, 0];
    let schema = [&[0x29, 0x1c, 0x48, 1, b'a', 0][..], &[0x29], &groups[1..], &[0]].concat();
    let seen = check_schema(&schema, 8).expect("a footer");
    assert_eq!((seen.counts.chunks, seen.encrypted.into_iter().collect::<Vec<_>>()), (2, vec![1]));
}

#[test]
fn a_column_of_nothing_is_one_of_integers_without_any() {
    let schema = |physical: u8, converted: u8| {
        let bytes = [&[0x29, 0x1c][..], &[0x15, physical << 1, 0x38, 1, b'a', 0x25, converted << 1, 0], &[0]].concat();
        let seen = check_schema(&bytes, 8).expect("a schema");
        let patched = seen.patches.iter().map(|patch| (bytes[bytes.len() - patch.from_end], patch.byte));
        patched.collect::<Vec<_>>()
    };
    assert_eq!(schema(1, 24), [(48, 34)]);
    assert_eq!(schema(2, 24), []);
    assert_eq!(schema(1, 17), []);
}

#[test]
fn a_page_that_says_it_is_plain_is_found_saying_so() {
    assert_eq!(page_sizes(&[0x15, 6, 0x7c, 0x72, 0, 0]).map(|sizes| sizes.says_plain), Ok(Some(3)));
    assert_eq!(page_sizes(&[0x15, 6, 0x7c, 0x71, 0, 0]).map(|sizes| sizes.says_plain), Ok(None));
    assert_eq!(as_true(0x72), 0x71);
}

proptest! {
    #[test]
    fn any_bytes_are_looked_at_without_panic(bytes: Vec<u8>) {
        let _ = check_schema(&bytes, 8);
        let _ = page_sizes(&bytes);
    }
}

fn footer(child_counts: &[u32]) -> Vec<u8> {
    // Field 1 (version), then field 2: a list of structures of unknown length up front.
    let mut out = vec![0x15, 0x02, 0x19, 0xfc];
    varint(child_counts.len() as u64, &mut out);
    for &count in child_counts {
        // Field 4 (name) is "a", field 5 the count.
        out.extend([0x48, 1, b'a', 0x15]);
        varint(u64::from(count) << 1, &mut out);
        out.push(0);
    }
    out.push(0);
    out
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value > 0x7f {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
