//! The object store as an import sees it.

use crate::{
    load::liveness::elsewhere,
    object::{Body, Listed, ObjectInfo, ObjectStore, ReadTarget, StoreError},
};
use futures_util::{future::BoxFuture, stream::BoxStream};
use std::{ops::Range, sync::Arc};

/// A store whose answers do not count as time that Postgres is silent.
pub(super) struct UnwatchedStore(pub Arc<dyn ObjectStore>);

impl ObjectStore for UnwatchedStore {
    fn head<'a>(&'a self, target: &'a ReadTarget) -> BoxFuture<'a, Result<ObjectInfo, StoreError>> {
        Box::pin(elsewhere(self.0.head(target)))
    }

    fn get<'a>(&'a self, target: &'a ReadTarget, range: Option<Range<u64>>) -> BoxFuture<'a, Result<Body, StoreError>> {
        Box::pin(elsewhere(self.0.get(target, range)))
    }

    fn list<'a>(&'a self, bucket: &'a str, prefix: &'a str) -> BoxStream<'a, Result<Listed, StoreError>> {
        self.0.list(bucket, prefix)
    }
}
