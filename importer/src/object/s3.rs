//! Objects in S3.

mod tags;

use super::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use crate::config::Bucket;
use anyhow::Context;
use aws_sdk_s3::{
    Client,
    config::Region,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_object::{GetObjectError, GetObjectOutput},
    primitives::DateTime as AwsDateTime,
    types::RequestPayer,
};
use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use futures_util::{
    Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};
use parking_lot::Mutex;
use service::{
    aws::role::{self, Role},
    words::chain,
};
use std::{
    collections::{HashMap, HashSet},
    error::Error,
    ops::Range,
    sync::Arc,
};

/// Buckets whose region is remembered; more are asked for their region once more.
const MAX_MOVED: usize = 1000;
/// Bytes of a refusal's text that are kept.
const MAX_TEXT: usize = 500;

/// [`ObjectStore`] over the S3 API.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: Client,
    /// Clients for buckets that are reached by a role.
    by_role: HashMap<String, Client>,
    /// Buckets whose owners let the requester pay.
    paid: HashSet<String>,
    /// Clients for buckets that are in other regions than ours.
    moved: Arc<Mutex<HashMap<String, Client>>>,
}

impl S3Store {
    /// Returns a store that speaks through this configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, path_style: bool) -> Self {
        let mut builder = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style);
        if config.region().is_none() {
            // Any region will do to learn a bucket's own.
            builder.set_region(Some(Region::from_static("us-east-1")));
        }
        let client = Client::from_conf(builder.build());
        Self { client, by_role: HashMap::new(), paid: HashSet::new(), moved: Arc::default() }
    }

    /// Reaches buckets as they say. Those of one role share its session.
    #[must_use]
    pub fn with_buckets(mut self, config: &aws_config::SdkConfig, buckets: &[Bucket]) -> Self {
        let mut clients: Vec<(Role, Client)> = Vec::new();
        for bucket in buckets {
            if bucket.requester_pays {
                self.paid.insert(bucket.name.clone());
            }
            let Some(role) = bucket.role() else { continue };
            let known = clients.iter().find(|(known, _)| *known == role).map(|(_, client)| client.clone());
            let client = known.unwrap_or_else(|| {
                let credentials = role.assumed(config).credentials_provider();
                let mut own = self.client.config().to_builder();
                own.set_credentials_provider(credentials);
                let client = Client::from_conf(own.build());
                clients.push((role, client.clone()));
                client
            });
            self.by_role.insert(bucket.name.clone(), client);
        }
        self
    }

    /// Asks for something of a bucket; once more in the bucket's own region when the answer says that it is another.
    async fn ask<T, E, F>(&self, bucket: &str, send: impl Fn(Client) -> F) -> Result<T, SdkError<E>>
    where
        F: Future<Output = Result<T, SdkError<E>>>,
        E: ProvideErrorMetadata,
    {
        let client = self.client(bucket);
        let answer = send(client.clone()).await;
        let other = answer.as_ref().err().and_then(region_told);
        let Some(region) = other.filter(|region| client.config().region().is_none_or(|ours| ours.as_ref() != region))
        else {
            return answer;
        };
        let moved = client.config().to_builder().region(Region::new(region)).build();
        let moved = Client::from_conf(moved);
        let answer = send(moved.clone()).await;
        // Told of the wrong region again, there is no way there.
        if answer.as_ref().err().and_then(region_told).is_none() {
            let mut known = self.moved.lock();
            if known.len() >= MAX_MOVED {
                known.clear();
            }
            known.insert(bucket.to_owned(), moved);
        }
        answer
    }

    fn client(&self, bucket: &str) -> Client {
        let moved = self.moved.lock();
        moved.get(bucket).or_else(|| self.by_role.get(bucket)).unwrap_or(&self.client).clone()
    }

    fn payer(&self, bucket: &str) -> Option<RequestPayer> {
        self.paid.contains(bucket).then_some(RequestPayer::Requester)
    }

    async fn send_get(
        &self,
        target: &ReadTarget,
        range: Option<&Range<u64>>,
    ) -> Result<GetObjectOutput, SdkError<GetObjectError>> {
        let send = |client: Client| {
            let if_match = match (&target.version_id, &target.etag) {
                (None, Some(etag)) if !etag.is_empty() => Some(format!("\"{etag}\"")),
                _ => None,
            };
            let range = range.filter(|range| !range.is_empty());
            client
                .get_object()
                .bucket(&target.bucket)
                .set_request_payer(self.payer(&target.bucket))
                .key(&target.key)
                .set_version_id(target.version_id.clone())
                .set_if_match(if_match)
                .set_range(range.map(|range| format!("bytes={}-{}", range.start, range.end - 1)))
                .send()
        };
        self.ask(&target.bucket, send).await
    }
}

