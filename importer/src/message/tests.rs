use super::*;
use proptest::prelude::*;

/// A readable projection: `kind bucket/key version etag size sequencer`, a line each.
fn shown(body: &str) -> String {
    match parse(body) {
        Parsed::TestEvent => "test event".into(),
        Parsed::Unreadable(reason) => format!("unreadable: {reason}"),
        Parsed::Records(records) => records.iter().map(line).collect::<Vec<_>>().join("\n"),
    }
}

fn line(record: &Record) -> String {
    let kind = match &record.kind {
        RecordKind::Created => "created".to_owned(),
        RecordKind::Removed { by_lifecycle, delete_marker } => {
            let who = if *by_lifecycle { " by lifecycle" } else { "" };
            format!("removed{who}{}", if *delete_marker { " (marker)" } else { "" })
        }
        RecordKind::Other(name) => format!("other {name}"),
        RecordKind::UnsupportedVersion(version) => format!("version {version}"),
    };
    let ObjectPointer { bucket, key, version_id, etag, size, sequencer } = &record.pointer;
    let text = |field: &Option<String>| field.clone().unwrap_or("-".into());
    let size = size.map_or("-".into(), |size| size.to_string());
    let force = match &record.anew {
        None => String::new(),
        Some(Anew::Forced) => " force".into(),
        Some(Anew::Recipe(recipe)) => format!(" recipe {recipe}"),
        Some(Anew::Refresh) => " refresh".into(),
    };
    format!("{kind} | {bucket} | {key} | {} | {} | {size} | {}{force}", text(version_id), text(etag), text(sequencer))
}

#[track_caller]
fn check(body: impl AsRef<str>, expected: &str) {
    assert_eq!(shown(body.as_ref()), expected, "{}", body.as_ref());
}

fn s3_record_text(version: &str, event_name: &str, object: &str) -> String {
    format!(
        r#"{{"eventVersion":"{version}","eventSource":"aws:s3","awsRegion":"eu-west-1","eventTime":"2026-01-01T00:00:00.123Z","eventName":"{event_name}","s3":{{"s3SchemaVersion":"1.0","configurationId":"c","bucket":{{"name":"b","arn":"arn:aws:s3:::b"}},"object":{object}}}}}"#
    )
}

