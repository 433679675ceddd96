//! The HTTP server: who may ask, and what is answered.

mod answers;
mod guard;
mod look;
mod reports;
mod stream;

use crate::{
    auth::Doorman,
    config::Config,
    html::{SCRIPT, STYLE},
    read::Reader,
};
use axum::{
    Router,
    http::{StatusCode, header},
    middleware,
    routing::get,
};
use look::Look;
use reports::Reports;
use std::{collections::HashSet, sync::Arc};
use tokio_util::sync::CancellationToken;

/// What all requests share.
pub struct App {
    doorman: Doorman,
    hosts: HashSet<String>,
    look: Look,
    /// Where there are any.
    reports: Option<Reports>,
    /// Ends streams.
    stop: CancellationToken,
}

const ICON: &str = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 16 16\">\
    <path d=\"M2 2h3v12H2zM11 2h3v12h-3zM5 6h6v3H5z\" fill=\"#3a7bd5\"/></svg>";

const NO_PAGE: &str = "There is no such page.\n";

/// Returns what is answered.
pub fn router(config: &Config, doorman: Doorman, stop: CancellationToken) -> Router {
    let reader = Reader::new(config.database.clone(), config.show_values);
    let hosts = config.http.hosts.iter().map(|host| host.to_ascii_lowercase()).collect();
    let reports = config.reports.as_ref().map(Reports::new);
    let app = Arc::new(App { doorman, hosts, look: Look::new(reader, config.start_database.clone()), reports, stop });
    let asset = |kind: &'static str, text: &'static str| {
        let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
        get(async move || (headers, text))
    };
    Router::new()
        .route("/", get(answers::now))
        .route("/.json", get(answers::now_json))
        .route("/now.json", get(answers::now_json))
        .route("/now/stream", get(stream::now))
        .route("/objects", get(answers::objects))
        .route("/objects.json", get(answers::objects_json))
        .route("/objects/{id}", get(answers::object))
        .route("/datasets/{name}", get(answers::dataset))
        .route("/pools/{name}", get(answers::pool))
        .route("/rejects", get(answers::rejects))
        .route("/rejects.json", get(answers::rejects_json))
        .route("/due", get(answers::due))
        .route("/due.json", get(answers::due_json))
        .route("/reports", get(reports::all))
        .route("/reports.json", get(reports::all_json))
        .route("/reports/{name}", get(reports::one))
        .route("/assets/console.css", asset("text/css; charset=utf-8", STYLE))
        .route("/assets/console.js", asset("text/javascript; charset=utf-8", SCRIPT))
        .route("/assets/icon.svg", asset("image/svg+xml", ICON))
        .fallback(async || (StatusCode::NOT_FOUND, NO_PAGE))
        .layer(middleware::from_fn_with_state(Arc::clone(&app), guard::guard))
        .with_state(app)
        // Whoever watches over the process asks by any name, and has no password.
        .route("/healthz", get(async || "ok\n"))
}