impl ObjectStore for S3Store {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        Box::pin(async move {
            let send = |client: Client| {
                let request = client.head_object().bucket(&target.bucket).key(&target.key);
                request.set_version_id(target.version_id.clone()).set_request_payer(self.payer(&target.bucket)).send()
            };
            match self.ask(&target.bucket, send).await {
                Ok(head) => {
                    object_info(target, head.version_id, head.e_tag, head.content_length, head.last_modified.as_ref())
                }
                // A HEAD has no body, so these do not say why; a GET of one byte does.
                Err(SdkError::ServiceError(error))
                    if matches!(error.raw().status().as_u16(), 301 | 400 | 403 | 404 | 405) =>
                {
                    self.get(target, Some(0..1)).await.map(|body| body.info)
                }
                Err(error) => Err(store_error(error, || format!("HEAD {target}"))),
            }
        })
    }

    fn get<'a>(&'a self, target: &'a ReadTarget, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Body, StoreError>> {
        Box::pin(async move {
            let answer = self.send_get(target, range.as_ref()).await;
            let answer = answer.map_err(|error| store_error(error, || format!("GET {target}")))?;
            // Of a range only `Content-Range` says how long the whole is, and it need not.
            let size = match answer.content_range.as_deref() {
                Some(range) => range.rsplit('/').next().and_then(|size| size.parse().ok()),
                None => answer.content_length,
            };
            let info = object_info(target, answer.version_id, answer.e_tag, size, answer.last_modified.as_ref())?;
            let what = target.to_string();
            let chunks = stream::unfold((answer.body, what), |(mut body, what)| async move {
                let chunk = body.next().await?;
                Some((chunk.with_context(|| format!("read body of {what}")), (body, what)))
            });
            let chunks = match range {
                // A server may ignore Range and answer with the whole (RFC 9110, section 14.2); some stores do for
                // versions other than the current one.
                Some(range) if answer.content_range.is_none() => cut_out(chunks, range).boxed(),
                _ => chunks.boxed(),
            };
            Ok(Body { info, chunks })
        })
    }

    fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        // The token of the page that comes next, which the first has none of; nothing after the last.
        stream::unfold(Some(None), move |page: Option<Option<String>>| async move {
            let token = page?;
            let send = |client: Client| {
                let request = client.list_objects_v2().bucket(bucket).prefix(prefix);
                request.set_continuation_token(token.clone()).set_request_payer(self.payer(bucket)).send()
            };
            let (listed, next): (Vec<Result<Listed, StoreError>>, _) = match self.ask(bucket, send).await {
                Err(error) => (vec![Err(store_error(error, || format!("list s3://{bucket}/{prefix}")))], None),
                Ok(page) => {
                    let next = page.next_continuation_token.filter(|next| token.as_ref() != Some(next));
                    let listed = page.contents.unwrap_or_default().into_iter().filter_map(listed).map(Ok).collect();
                    (listed, next.map(Some))
                }
            };
            Some((stream::iter(listed), next))
        })
        .flatten()
        .boxed()
    }
}