fn s3_body(object: &str) -> String {
    format!(r#"{{"Records":[{}]}}"#, s3_record_text("2.1", "ObjectCreated:Put", object))
}

fn in_sns(message: &str) -> String {
    json!({"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:eu-west-1:1:t",
           "Subject": "Amazon S3 Notification", "Message": message, "Timestamp": "2026-01-01T00:00:00.000Z"})
    .to_string()
}

fn event_bridge_body(detail_type: &str, extra: &str) -> String {
    format!(
        r#"{{"version":"0","id":"i","detail-type":"{detail_type}","source":"aws.s3","account":"1","time":"2026-01-01T00:00:00Z","region":"eu-west-1","resources":["arn:aws:s3:::b"],"detail":{{"version":"0","bucket":{{"name":"b"}},"object":{{"key":"a+b%20c.csv","size":5,"etag":"e","version-id":"v","sequencer":"00AB"}},"request-id":"r","requester":"1"{extra}}}}}"#
    )
}

#[test]
fn s3_event_names_the_object_with_all_it_knows() {
    check(
        s3_body(r#"{"key":"dt%3D1/a.csv","size":5,"eTag":"\"e\"","versionId":"v","sequencer":"00AB"}"#),
        "created | b | dt=1/a.csv | v | e | 5 | 00AB",
    );
    let Parsed::Records(records) = parse(&s3_body(r#"{"key":"k"}"#)) else { panic!("unreadable") };
    let time = records[0].event_time.expect("the event has a time");
    assert_eq!(time.timestamp_millis(), 1_767_225_600_123);
}

#[test]
fn s3_event_keys_are_form_decoded_exactly_once() {
    for (encoded, key) in [
        ("a+b.ndjson", "a b.ndjson"),
        ("a%2Bb.ndjson", "a+b.ndjson"),
        ("a%252Bb", "a%2Bb"),
        ("a%20b", "a b"),
        ("%E2%82%AC", "€"),
        ("100%25", "100%"),
        ("100%", "100%"),
        ("a%zz", "a%zz"),
    ] {
        check(s3_body(&format!(r#"{{"key":"{encoded}"}}"#)), &format!("created | b | {key} | - | - | - | -"));
    }
}

#[test]
fn keys_are_not_decoded_outside_s3_events() {
    check(event_bridge_body("Object Created", ""), "created | b | a+b%20c.csv | v | e | 5 | 00AB");
    check(r#"{"bucket":"b","key":"a+b%2Bc"}"#, "created | b | a+b%2Bc | - | - | - | -");
    check("s3://b/a+b%2Bc d", "created | b | a+b%2Bc d | - | - | - | -");
}

#[test]
fn all_records_are_read_in_order() {
    let records = [
        s3_record_text("2.1", "ObjectCreated:Put", r#"{"key":"1"}"#),
        s3_record_text("2.9", "ObjectCreated:CompleteMultipartUpload", r#"{"key":"2"}"#),
    ];
    check(
        format!(r#"{{"Records":[{}]}}"#, records.join(",")),
        "created | b | 1 | - | - | - | -\ncreated | b | 2 | - | - | - | -",
    );
}

#[test]
fn one_broken_record_makes_the_body_unreadable() {
    let whole = s3_record_text("2.1", "ObjectCreated:Put", r#"{"key":"1"}"#);
    let broken = s3_record_text("2.1", "ObjectCreated:Put", r#"{"size":1}"#);
    check(format!(r#"{{"Records":[{whole},{broken}]}}"#), "unreadable: record 2: key is missing or not a text");
}

#[test]
fn event_names_decide_the_kind() {
    for (event_name, kind) in [
        ("ObjectCreated:Copy", "created"),
        ("s3:ObjectCreated:Put", "created"),
        ("ObjectRestore:Completed", "created"),
        ("ObjectRestore:Post", "other ObjectRestore:Post"),
        ("ObjectRemoved:Delete", "removed"),
        ("ObjectRemoved:DeleteMarkerCreated", "removed (marker)"),
        ("LifecycleExpiration:Delete", "removed by lifecycle"),
        ("LifecycleExpiration:DeleteMarkerCreated", "removed by lifecycle (marker)"),
        ("LifecycleTransition", "other LifecycleTransition"),
        ("ObjectTagging:Put", "other ObjectTagging:Put"),
        (
            "ReplicationReplication:OperationFailedReplication",
            "other ReplicationReplication:OperationFailedReplication",
        ),
    ] {
        let record = s3_record_text("2.1", event_name, r#"{"key":"k"}"#);
        check(format!(r#"{{"Records":[{record}]}}"#), &format!("{kind} | b | k | - | - | - | -"));
    }
}

#[test]
fn another_major_version_is_unsupported_and_still_names_the_object() {
    for version in ["3.0", "1.0", "20.1", "x"] {
        let record = s3_record_text(version, "ObjectCreated:Put", r#"{"key":"a+b"}"#);
        check(format!(r#"{{"Records":[{record}]}}"#), &format!("version {version} | b | a b | - | - | - | -"));
    }
    let record = s3_record_text("2", "ObjectCreated:Put", r#"{"key":"k"}"#);
    check(format!(r#"{{"Records":[{record}]}}"#), "created | b | k | - | - | - | -");
}

#[test]
fn event_bridge_deletions_say_who_and_how() {
    check(
        event_bridge_body("Object Deleted", r#","reason":"DeleteObject","deletion-type":"Permanently Deleted""#),
        "removed | b | a+b%20c.csv | v | e | 5 | 00AB",
    );
    check(
        event_bridge_body(
            "Object Deleted",
            r#","reason":"Lifecycle Expiration","deletion-type":"Delete Marker Created""#,
        ),
        "removed by lifecycle (marker) | b | a+b%20c.csv | v | e | 5 | 00AB",
    );
    check(event_bridge_body("Object Tags Added", ""), "other Object Tags Added | b | a+b%20c.csv | v | e | 5 | 00AB");
}

#[test]
fn sns_wraps_either_kind_of_event() {
    check(in_sns(&s3_body(r#"{"key":"a+b"}"#)), "created | b | a b | - | - | - | -");
    check(in_sns(&event_bridge_body("Object Created", "")), "created | b | a+b%20c.csv | v | e | 5 | 00AB");
    check(in_sns(r#"{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"b"}"#), "test event");
    check(in_sns("{}"), "unreadable: SNS notification whose message is unreadable: JSON of no known shape");
    check(
        in_sns(&in_sns(&s3_body(r#"{"key":"k"}"#))),
        "unreadable: SNS notification whose message is unreadable: SNS notification inside an SNS notification",
    );
    check(
        r#"{"Type":"SubscriptionConfirmation","MessageId":"m","TopicArn":"t","Message":"You have chosen","Token":"x"}"#,
        "unreadable: SNS message that is not a notification",
    );
}

#[test]
fn own_pointers_carry_what_they_name() {
    check(
        r#"{"bucket":"b","key":"k","version_id":"v","etag":"\"e\"","size":5,"sequencer":"1","force":true}"#,
        "created | b | k | v | e | 5 | 1 force",
    );
    check("s3://b/dir/k\n", "created | b | dir/k | - | - | - | -");
}

#[test]
fn absent_empty_and_null_mean_the_same() {
    for object in [r#"{"key":"k","versionId":"null","eTag":"","sequencer":null,"size":null}"#, r#"{"key":"k"}"#] {
        check(s3_body(object), "created | b | k | - | - | - | -");
    }
}

#[test]
fn texts_the_ledger_cannot_hold_are_unreadable() {
    check(s3_body(r#"{"key":"a%00b"}"#), "unreadable: record 1: key contains U+0000");
    check(s3_body(r#"{"key":"%FF"}"#), "unreadable: record 1: key is not UTF-8 after decoding");
    check(r#"{"bucket":"b","key":"\u0000"}"#, "unreadable: key contains U+0000");
    check(r#"{"bucket":"b","key":"k","version_id":"\u0000"}"#, "unreadable: version_id contains U+0000");
    check(r#"{"bucket":"b","key":""}"#, "unreadable: key is empty");
    check(format!("s3://b/{}", "k".repeat(1025)), "unreadable: key is longer than 1024 bytes");
    check(format!("s3://b/{}", "k".repeat(1024)), &format!("created | b | {} | - | - | - | -", "k".repeat(1024)));
    check(s3_body(r#"{"key":"k","size":-1}"#), "unreadable: record 1: size is not a whole number of bytes");
}

#[test]
fn bodies_of_no_known_shape_are_unreadable_without_being_quoted() {
    for (body, reason) in [
        ("", "not JSON and not an s3:// address (line 1, column 0)"),
        ("secret", "not JSON and not an s3:// address (line 1, column 1)"),
        ("[]", "JSON, but not an object"),
        ("{}", "JSON of no known shape"),
        ("s3://bucket", "s3:// address without a key"),
        ("s3:///key", "bucket is empty"),
        (r#"{"Records":[]}"#, "Records is empty"),
        (r#"{"Records":{}}"#, "Records is not a list"),
        (r#"{"Records":[{"eventSource":"aws:sqs"}]}"#, "record 1: eventVersion is missing or not a text"),
        (
            r#"{"bucket":"b","key":"k","version":"v"}"#,
            "pointer with a field that is none of bucket, key, version_id, etag, size, sequencer, force, removed, dataset, after, recipe, refresh",
        ),
        (r#"{"bucket":"b","key":"k","force":"yes"}"#, "force is not true or false"),
        (r#"{"bucket":"b","key":"k","recipe":7}"#, "recipe is not a text"),
        (r#"{"bucket":"b","key":"k","recipe":"7","refresh":true}"#, "more than one of force, recipe and refresh"),
        (r#"{"detail-type":"Object Created"}"#, "EventBridge event without detail"),
    ] {
        check(body, &format!("unreadable: {reason}"));
    }
}

#[test]
fn deeply_nested_bodies_are_refused_not_followed() {
    check("[".repeat(100_000), "unreadable: not JSON and not an s3:// address (line 1, column 128)");
}

#[test]
fn pointers_display_as_addresses() {
    assert_eq!(ObjectPointer::new("b", "a b").to_string(), "s3://b/a b");
    assert_eq!(ObjectPointer::new("file", "/tmp/a.csv").to_string(), "file:///tmp/a.csv");
}

fn some_text() -> impl Strategy<Value = Option<String>> {
    proptest::option::of("[^\0\"]{1,20}".prop_filter("null means none", |text| text != "null"))
}

#[test]
fn a_sequencer_that_is_none_of_s3s_counts_as_absent() {
    for (said, believed) in [
        ("0055AED6DCD90281E5", true),
        ("0000000000000000000000000000000055aed6dcd90281e5", true),
        ("zzzz", false),
        ("0055AED6DCD90281E5 ", false),
        ("-1", false),
        ("9".repeat(65).as_str(), false),
    ] {
        for body in [
            json!({"bucket": "b", "key": "k", "sequencer": said}).to_string(),
            s3_body(&json!({"key": "k", "sequencer": said}).to_string()),
        ] {
            let Parsed::Records(records) = parse(&body) else { panic!("unreadable: {body}") };
            assert_eq!(records[0].pointer.sequencer.as_deref(), believed.then_some(said), "{said:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(body in any::<String>()) {
        let _ = parse(&body);
    }

    #[test]
    fn any_key_text_in_an_event_gives_an_answer(key in any::<String>(), field in any::<String>()) {
        let object = json!({"key": key, "versionId": field, "eTag": field, "sequencer": field});
        let _ = parse(&s3_body(&object.to_string()));
    }

    #[test]
    fn own_pointers_read_back_as_written(
        key in "[^\0]{1,60}", version_id in some_text(), etag in some_text(),
        sequencer in proptest::option::of("[0-9A-F]{1,64}"),
        size in proptest::option::of(0..=i64::MAX as u64),
        anew in proptest::option::of(prop_oneof![
            Just(Anew::Forced), Just(Anew::Refresh), "[0-9a-f]{16}".prop_map(Anew::Recipe)
        ]),
    ) {
        let pointer = ObjectPointer { bucket: "b".into(), key, version_id, etag, size, sequencer };
        let record = Record { anew, ..Record::created(pointer) };
        prop_assert_eq!(parse(&pointer_body(&record)), Parsed::Records(vec![record]));
    }

    #[test]
    fn form_encoding_a_key_and_reading_it_back_changes_nothing(key in "[^\0]{1,60}") {
        let encoded: String = key.bytes().map(|byte| match byte {
            b' ' => "+".to_owned(),
            b'a'..=b'z' | b'/' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        }).collect();
        let Parsed::Records(records) = parse(&s3_body(&format!(r#"{{"key":"{encoded}"}}"#))) else {
            return Err(TestCaseError::fail("unreadable"));
        };
        prop_assert_eq!(&records[0].pointer.key, &key);
    }
}
