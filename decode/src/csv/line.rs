//! Splitting a line without quotes and escapes, by words of eight bytes.

use super::splitter::Span;

/// Adds the line's fields to `spans`, up to `max_spans`; returns how many there are.
pub fn split(line: &[u8], delimiter: u8, max_spans: usize, spans: &mut Vec<Span>) -> usize {
    let (mut start, mut n_spans) = (0, 0);
    let mut take = |end: usize| {
        if n_spans < max_spans {
            spans.push(Span { start: start as u32, end: end as u32, is_quoted: false, has_escapes: false });
        }
        n_spans += 1;
        start = end + 1;
    };
    let (words, rest) = line.as_chunks();
    for (at, word) in words.iter().enumerate() {
        let mut found = equal_to(*word, delimiter);
        while found != 0 {
            take(at * 8 + found.trailing_zeros() as usize / 8);
            found &= found - 1;
        }
    }
    let rest_at = words.len() * 8;
    rest.iter().enumerate().filter(|(_, byte)| **byte == delimiter).for_each(|(at, _)| take(rest_at + at));
    take(line.len());
    n_spans
}

/// Returns a word whose highest bits mark the bytes that are this one.
#[inline]
fn equal_to(word: [u8; 8], byte: u8) -> u64 {
    const LOW: u64 = u64::from_ne_bytes([0x7F; 8]);
    let differing = u64::from_le_bytes(word) ^ u64::from_ne_bytes([byte; 8]);
    // What is not 0 carries into its highest bit, unless that is set already, and no further.
    !(((differing & LOW) + LOW) | differing | LOW)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn fields_are_what_stands_between_delimiters(
            line in prop::collection::vec(prop_oneof![Just(b','), Just(b'-'), Just(b'\xac'), any::<u8>()], 0..60), max_spans in 0..9usize
        ) {
            let mut spans = Vec::new();
            let n_spans = split(&line, b',', max_spans, &mut spans);
            let fields: Vec<&[u8]> = line.split(|byte| *byte == b',').collect();
            prop_assert_eq!(n_spans, fields.len());
            let found: Vec<&[u8]> = spans.iter().map(|span| &line[span.start as usize..span.end as usize]).collect();
            prop_assert_eq!(found, &fields[..n_spans.min(max_spans)]);
        }
    }
}