/// Returns the region an answer says the bucket is in.
fn region_told<E: ProvideErrorMetadata>(error: &SdkError<E>) -> Option<String> {
    let SdkError::ServiceError(service) = error else { return None };
    if !matches!(service.raw().status().as_u16(), 301 | 400) {
        return None;
    }
    // In the header or, where the signature is for the wrong region, at the end of the text.
    let told = service.raw().headers().get("x-amz-bucket-region").or_else(|| {
        let text = service.err().message().filter(|_| service.err().code() == Some("AuthorizationHeaderMalformed"))?;
        text.rsplit_once("expecting '")?.1.split('\'').next()
    });
    let is_region = |region: &&str| {
        !region.is_empty() && region.len() <= 64 && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    told.filter(is_region).map(str::to_owned)
}

/// Keeps of a whole body the bytes of `range`.
fn cut_out(
    chunks: impl Stream<Item = anyhow::Result<Bytes>> + Send,
    range: std::ops::Range<u64>,
) -> impl Stream<Item = anyhow::Result<Bytes>> + Send {
    let mut offset = 0;
    chunks.filter_map(move |chunk| {
        let kept = chunk.map(|mut chunk| {
            let length = chunk.len() as u64;
            // No larger than a chunk's length, which is a usize.
            let start = range.start.saturating_sub(offset).min(length) as usize;
            let end = range.end.saturating_sub(offset).min(length) as usize;
            offset += length;
            chunk.truncate(end);
            chunk.advance(start.min(end));
            chunk
        });
        // An empty chunk says nothing, and counts as progress where bodies are resumed.
        future::ready(Some(kept).filter(|kept| !kept.as_ref().is_ok_and(Bytes::is_empty)))
    })
}

fn listed(object: aws_sdk_s3::types::Object) -> Option<Listed> {
    Some(Listed {
        key: object.key?,
        etag: unquoted(&object.e_tag.unwrap_or_default()),
        size: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0),
        last_modified: object.last_modified.as_ref().and_then(time),
    })
}

fn object_info(
    target: &ReadTarget,
    version_id: Option<String>,
    etag: Option<String>,
    size: Option<i64>,
    last_modified: Option<&AwsDateTime>,
) -> Result<ObjectInfo, StoreError> {
    let size = size.and_then(|size| u64::try_from(size).ok()).ok_or_else(|| StoreError::Refused {
        code: "NoLength".into(),
        message: "the answer does not say how long the object is".into(),
    })?;
    Ok(ObjectInfo {
        // Not every store repeats the version that was asked for.
        version_id: version_id.or_else(|| target.version_id.clone()).filter(|v| v != "null" && !v.is_empty()),
        etag: unquoted(&etag.unwrap_or_default()),
        size,
        last_modified: last_modified.and_then(time),
    })
}

fn unquoted(etag: &str) -> String {
    etag.trim_matches('"').to_owned()
}

fn time(time: &AwsDateTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(time.secs(), time.subsec_nanos())
}

/// Tells apart what the caller can do about an S3 error.
fn store_error<E>(error: SdkError<E>, what: impl Fn() -> String) -> StoreError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    if let Some(refused) = role::refused(&error) {
        return StoreError::AccessDenied(shown(&format!("{}: {refused}", what())));
    }
    let answer = match &error {
        SdkError::ServiceError(service) => {
            sort_answer(service.raw().status().as_u16(), service.err().code().unwrap_or_default())
        }
        SdkError::TimeoutError(_) => Answer::Passing,
        // There was no answer. Where the network is not to blame, no such request can be made of this object.
        SdkError::DispatchFailure(failure) => {
            let is_of_the_network = failure.is_io() || failure.is_timeout();
            let is_of_the_way = failure.as_connector_error().is_some_and(|error| service::aws::is_of_the_way(error));
            if is_of_the_network || is_of_the_way { Answer::Passing } else { Answer::Refused("CannotBeAsked".into()) }
        }
        SdkError::ResponseError(answer) => {
            let is_passing = answer.raw().status().is_server_error() || service::aws::is_of_the_way(&error);
            if is_passing { Answer::Passing } else { Answer::Refused("CannotBeRead".into()) }
        }
        _ => Answer::Refused("CannotBeAsked".into()),
    };
    let text = |error: SdkError<E>| match &error {
        SdkError::ServiceError(service) => service.err().message().unwrap_or("no reason given").to_owned(),
        _ => chain(&anyhow::Error::new(error)),
    };
    match answer {
        Answer::Passing => {
            let status = error.raw_response().map(|answer| format!(", answered with {}", answer.status()));
            let what = format!("{}{}", what(), status.unwrap_or_default());
            StoreError::Transient(anyhow::Error::new(error).context(what))
        }
        Answer::Missing => StoreError::Missing,
        Answer::NoBucket => StoreError::NoBucket,
        Answer::Changed => StoreError::Changed,
        Answer::Archived => StoreError::Archived,
        Answer::AccessDenied => StoreError::AccessDenied(shown(&text(error))),
        Answer::Refused(code) => StoreError::Refused { code: shown(&code), message: shown(&text(error)) },
    }
}

