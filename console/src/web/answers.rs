//! What is answered at each address.

use super::{App, NO_PAGE};
use crate::{
    html::Page,
    page::{self, objects::Asked},
    read::{
        chart::Span,
        kept::Seen,
        objects::{Cursor, Search},
        rejects::Which,
    },
};
use axum::{
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value;
use std::sync::Arc;

/// What all requests share.
pub type Shared = State<Arc<App>>;

/// What may be asked of `/`.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct NowQuery {
    /// How far back is drawn.
    #[serde(default)]
    pub span: Span,
    /// Which pool is drawn.
    pub pool: Option<String>,
}

/// How far back is looked.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct SpanQuery {
    #[serde(default)]
    span: Span,
}

/// `/`
pub async fn now(State(app): Shared, Query(asked): Query<NowQuery>) -> Response {
    html(&app, app.look.now(asked.span, asked.pool.as_deref()).await.page())
}

/// `/.json`
pub async fn now_json(State(app): Shared, Query(asked): Query<NowQuery>) -> Response {
    json(&app.look.now(asked.span, asked.pool.as_deref()).await.json())
}

/// `/objects/ID` and `/objects/ID.json`
pub async fn object(State(app): Shared, Path(asked): Path<String>) -> Response {
    let (id, is_json) = split(&asked);
    let Ok(id) = id.parse() else { return (StatusCode::NOT_FOUND, NO_PAGE).into_response() };
    let seen = app.look.object(id).await;
    let answer = if is_json { json(&page::object::json(&seen)) } else { html(&app, page::object::page(id, &seen)) };
    found(seen.value.as_deref().is_none_or(Option::is_some), with_status(&seen, answer))
}

/// `/objects`
pub async fn objects(State(app): Shared, Query(asked): Query<Asked>) -> Response {
    match search(&asked, Utc::now()) {
        Ok(search) => {
            let seen = app.look.objects(&search).await;
            with_status(&seen, html(&app, page::objects::page(&asked, None, &seen)))
        }
        Err(wrong) => {
            (StatusCode::BAD_REQUEST, html(&app, page::objects::page(&asked, Some(&wrong), &Seen::default())))
                .into_response()
        }
    }
}

/// `/objects.json`
pub async fn objects_json(State(app): Shared, Query(asked): Query<Asked>) -> Response {
    match search(&asked, Utc::now()) {
        Ok(search) => {
            let seen = app.look.objects(&search).await;
            with_status(&seen, json(&page::objects::json(&asked, &seen)))
        }
        Err(wrong) => (StatusCode::BAD_REQUEST, wrong + "\n").into_response(),
    }
}

/// `/datasets/NAME` and `/datasets/NAME.json`
pub async fn dataset(State(app): Shared, Path(asked): Path<String>, Query(query): Query<SpanQuery>) -> Response {
    let (name, is_json) = split(&asked);
    let seen = app.look.dataset(name, query.span).await;
    let answer = if is_json {
        json(&page::dataset::json(&seen))
    } else {
        html(&app, page::dataset::page(name, query.span, &seen))
    };
    found(seen.value.as_deref().is_none_or(|dataset| dataset.is_known), with_status(&seen, answer))
}

/// `/pools/NAME` and `/pools/NAME.json`
pub async fn pool(State(app): Shared, Path(asked): Path<String>, Query(query): Query<SpanQuery>) -> Response {
    let (name, is_json) = split(&asked);
    let (points, seen) = app.look.pool(name, query.span).await;
    let answer = if is_json {
        json(&page::pool::json(&points, &seen))
    } else {
        html(&app, page::pool::page(name, query.span, &points, &seen))
    };
    found(seen.value.as_deref().is_none_or(|pool| pool.is_known), with_status(&seen, answer))
}

/// Which rows of `/rejects` are asked for; without a dataset only what kinds there are.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct RejectsQuery {
    dataset: Option<String>,
    #[serde(default)]
    class: String,
    #[serde(default)]
    column: String,
}

impl RejectsQuery {
    fn which(self) -> Option<Which> {
        let dataset = self.dataset?;
        Some(Which { dataset, class: self.class, column: self.column })
    }
}

/// `/rejects`
pub async fn rejects(State(app): Shared, Query(asked): Query<RejectsQuery>) -> Response {
    let which = asked.which();
    let (kinds, rows) = app.look.rejects(which.as_ref()).await;
    with_status(&kinds, html(&app, page::rejects::page(&kinds, which.as_ref(), &rows)))
}

/// `/rejects.json`
pub async fn rejects_json(State(app): Shared, Query(asked): Query<RejectsQuery>) -> Response {
    let (kinds, rows) = app.look.rejects(asked.which().as_ref()).await;
    with_status(&kinds, json(&page::rejects::json(&kinds, &rows)))
}

