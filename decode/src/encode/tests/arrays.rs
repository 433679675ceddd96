use super::*;

fn ints() -> PgType {
    PgType::Array(Box::new(PgType::Int4), 23)
}

fn texts() -> PgType {
    PgType::Array(Box::new(PgType::Text(None)), 25)
}

/// Reads a binary array back into a readable form: dimensions and elements.
fn shown(value: &Value<'_>, to: &PgType) -> Result<String, CellError> {
    let field = field(value, to)?.expect("not NULL");
    let words: Vec<i32> = field.chunks_exact(4).map(|word| i32::from_be_bytes(word.try_into().unwrap())).collect();
    let (n_dimensions, has_null) = (words[0] as usize, words[1]);
    let lengths: Vec<i32> = (0..n_dimensions).map(|dimension| words[3 + 2 * dimension]).collect();
    assert!((0..n_dimensions).all(|dimension| words[4 + 2 * dimension] == 1), "lower bounds");
    let mut elements = Vec::new();
    let mut rest = &field[12 + 8 * lengths.len()..];
    while let Some((length, after)) = rest.split_first_chunk() {
        let length = i32::from_be_bytes(*length);
        let (element, after) = after.split_at(length.max(0) as usize);
        elements.push(match (length, element) {
            (-1, _) => "NULL".to_owned(),
            (4, [0, 0, 0, n]) => n.to_string(),
            _ => String::from_utf8(element.to_vec()).unwrap(),
        });
        rest = after;
    }
    assert_eq!(has_null == 1, elements.iter().any(|element| element == "NULL"));
    assert_eq!(elements.len() as i32, if lengths.is_empty() { 0 } else { lengths.iter().product() });
    Ok(format!("{lengths:?} {}", elements.join("|")))
}

#[track_caller]
fn is(value: Value<'_>, to: PgType, expected: &str) {
    assert_eq!(shown(&value, &to).as_deref(), Ok(expected), "{value:?}");
}

#[test]
fn array_bytes_are_those_postgres_sends() {
    let expected =
        [0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 23, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4, 0, 0, 0, 7, 255, 255, 255, 255];
    check(json("[7, null]"), ints(), &expected);
    check(text("{7,NULL}"), ints(), &expected);
    check(json("[]"), ints(), &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 23]);
}

#[test]
fn json_lists_become_arrays() {
    is(json("[1, 2,3 ]"), ints(), "[3] 1|2|3");
    is(text(" [1.0, \"2\"]"), ints(), "[2] 1|2");
    is(
        json(r#"["a", 1.10, true, null, {"k": [1]}, "\u00e9\"", ""]"#),
        texts(),
        r#"[7] a|1.10|true|NULL|{"k": [1]}|é"|"#,
    );
    is(json("[[1,2],[3,4],[5,null]]"), ints(), "[3, 2] 1|2|3|4|5|NULL");
    is(json("[[[1]],[[2]]]"), ints(), "[2, 1, 1] 1|2");
    is(json("[[],[]]"), ints(), "[] ");
    is(json(" [ ] "), ints(), "[] ");
}

#[test]
fn json_elements_keep_their_lists() {
    let jsonb = PgType::Array(Box::new(PgType::Jsonb), 3802);
    is(json(r#"[[1,2],[3],"a",null,{"b":[]}]"#), jsonb, "[5] \u{1}[1,2]|\u{1}[3]|\u{1}\"a\"|NULL|\u{1}{\"b\":[]}");
}

#[test]
fn postgres_literals_become_arrays() {
    is(text("{}"), texts(), "[] ");
    is(text("{{},{}}"), texts(), "[] ");
    is(text(r#"{a, b c ,"NULL",NULL,null,"x,\"y\\","",\,\}é}"#), texts(), r#"[8] a|b c|NULL|NULL|NULL|x,"y\||,}é"#);
    is(text("{{1,2},{3,4}}"), ints(), "[2, 2] 1|2|3|4");
    is(bytes(b" { 1 , 2 } "), ints(), "[2] 1|2");
    is(text("{a\\ }"), texts(), "[1] a ");
    is(text("{\"\\é\"}"), texts(), "[1] é");
}

#[test]
fn malformed_literals_are_refused() {
    for literal in [
        "{", "}", "{1", "{1,}", "{,1}", "{1 2,}", "{1}}", "{1}x", "{\"a}", "{\"a\"b}", "{a\"b\"}", "{a{b}}", "{\"\\",
        "{\\", "{{1},2}", "{1,{2}}",
    ] {
        refused(text(literal), texts(), "type");
    }
    refused(text("[0:1]={1,2}"), ints(), "json");
    refused(text("1,2"), ints(), "type");
    refused(json("{\"a\":1}"), ints(), "type");
}

#[test]
fn lists_that_are_not_rectangular_are_refused() {
    for ragged in
        ["[[1],[2,3]]", "[1,[2]]", "[[1],2]", "[null,[1]]", "[[1],[]]", "[[],[1]]", "[[1],null]", "[[[1]],[2]]"]
    {
        refused(json(ragged), ints(), "type");
    }
    refused(json("[[[[[[[1]]]]]]]"), ints(), "range");
    refused(json("[[[[[[[]]]]]]]"), ints(), "range");
    refused(json(&"[".repeat(1_000_000)), ints(), "range");
    refused(text(&"{".repeat(1_000_000)), ints(), "range");
}

#[test]
fn elements_are_refused_as_cells_are() {
    refused(json("[1, \"x\"]"), ints(), "type");
    refused(json("[3000000000]"), ints(), "range");
    refused(json(r#"["\u0000"]"#), texts(), "text");
    refused(json("[1"), ints(), "json");
    refused(json("[1,]"), ints(), "json");
    refused(json("[1] 2"), ints(), "json");
    refused(json(&format!("[{}]", "{\"a\":".repeat(64) + "1" + &"}".repeat(64))), texts(), "depth");
}
