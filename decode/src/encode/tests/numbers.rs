use super::*;

const NUMERIC: PgType = PgType::Numeric(None);

/// Reads a binary `numeric` back into the text Postgres would print.
fn printed(field: &[u8]) -> String {
    let words: Vec<u16> = field.chunks(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let [n_groups, weight, sign, scale, groups @ ..] = &words[..] else { panic!("{field:?}") };
    assert_eq!(usize::from(*n_groups), groups.len());
    assert!(groups.iter().all(|group| *group < 10_000));
    assert!(groups.first() != Some(&0) && groups.last() != Some(&0), "padded: {groups:?}");
    let weight = i32::from(*weight as i16);
    let group = |index: i32| usize::try_from(index).ok().and_then(|i| groups.get(i)).copied().unwrap_or(0);
    let mut integral: String = (0..=weight).map(|index| format!("{:04}", group(index))).collect();
    integral = integral.trim_start_matches('0').to_owned();
    let scale = usize::from(*scale);
    let fraction: String =
        (weight + 1..weight + 2 + scale as i32).map(|index| format!("{:04}", group(index))).collect();
    // Groups of weight below -1 start later: the first ones after the point are zeros.
    let leading = "0000".repeat((-1 - weight).max(0) as usize);
    let fraction = format!("{leading}{}", if weight < -1 { fraction_from(groups) } else { fraction });
    let sign = if *sign == 0x4000 { "-" } else { "" };
    let integral = if integral.is_empty() { "0".to_owned() } else { integral };
    if scale == 0 {
        format!("{sign}{integral}")
    } else {
        format!("{sign}{integral}.{:0<scale$}", &fraction[..scale.min(fraction.len())])
    }
}

fn fraction_from(groups: &[u16]) -> String {
    groups.iter().map(|group| format!("{group:04}")).collect()
}

#[track_caller]
fn prints(value: Value<'_>, to: PgType, expected: &str) {
    let field = field(&value, &to).unwrap_or_else(|error| panic!("{value:?} → {to:?}: {error:?}"));
    assert_eq!(printed(&field.expect("not NULL")), expected, "{value:?} → {to:?}");
}

#[test]
fn integers_are_exact_and_bounded_by_their_column() {
    check(Value::Int(-2), PgType::Int2, &[0xFF, 0xFE]);
    check(text("9007199254740993"), PgType::Int8, &9_007_199_254_740_993i64.to_be_bytes());
    check(number("9007199254740993"), PgType::Int8, &9_007_199_254_740_993i64.to_be_bytes());
    check(text("-9223372036854775808"), PgType::Int8, &i64::MIN.to_be_bytes());
    check(text("9223372036854775807"), PgType::Int8, &i64::MAX.to_be_bytes());
    check(text(" +0042 "), PgType::Int4, &42i32.to_be_bytes());
    check(Value::UInt(7), PgType::Int8, &7i64.to_be_bytes());
    refused(text("9223372036854775808"), PgType::Int8, "range");
    refused(text("99999999999999999999999999999999999999999999"), PgType::Int8, "range");
    refused(Value::UInt(u64::MAX), PgType::Int8, "range");
    refused(Value::Int(32_768), PgType::Int2, "range");
    refused(Value::Int(-2_147_483_649), PgType::Int4, "range");
    refused(text(""), PgType::Int4, "type");
    refused(text("-"), PgType::Int4, "type");
    refused(text("12a"), PgType::Int4, "type");
    refused(text("0x10"), PgType::Int4, "type");
    refused(text("١"), PgType::Int4, "type");
}

#[test]
fn integral_numbers_go_into_integer_columns_and_fractions_do_not() {
    check(number("5.0"), PgType::Int4, &5i32.to_be_bytes());
    check(number("1e3"), PgType::Int4, &1000i32.to_be_bytes());
    check(text("-1.5e1"), PgType::Int2, &(-15i16).to_be_bytes());
    check(text("1200e-2"), PgType::Int2, &12i16.to_be_bytes());
    check(text("0e999999999999"), PgType::Int2, &[0, 0]);
    check(text("0.000"), PgType::Int2, &[0, 0]);
    check(Value::Float64(5.0), PgType::Int4, &5i32.to_be_bytes());
    check(Value::Float64(-9_223_372_036_854_775_808.0), PgType::Int8, &i64::MIN.to_be_bytes());
    check(Value::Decimal(-500, 2), PgType::Int4, &(-5i32).to_be_bytes());
    check(Value::Decimal(5, -2), PgType::Int4, &500i32.to_be_bytes());
    refused(number("5.5"), PgType::Int4, "type");
    refused(number("1e-1"), PgType::Int4, "type");
    refused(number("1e-999999999999999999999"), PgType::Int4, "type");
    refused(number("1e999999999999999999999"), PgType::Int4, "range");
    refused(Value::Float64(5.5), PgType::Int4, "type");
    refused(Value::Float64(9_223_372_036_854_775_808.0), PgType::Int8, "range");
    refused(Value::Float64(f64::NAN), PgType::Int4, "range");
    refused(Value::Decimal(501, 2), PgType::Int4, "type");
    refused(Value::Decimal(i128::MAX, 0), PgType::Int8, "range");
    refused(Value::Decimal(1, -128), PgType::Int8, "range");
}

#[test]
fn booleans_take_the_words_of_postgres() {
    for yes in ["t", "TRUE", "tru", "y", "yes", "on", "1", " true "] {
        check(text(yes), PgType::Bool, &[1]);
    }
    for no in ["f", "False", "n", "no", "of", "off", "0"] {
        check(text(no), PgType::Bool, &[0]);
    }
    for other in ["", "o", "truee", "2", "ja", "-1"] {
        refused(text(other), PgType::Bool, "type");
    }
    check(Value::Int(1), PgType::Bool, &[1]);
    check(number("0"), PgType::Bool, &[0]);
    refused(Value::Int(2), PgType::Bool, "type");
}

#[test]
fn floats_take_nan_and_infinities_but_nothing_becomes_one() {
    check(text("1.5"), PgType::Float8, &1.5f64.to_be_bytes());
    check(Value::Int(3), PgType::Float4, &3f32.to_be_bytes());
    check(Value::Decimal(-125, 2), PgType::Float8, &(-1.25f64).to_be_bytes());
    check(text("NaN"), PgType::Float8, &f64::NAN.to_be_bytes());
    check(text("-Infinity"), PgType::Float8, &f64::NEG_INFINITY.to_be_bytes());
    check(Value::Float64(f64::INFINITY), PgType::Float4, &f32::INFINITY.to_be_bytes());
    check(Value::Float64(0.1), PgType::Float4, &0.1f32.to_be_bytes());
    check(Value::Float64(-0.0), PgType::Float4, &(-0.0f32).to_be_bytes());
    check(number("0e5"), PgType::Float8, &0f64.to_be_bytes());
    refused(number("1e999"), PgType::Float8, "range");
    refused(number("-1e39"), PgType::Float4, "range");
    refused(number("1e-999"), PgType::Float8, "range");
    refused(Value::Float64(1e300), PgType::Float4, "range");
    refused(Value::Float64(1e-300), PgType::Float4, "range");
    refused(text("1,5"), PgType::Float8, "type");
    refused(text(""), PgType::Float8, "type");
}

#[test]
fn numeric_bytes_are_those_postgres_sends() {
    check(text("0"), NUMERIC, &[0, 0, 0, 0, 0, 0, 0, 0]);
    check(text("1.10"), NUMERIC, &[0, 2, 0, 0, 0, 0, 0, 2, 0, 1, 0x03, 0xE8]);
    check(text("-12345.678"), NUMERIC, &[0, 3, 0, 1, 0x40, 0, 0, 3, 0, 1, 0x09, 0x29, 0x1A, 0x7C]);
    check(text("0.0001"), NUMERIC, &[0, 1, 0xFF, 0xFF, 0, 0, 0, 4, 0, 1]);
    check(text("10000"), NUMERIC, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 1]);
}

