use super::{preset::Preset, *};
use crate::{
    TextOptions,
    testing::{options, read_rows, text_columns},
};

fn read(text: &str, options: TextOptions, columns: &str) -> Vec<String> {
    let columns: Vec<&str> = columns.split(' ').collect();
    let read = ReadOptions { text: options, format: crate::Format::Text, ..crate::testing::options() };
    let source = crate::testing::Memory { bytes: text.as_bytes().to_vec(), ..Default::default() };
    let reader = crate::open(Arc::new(source), &read).expect("opens");
    read_rows(reader, &text_columns(&columns)).expect("rows")
}

fn by_pattern(pattern: &str) -> TextOptions {
    TextOptions { pattern: Some(Pattern::new(pattern).expect("a pattern")), ..TextOptions::default() }
}

fn by_preset(preset: Preset) -> TextOptions {
    TextOptions::of_preset(preset, &[])
}

#[test]
fn a_line_is_a_field_or_taken_apart_by_a_pattern() {
    let text = "one, \"two\"\r\n\n{3}\rlast";
    assert_eq!(read(text, TextOptions::default(), "line"), ["one, \"two\"", "{3}", "last"]);
    let mut options = by_pattern(r"(?P<a>\d+)(?: (?P<b>\w*))?");
    options.null = vec!["none".into()];
    let text = "1 x\n2\nx 3\n4 none\n5 x y\n6 \n";
    assert_eq!(read(text, options, "a b"), ["1|x", "2|∅", "3 syntax: x 3", "4|∅", "5 syntax: 5 x y", "6|"]);
    assert_eq!(read("a|b\n", by_pattern("(?P<a>a)|(?P<b>b).*"), "a b"), ["1 syntax: a|b"]);
}

#[test]
fn a_line_that_is_too_long_or_no_text_is_a_reject() {
    let long = "x".repeat(3 << 20);
    let text = format!("1\n{long}\n2\n{long}");
    let rows = read(&text, by_pattern("(?P<a>.*)"), "a");
    assert_eq!(
        rows.iter().map(|row| &row[..row.len().min(11)]).collect::<Vec<_>>(),
        ["1", "2 row_size:", "2", "4 row_size:"]
    );
    let read = ReadOptions { text: by_pattern("(?P<a>.*)"), ..options() };
    let reader = open(Box::new(std::io::Cursor::new(b"a\n\xFF\n".to_vec())), &read);
    assert!(read_rows(reader, &text_columns(&["a"])).expect("rows")[1].starts_with("2 text: "));
}

#[test]
fn a_pattern_without_names_or_beyond_bounds_is_refused() {
    for pattern in [r"\d+", "(", "(?P<a>a", ")(?P<a>a)(", r"(?P<a>\w{10000})", r"(?P<a>a)\1"] {
        assert!(Pattern::new(pattern).is_err(), "{pattern}");
    }
}

#[test]
fn time_is_linear_in_the_line() {
    let text = format!("{}!\n", "a".repeat(1 << 16));
    let started = std::time::Instant::now();
    assert_eq!(read(&text, by_pattern("(?P<a>(a*)*b)"), "a").len(), 1);
    assert!(started.elapsed() < std::time::Duration::from_secs(20));
}

#[test]
fn web_servers_logs_are_read() {
    let line = r#"10.0.0.1 - ada lovelace [10/Oct/2000:13:55:36 -0700] "GET /a b?x=\"y\" HTTP/1.0" 200 -"#;
    let columns = "remote_host ident remote_user time request_method request_url request_protocol status bytes";
    let expected = r#"10.0.0.1|∅|ada lovelace|10/Oct/2000:13:55:36 -0700|GET|/a b?x=\"y\"|HTTP/1.0|200|∅"#;
    assert_eq!(read(line, by_preset(Preset::Clf), columns), [expected]);
    let line = format!("{line} \"-\" \"curl/8 (\\\"x\\\")\"\n1.1.1.1 - - [x] \"\\x16\\x03\" 400 1 \"-\" \"-\"\n");
    let expected = ["∅|curl/8 (\\\"x\\\")|200|GET /a b?x=\\\"y\\\" HTTP/1.0", "∅|∅|400|\\x16\\x03"];
    assert_eq!(read(&line, by_preset(Preset::Combined), "referer user_agent status request"), expected);
}

