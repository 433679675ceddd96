//! Tags of objects, which lifecycle rules go by.

use super::{S3Store, store_error};
use crate::object::{ObjectStore, ReadTarget, StoreError};
use aws_sdk_s3::{
    Client,
    error::BuildError,
    types::{Tag, Tagging},
};
use tokio::time::Instant;

/// Tags an object may have: S3's limit.
const MOST: usize = 10;

impl S3Store {
    /// Gives the version that was loaded a tag, beside those that it has; one of the same key gets the new value.
    ///
    /// Where there are no versions the tag is the object's, whatever its content: one whose ETag is another by now, even
    /// while this is done, has no such tag afterwards. Nothing is written after `end`, for then another may be at it.
    ///
    /// # Errors
    /// [`StoreError::Missing`] and [`StoreError::Changed`] when what was loaded is not there any more; it needs no tag.
    pub async fn tag(&self, loaded: &ReadTarget, key: &str, value: &str, end: Instant) -> Result<(), StoreError> {
        self.check_content(loaded, key, value, end).await?;
        let mut tags = self.tags(loaded).await?;
        if tags.iter().any(|tag| tag.key == key && tag.value == value) {
            return Ok(());
        }
        tags.retain(|tag| tag.key != key);
        if tags.len() >= MOST {
            let message = format!("the object has {MOST} tags, which is as many as S3 takes, and none called {key}");
            return Err(StoreError::Refused { code: "TooManyTags".into(), message });
        }
        tags.push(Tag::builder().key(key).value(value).build().map_err(cannot_be_asked)?);
        self.put_tags(loaded, tags, end).await?;
        self.check_content(loaded, key, value, end).await
    }

    /// Fails with [`StoreError::Changed`] where the content is not what was loaded, and takes the tag off it.
    async fn check_content(&self, loaded: &ReadTarget, key: &str, value: &str, end: Instant) -> Result<(), StoreError> {
        if loaded.version_id.is_some() {
            return Ok(());
        }
        let now = self.head(&ReadTarget { etag: None, ..loaded.clone() }).await?;
        if loaded.etag.as_ref() == Some(&now.etag) {
            return Ok(());
        }
        let mut tags = self.tags(loaded).await?;
        let n_tags = tags.len();
        tags.retain(|tag| tag.key != key || tag.value != value);
        if tags.len() < n_tags {
            self.put_tags(loaded, tags, end).await?;
        }
        Err(StoreError::Changed)
    }

    async fn tags(&self, of: &ReadTarget) -> Result<Vec<Tag>, StoreError> {
        let send = |client: Client| {
            client
                .get_object_tagging()
                .set_request_payer(self.payer(&of.bucket))
                .bucket(&of.bucket)
                .key(&of.key)
                .set_version_id(of.version_id.clone())
                .send()
        };
        let answer = self.ask(&of.bucket, send).await;
        answer.map(|answer| answer.tag_set).map_err(|error| store_error(error, || format!("read the tags of {of}")))
    }

    async fn put_tags(&self, of: &ReadTarget, tags: Vec<Tag>, end: Instant) -> Result<(), StoreError> {
        if Instant::now() >= end {
            return Err(StoreError::Transient(anyhow::anyhow!("reading the tags of {of} took too long")));
        }
        let tags = Tagging::builder().set_tag_set(Some(tags)).build().map_err(cannot_be_asked)?;
        let send = |client: Client| {
            client
                .put_object_tagging()
                .bucket(&of.bucket)
                .key(&of.key)
                .set_request_payer(self.payer(&of.bucket))
                .set_version_id(of.version_id.clone())
                .tagging(tags.clone())
                .send()
        };
        let answer = self.ask(&of.bucket, send).await;
        answer.map(|_| ()).map_err(|error| store_error(error, || format!("write the tags of {of}")))
    }
}

fn cannot_be_asked(error: BuildError) -> StoreError {
    StoreError::Refused { code: "CannotBeAsked".into(), message: error.to_string() }
}
