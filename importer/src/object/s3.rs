//! Objects in S3.

use super::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError};
use anyhow::Context;
use aws_sdk_s3::{
    error::{ProvideErrorMetadata, SdkError},
    primitives::DateTime as AwsDateTime,
};
use bytes::{Buf, Bytes};
use chrono::{DateTime, Utc};
use futures_util::{
    Stream, StreamExt,
    future::{self, BoxFuture},
    stream::{self, BoxStream},
};

/// [`ObjectStore`] over the S3 API.
#[derive(Debug, Clone)]
pub struct S3Store {
    client: aws_sdk_s3::Client,
}

impl S3Store {
    /// Returns a store that speaks through this configuration.
    #[must_use]
    pub fn new(config: &aws_config::SdkConfig, path_style: bool) -> Self {
        let config = aws_sdk_s3::config::Builder::from(config).force_path_style(path_style).build();
        Self { client: aws_sdk_s3::Client::from_conf(config) }
    }
}

impl ObjectStore for S3Store {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        Box::pin(async move {
            let answer = self
                .client
                .head_object()
                .bucket(&target.bucket)
                .key(&target.key)
                .set_version_id(target.version_id.clone())
                .send()
                .await;
            match answer {
                Ok(head) => object_info(head.version_id, head.e_tag, head.content_length, head.last_modified.as_ref()),
                // A HEAD has no body, so its 400 and 403 do not say why; a GET of one byte does.
                Err(SdkError::ServiceError(error)) if matches!(error.raw().status().as_u16(), 400 | 403) => {
                    self.get(target, Some(0..1)).await.map(|body| body.info)
                }
                Err(error) => Err(store_error(error)),
            }
        })
    }

    fn get<'a>(
        &'a self,
        target: &'a ReadTarget,
        range: Option<std::ops::Range<u64>>,
    ) -> BoxFuture<'a, Result<Body, StoreError>> {
        Box::pin(async move {
            let if_match = match (&target.version_id, &target.etag) {
                (None, Some(etag)) => Some(format!("\"{etag}\"")),
                _ => None,
            };
            let answer = self
                .client
                .get_object()
                .bucket(&target.bucket)
                .key(&target.key)
                .set_version_id(target.version_id.clone())
                .set_if_match(if_match)
                .set_range(range.clone().filter(|r| !r.is_empty()).map(|r| format!("bytes={}-{}", r.start, r.end - 1)))
                .send()
                .await
                .map_err(store_error)?;
            let whole = answer.content_range.as_deref().and_then(|range| range.rsplit('/').next()?.parse().ok());
            let size = whole.or(answer.content_length);
            let info = object_info(answer.version_id, answer.e_tag, size, answer.last_modified.as_ref())?;
            let chunks = stream::unfold(answer.body, |mut body| async move {
                let chunk = body.next().await?;
                Some((chunk.context("read body"), body))
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
        let pages = self.client.list_objects_v2().bucket(bucket).prefix(prefix).into_paginator().send();
        stream::unfold(pages, |mut pages| async move {
            let page = pages.next().await?;
            let listed: Vec<Result<Listed, StoreError>> = match page {
                Err(error) => vec![Err(store_error(error))],
                Ok(page) => page.contents.unwrap_or_default().into_iter().filter_map(listed).map(Ok).collect(),
            };
            Some((stream::iter(listed), pages))
        })
        .flatten()
        .boxed()
    }
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
    version_id: Option<String>,
    etag: Option<String>,
    size: Option<i64>,
    last_modified: Option<&AwsDateTime>,
) -> Result<ObjectInfo, StoreError> {
    let size = size
        .and_then(|size| u64::try_from(size).ok())
        .ok_or_else(|| StoreError::Transient(anyhow::anyhow!("the answer has no length")))?;
    Ok(ObjectInfo {
        version_id: version_id.filter(|v| v != "null" && !v.is_empty()),
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

/// Tells apart what the caller can do about an S3 error; codes are those of the
/// [S3 API reference](https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html).
fn store_error<E>(error: SdkError<E>) -> StoreError
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let SdkError::ServiceError(service) = &error else {
        return StoreError::Transient(anyhow::Error::new(error).context("ask S3"));
    };
    let status = service.raw().status().as_u16();
    let code = service.err().code().unwrap_or_default().to_owned();
    let text = service.err().message().unwrap_or(&code).to_owned();
    match (status, code.as_str()) {
        (_, "NoSuchBucket") => StoreError::NoBucket,
        (_, "InvalidObjectState") => StoreError::Archived,
        // 405: the version named is a delete marker.
        (404 | 405, _) | (_, "NoSuchKey" | "NoSuchVersion") => StoreError::Missing,
        (412, _) => StoreError::Changed,
        // Credentials that are wrong or out of date are an outage of ours, not a property of the object.
        (
            _,
            "ExpiredToken"
            | "InvalidToken"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "TokenRefreshRequired"
            | "RequestTimeTooSkewed"
            | "ExpiredTokenException"
            | "InvalidClientTokenId",
        ) => StoreError::Transient(anyhow::Error::new(error).context("ask S3")),
        (403, _) => StoreError::AccessDenied(if text.is_empty() { "no reason given".into() } else { text }),
        _ => StoreError::Transient(anyhow::Error::new(error).context("ask S3")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
