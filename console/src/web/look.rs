//! What is looked at: each part is read once for all who look, and at most every few seconds.

use crate::{
    page::now::Now,
    read::{
        Reader,
        chart::{Point, Span, chart},
        dataset::{self, Dataset},
        due::{self, Due},
        kept::{Kept, Seen},
        now::{self, Changes, DatasetNow, PoolNow, Problem, Server},
        object::{self, Story},
        objects::{self, Objects, Search},
        pool::{self, Pool},
        rejects::{self, Row, Which},
    },
};
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// How long most is fresh.
const FRESH: Duration = Duration::from_secs(4);

/// How long what costs more, and changes less, is fresh.
const FRESH_ENOUGH: Duration = Duration::from_secs(10);

/// Charts that are kept; pools have names that anybody may ask for.
const MOST_CHARTS: usize = 32;

type Charts = HashMap<(String, Span), Arc<Kept<Vec<Point>>>>;

/// The database, and what was read of it last.
pub struct Look {
    reader: Reader,
    start_database: Option<String>,
    pools: Kept<Vec<PoolNow>>,
    datasets: Kept<Vec<DatasetNow>>,
    problems: Kept<Vec<Problem>>,
    server: Kept<Server>,
    changes: Kept<Changes>,
    charts: Mutex<Charts>,
}

impl Look {
    /// Nothing is read yet.
    pub fn new(reader: Reader, start_database: Option<String>) -> Self {
        Self {
            reader,
            start_database,
            pools: Kept::new(FRESH),
            datasets: Kept::new(FRESH_ENOUGH),
            problems: Kept::new(FRESH),
            server: Kept::new(FRESH),
            changes: Kept::new(FRESH_ENOUGH),
            charts: Mutex::default(),
        }
    }

    /// Returns what `/` is made from; without the name of a pool the latest one is drawn, or else the first.
    pub async fn now(&self, span: Span, pool: Option<&str>) -> Now {
        let reader = &self.reader;
        let (pools, datasets, problems, server, changes) = tokio::join!(
            self.pools.get(async || now::pools(reader).await),
            self.datasets.get(async || now::datasets(reader).await),
            self.problems.get(async || now::problems(reader).await),
            self.server.get(async || now::server(reader).await),
            self.changes.get(async || now::changes(reader).await),
        );
        let known = pools.value.as_deref().map(Vec::as_slice).unwrap_or_default();
        let asked = known.iter().find(|known| Some(known.pool.as_str()) == pool);
        let drawn = asked.or_else(|| known.iter().find(|pool| pool.is_late())).or(known.first());
        let drawn = drawn.map(|pool| pool.pool.clone());
        let points = match &drawn {
            Some(pool) => self.chart(pool, span).get(async || chart(reader, pool, span).await).await,
            None => Seen::default(),
        };
        let start_database = self.start_database.clone();
        Now { pools, datasets, problems, server, changes, drawn, span, points, start_database }
    }

    /// Returns what is known of one version.
    pub async fn object(&self, id: i64) -> Seen<Option<Story>> {
        Seen::once(object::story(&self.reader, id).await)
    }

    /// Returns a page of objects.
    pub async fn objects(&self, search: &Search) -> Seen<Objects> {
        Seen::once(objects::objects(&self.reader, search).await)
    }

    /// Returns what is known of a dataset.
    pub async fn dataset(&self, name: &str, span: Span) -> Seen<Dataset> {
        Seen::once(dataset::dataset(&self.reader, name, span).await)
    }

    /// Returns a pool over time, and what is known of it.
    pub async fn pool(&self, name: &str, span: Span) -> (Seen<Vec<Point>>, Seen<Pool>) {
        let points = chart(&self.reader, name, span);
        let (points, pool) = tokio::join!(points, pool::pool(&self.reader, name));
        (Seen::once(points), Seen::once(pool))
    }

    /// Returns the kinds of rejects, and rows of one of them.
    pub async fn rejects(&self, which: Option<&Which>) -> (Seen<Vec<Problem>>, Seen<Vec<Row>>) {
        let kinds = Seen::once(now::gathered(&self.reader, Some("rejected"), None).await);
        let rows = match which {
            Some(which) => Seen::once(rejects::rejects(&self.reader, which).await),
            None => Seen::default(),
        };
        (kinds, rows)
    }

    /// Returns what waits to be sent, behind a time and an id.
    pub async fn due(&self, after: Option<(DateTime<Utc>, i64)>) -> Seen<Due> {
        Seen::once(due::due(&self.reader, after).await)
    }

    fn chart(&self, pool: &str, span: Span) -> Arc<Kept<Vec<Point>>> {
        let mut charts = self.charts.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (pool.to_owned(), span);
        if charts.len() >= MOST_CHARTS && !charts.contains_key(&key) {
            charts.clear();
        }
        // A point is as long as a 180th of the span.
        let fresh = FRESH_ENOUGH.max(Duration::from_secs_f64(span.secs() / 180.0).min(Duration::from_secs(60)));
        Arc::clone(charts.entry(key).or_insert_with(|| Arc::new(Kept::new(fresh))))
    }
}