/// What S3 has said.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Missing,
    NoBucket,
    Changed,
    Archived,
    AccessDenied,
    /// It is known to pass: trouble of the service, too many requests, our credentials or clock.
    Passing,
    /// Anything else, with its code.
    Refused(String),
}

/// Sorts an answer; codes are those of the
/// [S3 API reference](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
fn sort_answer(status: u16, code: &str) -> Answer {
    match (status, code) {
        (_, "NoSuchBucket") => Answer::NoBucket,
        (_, "InvalidObjectState") => Answer::Archived,
        // Any other 404 may be of a bucket, of a proxy, of a host that is no store. 405: the version named is a delete
        // marker.
        (_, "NoSuchKey" | "NoSuchVersion") | (405, "MethodNotAllowed") => Answer::Missing,
        (412, _) => Answer::Changed,
        // Credentials that are wrong or out of date are an outage of ours, not a property of the object.
        (
            _,
            "ExpiredToken"
            | "ExpiredTokenException"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "InvalidClientTokenId"
            | "UnrecognizedClientException"
            | "RequestExpired"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed",
        ) => Answer::Passing,
        (
            _,
            "SlowDown"
            | "BandwidthLimitExceeded"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "RequestTimeout"
            | "OperationAborted"
            | "ConditionalRequestConflict"
            | "TemporaryRedirect"
            | "InternalError"
            | "ServiceUnavailable",
        )
        | (307 | 408 | 429, _) => Answer::Passing,
        _ if code.contains("Throttl") => Answer::Passing,
        // But not: not implemented, not this version of HTTP.
        (500.., _) if !matches!(status, 501 | 505) => Answer::Passing,
        (403, "AccessDenied" | "Forbidden" | "") => Answer::AccessDenied,
        (_, "") => Answer::Refused(format!("HTTP {status}")),
        _ => Answer::Refused(code.to_owned()),
    }
}