#[test]
fn numeric_keeps_every_digit_and_the_scale() {
    for exact in ["9007199254740993", "1.10", "0.00", "-0.000000000000000000000000000001", "100000000.0000", "42"] {
        prints(text(exact), NUMERIC, exact);
        prints(number(exact), NUMERIC, exact);
    }
    let wide = "1234567890".repeat(12) + "." + &"0987654321".repeat(9);
    prints(number(&wide), NUMERIC, &wide);
    prints(Value::UInt(u64::MAX), NUMERIC, "18446744073709551615");
    prints(Value::Int(i64::MIN), NUMERIC, "-9223372036854775808");
    prints(Value::Decimal(i128::MIN, 10), NUMERIC, "-17014118346046923173168730371.5884105728");
    prints(Value::Decimal(110, 2), NUMERIC, "1.10");
    prints(Value::Decimal(11, -2), NUMERIC, "1100");
    prints(Value::Decimal(1, 127), NUMERIC, &format!("0.{}1", "0".repeat(126)));
    prints(number("1.5e3"), NUMERIC, "1500");
    prints(number("1.5e-3"), NUMERIC, "0.0015");
    prints(Value::Float64(0.1), NUMERIC, "0.1");
    prints(Value::Float32(0.1), NUMERIC, "0.1");
    prints(Value::Float64(1e21), NUMERIC, "1000000000000000000000");
    prints(text("-0"), NUMERIC, "0");
    prints(text(".5"), NUMERIC, "0.5");
    prints(text("5."), NUMERIC, "5");
}

