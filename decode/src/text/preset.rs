//! Logs that many have, as patterns or as dialects of CSV.

use super::Pattern;
use crate::{CsvOptions, Names, ReadOptions};

/// `preset` of a dataset's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// S3 server access logs.
    S3Access,
    /// Access logs of an Application Load Balancer.
    Alb,
    /// TLS access logs of a Network Load Balancer.
    Nlb,
    /// CloudFront's standard logs: the fields that the file's `#Fields:` line names, `cs(User-Agent)` as `cs_user_agent`.
    Cloudfront,
    /// VPC flow logs: the fields that the file's first line names, `account-id` as `account_id`.
    VpcFlow,
    /// The Common Log Format of web servers.
    Clf,
    /// The same with referer and user agent.
    Combined,
}

/// How a part of a line is written.
#[derive(Debug, Clone, Copy)]
enum Part {
    /// Without a blank.
    Word(&'static str),
    /// In quotes, or a dash.
    Quoted(&'static str),
    /// A time in brackets.
    Time(&'static str),
    /// An address, and a port where there is one.
    Address(&'static str),
    /// A request in quotes, and what it is made of.
    Request,
    /// All up to the next part.
    Words(&'static str),
}

/// What stands between quotes: in services' logs anything, for they leave quotes as they are; in those of web servers an
/// escape before each.
const ANY: &str = ".*?";
const ESCAPED: &str = r#"(?:[^"\\]|\\.)*?"#;

use Part::{Address, Quoted, Request, Time, Word, Words};

const CLF: [Part; 7] =
    [Word("remote_host"), Word("ident"), Words("remote_user"), Time("time"), Request, Word("status"), Word("bytes")];

/// <https://docs.aws.amazon.com/AmazonS3/latest/userguide/LogFormat.html>
const S3_ACCESS: [Part; 26] = [
    Word("bucket_owner"),
    Word("bucket"),
    Time("time"),
    Word("remote_ip"),
    Word("requester"),
    Word("request_id"),
    Word("operation"),
    Word("key"),
    Request,
    Word("http_status"),
    Word("error_code"),
    Word("bytes_sent"),
    Word("object_size"),
    Word("total_time"),
    Word("turn_around_time"),
    Quoted("referer"),
    Quoted("user_agent"),
    Word("version_id"),
    Word("host_id"),
    Word("signature_version"),
    Word("cipher_suite"),
    Word("authentication_type"),
    Word("host_header"),
    Word("tls_version"),
    Word("access_point_arn"),
    Word("acl_required"),
];
/// Before this many of them the log had fewer.
const S3_ACCESS_REQUIRED: usize = 18;

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/application/load-balancer-access-logs.html>
const ALB: [Part; 33] = [
    Word("type"),
    Word("time"),
    Word("elb"),
    Address("client"),
    Address("target"),
    Word("request_processing_time"),
    Word("target_processing_time"),
    Word("response_processing_time"),
    Word("elb_status_code"),
    Word("target_status_code"),
    Word("received_bytes"),
    Word("sent_bytes"),
    Request,
    Quoted("user_agent"),
    Word("ssl_cipher"),
    Word("ssl_protocol"),
    Word("target_group_arn"),
    Quoted("trace_id"),
    Quoted("domain_name"),
    Quoted("chosen_cert_arn"),
    Word("matched_rule_priority"),
    Word("request_creation_time"),
    Quoted("actions_executed"),
    Quoted("redirect_url"),
    Quoted("error_reason"),
    Quoted("target_port_list"),
    Quoted("target_status_code_list"),
    Quoted("classification"),
    Quoted("classification_reason"),
    Word("conn_trace_id"),
    Quoted("transformed_host"),
    Quoted("transformed_uri"),
    Quoted("request_transform_status"),
];
const ALB_REQUIRED: usize = 17;

/// <https://docs.aws.amazon.com/elasticloadbalancing/latest/network/load-balancer-access-logs.html>
const NLB: [Part; 22] = [
    Word("type"),
    Word("version"),
    Word("time"),
    Word("elb"),
    Word("listener"),
    Address("client"),
    Address("destination"),
    Word("connection_time"),
    Word("tls_handshake_time"),
    Word("received_bytes"),
    Word("sent_bytes"),
    Word("incoming_tls_alert"),
    Word("chosen_cert_arn"),
    Word("chosen_cert_serial"),
    Word("tls_cipher"),
    Word("tls_protocol_version"),
    Word("tls_named_group"),
    Word("domain_name"),
    Word("alpn_fe_protocol"),
    Word("alpn_be_protocol"),
    Word("alpn_client_preference_list"),
    Word("tls_connection_creation_time"),
];
const NLB_REQUIRED: usize = 18;

impl Preset {
    /// Those there are; of two that fit a line the first says more.
    pub const ALL: [Self; 7] =
        [Self::Combined, Self::Clf, Self::S3Access, Self::Alb, Self::Nlb, Self::Cloudfront, Self::VpcFlow];

    /// Returns how it is configured.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3Access => "s3_access",
            Self::Alb => "alb",
            Self::Nlb => "nlb",
            Self::Cloudfront => "cloudfront",
            Self::VpcFlow => "vpc_flow",
            Self::Clf => "clf",
            Self::Combined => "combined",
        }
    }

    /// Returns the pattern of the log's lines; None where the file says what its fields are.
    #[must_use]
    pub fn pattern(self) -> Option<Pattern> {
        let text = match self {
            Self::Cloudfront | Self::VpcFlow => return None,
            Self::Clf => pattern_of(&CLF, CLF.len(), ESCAPED),
            Self::Combined => {
                let parts: Vec<Part> = CLF.into_iter().chain([Quoted("referer"), Quoted("user_agent")]).collect();
                pattern_of(&parts, parts.len(), ESCAPED)
            }
            Self::S3Access => pattern_of(&S3_ACCESS, S3_ACCESS_REQUIRED, ANY),
            Self::Alb => pattern_of(&ALB, ALB_REQUIRED, ANY),
            Self::Nlb => pattern_of(&NLB, NLB_REQUIRED, ANY),
        };
        Some(Pattern::new(&text).expect("a test compiles every preset"))
    }

    /// Returns how the times of the log's fields are written, where a column's type does not say.
    #[must_use]
    pub fn notations(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::S3Access | Self::Clf | Self::Combined => &[("time", "%d/%b/%Y:%H:%M:%S %z")],
            Self::VpcFlow => &[("start", "epoch_s"), ("end", "epoch_s")],
            Self::Alb | Self::Nlb | Self::Cloudfront => &[],
        }
    }

    /// Returns the dialect of CSV that the log is, if it is one.
    fn dialect(self, null: &[String]) -> Option<CsvOptions> {
        let (delimiter, comment, names) = match self {
            Self::Cloudfront => (b'\t', Some(b'#'), Names::OfFieldsLine),
            Self::VpcFlow => (b' ', None, Names::Plain),
            _ => return None,
        };
        let null = null.to_vec();
        Some(CsvOptions { delimiter, quote: None, comment, names, null, ..CsvOptions::default() })
    }
}

/// Returns the options to read a text with as CSV, if it is a log that is.
pub fn as_csv(options: &ReadOptions) -> Option<ReadOptions> {
    let csv = options.text.preset?.dialect(&options.text.null)?;
    Some(ReadOptions { csv, ..options.clone() })
}

/// Returns a pattern of parts with a blank between, and what quotes may hold; the first of them have to be there, and others may follow.
fn pattern_of(parts: &[Part], n_required: usize, quoted: &str) -> String {
    let mut pattern = String::new();
    for (place, part) in parts.iter().enumerate() {
        if place >= n_required {
            pattern.push_str("(?:");
        }
        if place > 0 {
            pattern.push(' ');
        }
        match part {
            Word(name) => pattern.push_str(&format!(r"(?P<{name}>\S+)")),
            Words(name) => pattern.push_str(&format!("(?P<{name}>.+?)")),
            Quoted(name) => pattern.push_str(&format!(r#"(?:"(?P<{name}>{quoted})"|-)"#)),
            Time(name) => pattern.push_str(&format!(r"\[(?P<{name}>[^\]]*)\]")),
            Address(name) => pattern.push_str(&format!(r"(?P<{name}_ip>\S+?)(?::(?P<{name}_port>\d+))?")),
            Request => pattern.push_str(&format!(
                r#"(?:"(?P<request>(?P<request_method>\S+) (?P<request_url>{quoted}) (?P<request_protocol>HTTP/[0-9.]+|-)|{quoted})"|-)"#
            )),
        }
    }
    let n_optional = parts.len() - n_required;
    // Fields that are added later are no reason to refuse a line of a service's log.
    let rest = if n_optional > 0 { "(?: .*)?" } else { "" };
    format!("{pattern}{rest}{}", ")?".repeat(n_optional))
}
