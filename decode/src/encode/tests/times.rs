use super::*;

const SECOND: i64 = 1_000_000;

#[track_caller]
fn instant(written: &str, seconds_since_2000: i64, micros: i64) {
    let expected = (seconds_since_2000 * SECOND + micros).to_be_bytes();
    check(text(written), PgType::TimestampTz, &expected);
    check(text(written), PgType::Timestamp, &expected);
}

#[test]
fn timestamps_are_read_in_the_forms_programs_write() {
    instant("2000-01-01T00:00:00Z", 0, 0);
    instant("2000-01-01 00:00:00", 0, 0);
    instant("2000-01-01T00:00:01.5", 1, 500_000);
    instant("2000-01-01t00:00:01,25z", 1, 250_000);
    instant("2000-01-01T00:01", 60, 0);
    instant("2000-01-01T00:00Z", 0, 0);
    instant("2000-01-02", 86_400, 0);
    instant("2000-01-01T02:00:00+02:00", 0, 0);
    instant("2000-01-01 02:00:00.000001 +0200", 0, 1);
    instant("2000-01-01T02:00:00+02", 0, 0);
    instant("1999-12-31T18:30:00-05:30", 0, 0);
    instant("2000-01-01 00:00:00 UTC", 0, 0);
    instant("20000101T000001Z", 1, 0);
    instant("20000102", 86_400, 0);
    instant("2000/1/2 3:04", 86_400 + 3 * 3600 + 240, 0);
    instant("  2000-01-01T00:00:00.123456789Z ", 0, 123_457);
    instant("1970-01-01T00:00:00Z", -946_684_800, 0);
}

#[test]
fn days_end_where_postgres_ends_them() {
    instant("2000-01-01T24:00:00", 86_400, 0);
    instant("1999-12-31T23:59:60", 0, 0);
    instant("1999-12-31T23:59:60Z", 0, 0);
    instant("1999-12-31T23:59:59.9999996", 0, 0);
    instant("2000-02-29", 59 * 86_400, 0);
    refused(text("2000-01-01T24:00:01"), PgType::Timestamp, "range");
    refused(text("2000-01-01T25:00:00"), PgType::Timestamp, "range");
    refused(text("2000-01-01T00:60:00"), PgType::Timestamp, "range");
    refused(text("2000-01-01T00:00:61"), PgType::Timestamp, "range");
    refused(text("2000-01-01T00:00:00+16:00"), PgType::Timestamp, "range");
    refused(text("1900-02-29"), PgType::Date, "range");
    refused(text("2000-13-01"), PgType::Date, "range");
    refused(text("2000-00-01"), PgType::Date, "range");
    refused(text("0000-00-00"), PgType::Date, "range");
    refused(text("0000-01-01"), PgType::Date, "range");
}

#[test]
fn what_has_no_single_meaning_is_no_timestamp() {
    for written in [
        "",
        "now",
        "01/02/2000",
        "1-2-2000",
        "Jan 2 2000",
        "2000-01",
        "2000-01-01T",
        "2000-01-01T00",
        "2000-01-01T00:00:00 CET",
        "2000-01-01T00:00:00.",
        "2000-01-01T00:00:00+",
        "2000-01-01T00:00:00+0",
        "2000-01-01T00:00:00Zz",
        "1700000000",
        "2000-01/01",
        "2000-01-01T00:00:00+02:",
        "2000-1-1-1x",
        "99-01-01",
    ] {
        if written.ends_with("+0") {
            instant(written, 0, 0);
            continue;
        }
        refused(text(written), PgType::TimestampTz, "type");
    }
}

#[test]
fn years_reach_as_far_as_in_postgres() {
    check(text("infinity"), PgType::TimestampTz, &i64::MAX.to_be_bytes());
    check(text("-Infinity"), PgType::Timestamp, &i64::MIN.to_be_bytes());
    check(text("infinity"), PgType::Date, &i32::MAX.to_be_bytes());
    check(text("294276-12-31T23:59:59.999999Z"), PgType::Timestamp, &9_223_371_331_199_999_999i64.to_be_bytes());
    refused(text("294277-01-01"), PgType::Timestamp, "range");
    check(text("4714-11-24 00:00:00 BC"), PgType::Timestamp, &(-211_813_488_000_000_000i64).to_be_bytes());
    refused(text("4714-11-23 23:59:59 BC"), PgType::Timestamp, "range");
    check(text("5874897-12-31"), PgType::Date, &2_145_031_948i32.to_be_bytes());
    refused(text("5874898-01-01"), PgType::Date, "range");
    check(text("4714-11-24 BC"), PgType::Date, &(-2_451_545i32).to_be_bytes());
    refused(text("4714-11-23 BC"), PgType::Date, "range");
    check(text("-4713-11-24"), PgType::Date, &(-2_451_545i32).to_be_bytes());
    refused(text("99999999999999999999-01-01"), PgType::Date, "range");
    check(
        Value::Timestamp { micros: i64::MAX, utc: true },
        PgType::TimestampTz,
        &(i64::MAX - 946_684_800 * SECOND).to_be_bytes(),
    );
    refused(Value::Timestamp { micros: i64::MIN, utc: true }, PgType::TimestampTz, "range");
    refused(Value::Date(i32::MAX), PgType::Date, "range");
    refused(Value::Date(i32::MIN), PgType::Timestamp, "range");
}

#[test]
fn dates_take_the_date_part_and_timestamps_take_dates() {
    check(text("2000-01-02T23:59:59-05:00"), PgType::Date, &1i32.to_be_bytes());
    check(Value::Timestamp { micros: -1, utc: true }, PgType::Date, &(-10_958i32).to_be_bytes());
    check(Value::Date(10_957), PgType::Date, &0i32.to_be_bytes());
    check(Value::Date(10_958), PgType::TimestampTz, &(86_400 * SECOND).to_be_bytes());
    check(Value::Timestamp { micros: 946_684_800 * SECOND, utc: false }, PgType::TimestampTz, &0i64.to_be_bytes());
}

#[test]
fn times_of_day_end_with_24() {
    check(text("00:00"), PgType::Time, &0i64.to_be_bytes());
    check(text("T01:02:03.5"), PgType::Time, &3_723_500_000i64.to_be_bytes());
    check(text("24:00:00"), PgType::Time, &(86_400 * SECOND).to_be_bytes());
    check(Value::Time(86_400 * SECOND), PgType::Time, &(86_400 * SECOND).to_be_bytes());
    check(text("235960"), PgType::Time, &(86_400 * SECOND).to_be_bytes());
    refused(Value::Time(-1), PgType::Time, "range");
    refused(text("23:59:60.5"), PgType::Time, "range");
    refused(text("24:00:01"), PgType::Time, "range");
    refused(text("12:00:00Z"), PgType::Time, "type");
    refused(text("2000-01-01 00:00"), PgType::Time, "type");
}