#[test]
fn logs_of_s3_and_load_balancers_are_read() {
    let line = r#"79a5 bucket [06/Feb/2019:00:00:38 +0000] 192.0.2.3 arn:aws:iam::1:user/a 3E57 REST.GET.OBJECT a/b+c "GET /bucket/a/b+c?x="y" HTTP/1.1" 200 - 113 242 7 - "-" "S3Console/0.4 "q"" - s9lz SigV4 ECDHE-RSA AuthHeader b.s3.amazonaws.com TLSV1.2 - Yes new fields"#;
    let columns =
        "bucket time remote_ip key request_url http_status error_code referer user_agent version_id acl_required";
    let expected =
        "bucket|06/Feb/2019:00:00:38 +0000|192.0.2.3|a/b+c|/bucket/a/b+c?x=\"y\"|200|∅|∅|S3Console/0.4 \"q\"|∅|Yes";
    assert_eq!(read(line, by_preset(Preset::S3Access), columns), [expected]);
    // What the service adds later is passed over.
    assert_eq!(read(&format!("{line} later \"fields\""), by_preset(Preset::S3Access), columns), [expected]);
    let old = line.split(" s9lz").next().expect("a part");
    assert_eq!(read(old, by_preset(Preset::S3Access), "bucket host_id"), ["bucket|∅"]);
    let line = r#"https 2018-07-02T22:23:00.186641Z app/my/50 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "GET https://www.example.com:443/ HTTP/1.1" "curl/7.46.0" ECDHE TLSv1.2 arn:aws:tg "Root=1-58" "www.example.com" "arn:cert" 1 2018-07-02T22:22:48.364000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_1"#;
    let columns = "type time client_ip client_port target_ip target_port request_method request_url domain_name redirect_url conn_trace_id";
    let expected = "https|2018-07-02T22:23:00.186641Z|192.168.131.39|2817|10.0.0.1|80|GET|https://www.example.com:443/|www.example.com|∅|TID_1";
    assert_eq!(read(line, by_preset(Preset::Alb), columns), [expected]);
    let failed = line.replace("10.0.0.1:80 0.086", "- -1").replace("192.168.131.39:2817", "2001:db8::1:2817");
    assert_eq!(
        read(&failed, by_preset(Preset::Alb), "client_ip client_port target_ip target_port"),
        ["2001:db8::1|2817|∅|∅"]
    );
    let line = "tls 2.0 2018-12-20T02:59:40 net/my/c6 g3d4 72.21.218.154:51341 172.100.100.185:443 5 2 98 246 - arn:cert - ECDHE TLSv12 - my.elb - - - 2018-12-20T02:59:30";
    let columns =
        "version time client_ip destination_port connection_time incoming_tls_alert tls_connection_creation_time";
    let expected = "2.0|2018-12-20T02:59:40|72.21.218.154|443|5|∅|2018-12-20T02:59:30";
    assert_eq!(read(line, by_preset(Preset::Nlb), columns), [expected]);
}

#[test]
fn logs_that_name_their_fields_are_read_by_those() {
    let text = "#Version: 1.0\n#Fields: date time x-edge-location sc-bytes cs(User-Agent)\n\
                2019-12-04\t21:02:31\tLAX1\t392\tMozilla/5.0%20(X\"11)\n2019-12-04\t21:02:32\tLAX1\t-\t-\nx\n";
    let rows = read(text, by_preset(Preset::Cloudfront), "date time x_edge_location sc_bytes cs_user_agent");
    let expected =
        ["2019-12-04|21:02:31|LAX1|392|Mozilla/5.0%20(X\"11)", "2019-12-04|21:02:32|LAX1|∅|∅", "3 syntax: x"];
    assert_eq!(rows, expected);
    let text = "version account-id srcaddr start log-status\n2 123 10.0.0.1 1431280876 OK\n2 123 - 1431280877 NODATA\n";
    let rows = read(text, by_preset(Preset::VpcFlow), "version account_id srcaddr start log_status");
    assert_eq!(rows, ["2|123|10.0.0.1|1431280876|OK", "2|123|∅|1431280877|NODATA"]);
    let read = ReadOptions { text: by_preset(Preset::Cloudfront), format: crate::Format::Text, ..options() };
    let source = crate::testing::Memory { bytes: b"a\tb\n".to_vec(), ..Default::default() };
    let error = crate::open(Arc::new(source), &read).err().expect("no fields").to_string();
    assert_eq!(error, "corrupt: no #Fields: line before the first record");
}
