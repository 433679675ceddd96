//! Parts of a page, sent when they change for as long as it is looked at (server-sent events).

use super::{App, answers::NowQuery};
use crate::html::without_ages;
use axum::{
    body::Body,
    extract::{Query, State},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;
use serde_json::json;
use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};
use tokio::time::sleep;

/// How often is looked whether something changed.
const INTERVAL: Duration = Duration::from_secs(5);

/// The parts of `/`.
pub async fn now(State(app): State<Arc<App>>, Query(asked): Query<NowQuery>) -> Response {
    let sent: HashMap<&'static str, String> = HashMap::new();
    let events = stream::unfold((app, asked, sent), async |(app, asked, mut sent)| {
        if !sent.is_empty() {
            tokio::select! {
                () = app.stop.cancelled() => return None,
                () = sleep(INTERVAL) => {}
            }
        }
        let now = app.look.now(asked.span, asked.pool.as_deref()).await;
        // A comment, so that who left is noticed.
        let mut text = String::from(":\n");
        for (id, fragment) in now.fragments() {
            let fragment = fragment.into_string();
            let news = without_ages(&fragment);
            if sent.get(id) != Some(&news) {
                text += &format!("data: {}\n\n", json!({ "id": id, "html": fragment }));
                sent.insert(id, news);
            }
        }
        Some((Ok::<_, Infallible>(text + "\n"), (app, asked, sent)))
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(events)).into_response()
}