/// Where `/due` begins: a time and an id.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct DueQuery {
    after: Option<String>,
}

impl DueQuery {
    fn after(&self) -> Option<(DateTime<Utc>, i64)> {
        let (at, id) = self.after.as_deref()?.split_once(' ')?;
        Some((DateTime::parse_from_rfc3339(at).ok()?.to_utc(), id.parse().ok()?))
    }
}

/// `/due`
pub async fn due(State(app): Shared, Query(asked): Query<DueQuery>) -> Response {
    let seen = app.look.due(asked.after()).await;
    with_status(&seen, html(&app, page::due::page(&seen)))
}

/// `/due.json`
pub async fn due_json(State(app): Shared, Query(asked): Query<DueQuery>) -> Response {
    let seen = app.look.due(asked.after()).await;
    with_status(&seen, json(&page::due::json(&seen)))
}

/// Reads what was written into the form.
fn search(asked: &Asked, now: DateTime<Utc>) -> Result<Search, String> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let time = |name: &str, text: &str| match some(text) {
        Some(text) => match text.parse::<service::time::Time>() {
            Ok(time) => Ok(Some(time.at(now))),
            Err(why) => Err(format!("{name}: {why}")),
        },
        None => Ok(None),
    };
    let prefix = some(&asked.prefix).map(|prefix| match prefix.strip_prefix("s3://").unwrap_or(&prefix) {
        path if path.starts_with('/') => ("file".to_owned(), path.to_owned()),
        path => path.split_once('/').map_or((path.to_owned(), String::new()), |(b, k)| (b.to_owned(), k.to_owned())),
    });
    let after = match (some(&asked.after), &prefix) {
        (Some(text), Some(_)) => {
            // Of a key blanks count.
            let (head, key) = asked.after.split_once(' ').ok_or(format!("after: {text} is none of ours"))?;
            Some(Cursor::Key(key.to_owned(), head.parse().map_err(|_| "after: is none of ours")?))
        }
        (Some(text), None) => Some(Cursor::Id(text.parse().map_err(|_| "after: is none of ours")?)),
        (None, _) => None,
    };
    Ok(Search {
        prefix,
        dataset: some(&asked.dataset),
        state: some(&asked.state),
        reason: some(&asked.reason),
        since: time("since", &asked.since)?,
        until: time("until", &asked.until)?,
        after,
    })
}

/// Takes `.json` from the end of a name.
pub fn split(asked: &str) -> (&str, bool) {
    asked.strip_suffix(".json").map_or((asked, false), |name| (name, true))
}

/// Says of an answer that has nothing to say that it is none.
pub fn with_status<T>(seen: &Seen<T>, answer: Response) -> Response {
    match (&seen.value, &seen.failure) {
        (None, Some(_)) => (StatusCode::SERVICE_UNAVAILABLE, answer).into_response(),
        _ => answer,
    }
}

/// Says of an answer that it is about nothing that is known, unless it is.
fn found(is_known: bool, answer: Response) -> Response {
    if is_known { answer } else { (StatusCode::NOT_FOUND, answer).into_response() }
}

/// Answers with a page.
pub fn html(app: &App, page: Page) -> Response {
    let text = page.html(app.reports.is_some()).into_string();
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], text).into_response()
}

/// Answers with JSON.
pub fn json(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], format!("{value:#}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_into_the_form_is_read() {
        let now = DateTime::UNIX_EPOCH + chrono::Duration::days(1);
        let asked =
            |prefix: &str, after: &str| Asked { prefix: prefix.into(), after: after.into(), ..Asked::default() };
        for (prefix, expected) in
            [("s3://b/k/", ("b", "k/")), ("b/k", ("b", "k")), ("s3://b", ("b", "")), ("/tmp/x", ("file", "/tmp/x"))]
        {
            let search = search(&asked(prefix, ""), now).expect(prefix);
            assert_eq!(search.prefix, Some((expected.0.to_owned(), expected.1.to_owned())));
        }
        let after = |prefix, after| search(&asked(prefix, after), now).map(|search| search.after);
        assert_eq!(after("b/", "7 k  l "), Ok(Some(Cursor::Key("k  l ".into(), 7))));
        assert_eq!(after("", "7"), Ok(Some(Cursor::Id(7))));
        assert!(after("", "x").is_err() && after("b/", "7").is_err());
        let since =
            |text: &str| search(&Asked { since: text.into(), ..Asked::default() }, now).map(|search| search.since);
        assert_eq!(since("24h"), Ok(Some(DateTime::UNIX_EPOCH)));
        assert!(since("yesterday").is_err_and(|wrong| wrong.starts_with("since: ")));
    }
}