/// Returns a text for people: cut, and without what a terminal would obey.
fn shown(text: &str) -> String {
    let mut shown: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    shown.truncate(shown.floor_char_boundary(MAX_TEXT));
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_s3::{error::ConnectorError, operation::get_object::GetObjectError};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[test]
    fn an_answer_is_passing_only_if_it_is_known_to_pass() {
        let refused = |code: &str| Answer::Refused(code.to_owned());
        for (status, code, expected) in [
            (503, "SlowDown", Answer::Passing),
            (500, "InternalError", Answer::Passing),
            (502, "", Answer::Passing),
            (429, "", Answer::Passing),
            (400, "RequestTimeout", Answer::Passing),
            (400, "KMS.ThrottlingException", Answer::Passing),
            (400, "ExpiredToken", Answer::Passing),
            (403, "InvalidAccessKeyId", Answer::Passing),
            (403, "RequestTimeTooSkewed", Answer::Passing),
            (403, "AccessDenied", Answer::AccessDenied),
            (403, "", Answer::AccessDenied),
            (403, "InvalidObjectState", Answer::Archived),
            (403, "AllAccessDisabled", refused("AllAccessDisabled")),
            (404, "NoSuchKey", Answer::Missing),
            (404, "NoSuchBucket", Answer::NoBucket),
            (404, "", refused("HTTP 404")),
            (404, "NotFound", refused("NotFound")),
            (405, "MethodNotAllowed", Answer::Missing),
            (412, "PreconditionFailed", Answer::Changed),
            (301, "PermanentRedirect", refused("PermanentRedirect")),
            (301, "", refused("HTTP 301")),
            (400, "AuthorizationHeaderMalformed", refused("AuthorizationHeaderMalformed")),
            (400, "KMS.DisabledException", refused("KMS.DisabledException")),
            (400, "InvalidRequest", refused("InvalidRequest")),
            (400, "InvalidArgument", refused("InvalidArgument")),
            (400, "KeyTooLongError", refused("KeyTooLongError")),
            (400, "SomethingNew", refused("SomethingNew")),
            (409, "SomethingNew", refused("SomethingNew")),
            (501, "NotImplemented", refused("NotImplemented")),
        ] {
            assert_eq!(sort_answer(status, code), expected, "{status} {code}");
        }
    }

    fn store_at(endpoint: &str) -> S3Store {
        let config = aws_config::SdkConfig::builder()
            .behavior_version(aws_config::BehaviorVersion::v2026_01_12())
            .region(Region::from_static("us-east-1"))
            .credentials_provider(aws_sdk_s3::config::SharedCredentialsProvider::new(
                aws_sdk_s3::config::Credentials::new("a", "b", None, None, "test"),
            ))
            .http_client(service::aws::http_client().expect("no bundle is named"))
            .endpoint_url(endpoint)
            .retry_config(aws_config::retry::RetryConfig::disabled())
            .build();
        S3Store::new(&config, true)
    }

    #[test]
    fn without_an_answer_only_trouble_of_the_network_is_passing() {
        let problem = || Box::new(std::io::Error::other("no such scheme"));
        for (error, is_passing) in [
            (ConnectorError::io(problem()), true),
            (ConnectorError::timeout(problem()), true),
            (ConnectorError::user(problem()), false),
            (ConnectorError::other(problem(), None), false),
        ] {
            let error = SdkError::<GetObjectError>::dispatch_failure(error);
            let error = store_error(error, || "GET s3://b/k".to_owned());
            let is_refused = matches!(&error, StoreError::Refused { code, .. } if code == "CannotBeAsked");
            assert_eq!((matches!(error, StoreError::Transient(_)), is_refused), (is_passing, !is_passing), "{error}");
        }
    }

    #[tokio::test]
    async fn a_store_that_answers_a_range_with_the_whole_is_read_all_the_same() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let store = store_at(&format!("http://{}", listener.local_addr().expect("an address")));
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await?;
            let mut asked = vec![0; 16 * 1024];
            let n_bytes = stream.read(&mut asked).await?;
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nETag: \"e\"\r\n\r\nabcdefghi").await?;
            std::io::Result::Ok(String::from_utf8_lossy(&asked[..n_bytes]).to_lowercase())
        });
        let target = ReadTarget { bucket: "b".into(), key: "k".into(), version_id: None, etag: None };
        let body = store.get(&target, Some(2..7)).await.expect("an answer");
        assert_eq!(body.info.size, 9);
        let chunks: Vec<Bytes> = body.chunks.map(|chunk| chunk.expect("no error")).collect().await;
        assert_eq!(chunks.concat(), b"cdefg");
        let asked = answering.await.expect("no panic").expect("the connection holds");
        assert!(asked.contains("range: bytes=2-6"), "{asked}");
    }

    #[tokio::test]
    async fn a_request_that_cannot_be_made_is_refused_and_a_peer_out_of_reach_is_not() {
        // Nobody listens on port 1.
        let store = store_at("http://127.0.0.1:1");
        for (bucket, key, etag, expected) in [
            ("b", "k", None, "not answering"),
            ("b", "k", Some("a\u{1}b"), "CannotBeAsked"),
            ("", "k", None, "CannotBeAsked"),
            ("b", "", None, "CannotBeAsked"),
        ] {
            let target =
                ReadTarget { bucket: bucket.into(), key: key.into(), version_id: None, etag: etag.map(str::to_owned) };
            let error = store.get(&target, None).await.err().expect("nobody listens").to_string();
            assert!(error.contains(expected) && !error.contains('\u{1}'), "{bucket}/{key} {etag:?}: {error}");
        }
    }

    #[tokio::test]
    async fn of_a_whole_body_only_the_range_is_kept() {
        for (range, expected) in [(0..9, "abcdefghi"), (2..7, "cdefg"), (3..6, "def"), (4..5, "e"), (8..9, "i")] {
            let chunks = ["abc", "def", "ghi"].map(|chunk| Ok(Bytes::from(chunk)));
            let kept: Vec<Bytes> =
                cut_out(stream::iter(chunks), range).map(|chunk| chunk.expect("no error")).collect().await;
            assert!(kept.iter().all(|chunk| !chunk.is_empty()), "{expected}: {kept:?}");
            assert_eq!(kept.concat(), expected.as_bytes());
        }
    }
}