#[test]
fn numeric_with_a_scale_rounds_like_postgres_before_it_is_measured() {
    let to = |precision, scale| PgType::Numeric(Some((precision, scale)));
    prints(text("1.005"), to(10, 2), "1.01");
    prints(text("-1.005"), to(10, 2), "-1.01");
    prints(text("1.004"), to(10, 2), "1.00");
    prints(text("9.994"), to(3, 2), "9.99");
    prints(text("99.5"), to(3, 0), "100");
    prints(text("0.004"), to(3, 2), "0.00");
    prints(text("0.0000000004"), to(3, 2), "0.00");
    prints(text("5"), to(3, 2), "5.00");
    prints(text("1234.5"), to(3, -2), "1200");
    prints(text("0.00994"), to(2, 4), "0.0099");
    refused(text("9.995"), to(3, 2), "range");
    refused(text("10"), to(3, 2), "range");
    refused(text("0.01"), to(2, 4), "range");
    refused(text("99950"), to(3, -2), "range");
    refused(Value::Decimal(1, -100), to(38, 0), "range");
}

#[test]
fn numeric_refuses_what_it_cannot_hold() {
    for word in ["NaN", "Infinity", "-inf"] {
        refused(text(word), NUMERIC, "range");
    }
    refused(Value::Float64(f64::NAN), NUMERIC, "range");
    refused(Value::Float32(f32::INFINITY), NUMERIC, "range");
    refused(number("1e999999999"), NUMERIC, "range");
    refused(number("1e-999999999"), NUMERIC, "range");
    refused(number("1e131072"), NUMERIC, "range");
    refused(number(&"9".repeat(131_073)), NUMERIC, "range");
    refused(number(&format!("0.{}", "1".repeat(16_384))), NUMERIC, "range");
    check(number("1e131071"), NUMERIC, &[0, 1, 0x7F, 0xFF, 0, 0, 0, 0, 0x03, 0xE8]);
    assert!(field(&number(&format!("{}.{}", "9".repeat(131_072), "9".repeat(16_383))), &NUMERIC).is_ok());
    refused(text("1.2.3"), NUMERIC, "type");
    refused(text("1e"), NUMERIC, "type");
    refused(text("e5"), NUMERIC, "type");
    refused(text("."), NUMERIC, "type");
}
