//! What holds of every request and every answer.

use super::App;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use service::http::Peer;
use std::{net::IpAddr, sync::Arc};

/// A page may load what this server has, run its one script, and nothing else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// What every answer says.
const HEADERS: [(&str, &str); 6] = [
    ("content-security-policy", POLICY),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
];

/// Lets a request in, or says why not.
pub async fn guard(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<Peer>().map(|peer| peer.0);
    let mut answer = if !is_asked_by_a_name_of_ours(&app, request.headers(), request.uri()) {
        let why = "This host name is none that http.hosts names in console.toml.\n";
        (StatusCode::MISDIRECTED_REQUEST, why).into_response()
    } else if !app.doorman.admits(request.headers(), from).await {
        let mut refused = (StatusCode::UNAUTHORIZED, "Sign in to read this.\n").into_response();
        if app.doorman.asks() {
            let asks = HeaderValue::from_static("Basic realm=\"Penstock\", charset=\"UTF-8\"");
            refused.headers_mut().insert(header::WWW_AUTHENTICATE, asks);
        }
        refused
    } else {
        next.run(request).await
    };
    let headers = answer.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What was read is for who asked, and for now.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer
}

/// A web page elsewhere may have its own name lead here (DNS rebinding), but never an address or `localhost`.
fn is_asked_by_a_name_of_ours(app: &App, headers: &HeaderMap, uri: &Uri) -> bool {
    let mut named = headers.get_all(header::HOST).iter();
    let (Some(host), None) = (named.next().and_then(|host| host.to_str().ok()), named.next()) else { return false };
    if uri.authority().is_some_and(|authority| authority.as_str() != host) {
        return false;
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(&name);
    name == "localhost" || address.parse::<IpAddr>().is_ok() || app.hosts.contains(&name)
}
