//! The HTTP client: an end to every silence, proxies and certificate authorities as the environment says.
//!
//! A peer that goes silent takes its idle connections with it: each would cost the next call as much again. So
//! after a silence no connection of before is used any more.

use aws_smithy_http_client::{
    Connector,
    proxy::ProxyConfig,
    tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        http::{
            HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
            SharedHttpConnector,
        },
        orchestrator::HttpRequest,
        result::ConnectorError,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use std::{
    collections::HashMap,
    future::Future,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};
use tracing::{debug, warn};

/// How long a body may bring nothing while it is waited for.
/// Longer keeps a slot waiting for a peer that is gone; shorter breaks bodies that are only slow.
pub const SILENCE: Duration = Duration::from_secs(20);
/// How long a connection is kept for the next call; AWS closes them after about as long.
const IDLE: Duration = Duration::from_secs(20);

/// Why a call was not answered, or not to its end. It is the way or the peer; what was asked has no part in it.
#[derive(Debug, thiserror::Error)]
#[error("{call}: {what} for {:.1} s", after.as_secs_f64())]
pub struct NoAnswer {
    call: String,
    what: &'static str,
    after: Duration,
    #[source]
    source: Option<BoxError>,
}

/// Records that AWS rejected our credentials, so that credentials are looked at again.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusals(Arc<AtomicBool>);

impl Refusals {
    /// Returns whether there was a refusal since the last question.
    pub fn take(&self) -> bool {
        self.0.swap(false, Ordering::Relaxed)
    }

    fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns the client.
///
/// # Errors
/// When `AWS_CA_BUNDLE` cannot be used.
pub(super) fn client(refusals: Refusals) -> anyhow::Result<SharedHttpClient> {
    let (trust, lack) = match super::ca_bundle()? {
        // In place of the system's, as the AWS CLI has it.
        Some(bundle) => {
            (TrustStore::empty().with_pem_certificate(bundle), "AWS_CA_BUNDLE holds a certificate that cannot be read")
        }
        None => (
            TrustStore::default(),
            "this machine trusts no certificate authority; install ca-certificates, or name some in AWS_CA_BUNDLE",
        ),
    };
    let tls = TlsContext::builder().with_trust_store(trust).build()?;
    let ways = Ways { tls, refusals, silence: SILENCE, pools: Mutex::default() };
    // Certificates are read when the first connection is made, and wrong ones panic there.
    let settings = HttpConnectorSettings::builder().build();
    catch_unwind(AssertUnwindSafe(|| ways.connector(&Key::new(&settings, true)))).map_err(|_| anyhow::anyhow!(lack))?;
    Ok(SharedHttpClient::new(Client(Arc::new(ways))))
}

#[derive(Debug)]
struct Client(Arc<Ways>);

/// The pools of connections. Calls with different ends have pools of their own, as connections carry the ends.
#[derive(Debug)]
struct Ways {
    tls: TlsContext,
    refusals: Refusals,
    /// [`SILENCE`], which no test can wait for.
    silence: Duration,
    pools: Mutex<HashMap<Key, Pool>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    connect: Option<Duration>,
    read: Option<Duration>,
    is_direct: bool,
}

#[derive(Debug, Clone)]
struct Pool {
    connector: SharedHttpConnector,
    since: Instant,
}

impl Key {
    fn new(settings: &HttpConnectorSettings, is_direct: bool) -> Self {
        Self { connect: settings.connect_timeout(), read: settings.read_timeout(), is_direct }
    }
}

impl Ways {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Pool>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pool(&self, key: &Key) -> SharedHttpConnector {
        let mut pools = self.lock();
        let pool =
            pools.entry(key.clone()).or_insert_with(|| Pool { connector: self.connector(key), since: Instant::now() });
        pool.connector.clone()
    }

    fn connector(&self, key: &Key) -> SharedHttpConnector {
        let mut settings = HttpConnectorSettings::builder();
        settings.set_connect_timeout(key.connect).set_read_timeout(key.read);
        let proxy = if key.is_direct { ProxyConfig::disabled() } else { ProxyConfig::from_env() };
        let connector = Connector::builder()
            .connector_settings(settings.build())
            .pool_idle_timeout(IDLE)
            .proxy_config(proxy)
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .tls_context(self.tls.clone())
            .build();
        SharedHttpConnector::new(connector)
    }

    /// Leaves every connection made before `begun`; those in use go on, and are not used again.
    fn leave(&self, begun: Instant) {
        self.lock().retain(|_, pool| pool.since > begun);
    }
}

impl HttpClient for Client {
    fn http_connector(&self, settings: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Watching { ways: Arc::clone(&self.0), settings: settings.clone() })
    }
}

/// Calls through the pools and watches the answers.
#[derive(Debug)]
struct Watching {
    ways: Arc<Ways>,
    settings: HttpConnectorSettings,
}

impl HttpConnector for Watching {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let call = Call::of(&request);
        let ways = Arc::clone(&self.ways);
        let answer = ways.pool(&Key::new(&self.settings, call.is_local)).call(request);
        HttpConnectorFuture::new(async move {
            let begun = Instant::now();
            let mut answer = match answer.await {
                Ok(answer) => answer,
                Err(error) => return Err(call.unanswered(&ways, begun, error)),
            };
            if matches!(answer.status().as_u16(), 400 | 401 | 403) {
                ways.refusals.note();
            }
            let body = std::mem::replace(answer.body_mut(), SdkBody::taken());
            let watched = WatchedBody { body, call, ways, waiting: None };
            *answer.body_mut() = SdkBody::from_body_1_x(watched);
            Ok(answer)
        })
    }
}

/// What is asked of whom, for people.
#[derive(Debug, Clone)]
struct Call {
    text: String,
    /// The peer is this machine or its link: no proxy leads there.
    is_local: bool,
    /// The peer is this machine's metadata, which is asked whether or not there is any.
    is_metadata: bool,
}

impl Call {
    fn of(request: &HttpRequest) -> Self {
        let (authority, path) = split(request.uri());
        // The JSON protocols name the operation in a header, the others in method and path.
        let what = request.headers().get("x-amz-target").map_or_else(
            || format!("{} {path}", request.method()),
            |target| target.rsplit('.').next().unwrap_or(target).to_owned(),
        );
        let address: Option<IpAddr> = host(authority).parse().ok();
        let is_link_local = address.is_some_and(|address| match address {
            IpAddr::V4(address) => address.is_link_local(),
            IpAddr::V6(address) => address.is_unicast_link_local() || address.is_unique_local(),
        });
        let is_local =
            is_link_local || host(authority) == "localhost" || address.is_some_and(|address| address.is_loopback());
        // Where they lead elsewhere they are told by their paths.
        let is_metadata = is_link_local || path.starts_with("/latest/meta-data") || path == "/latest/api/token";
        Self { text: format!("{what} to {authority}"), is_local, is_metadata }
    }

    fn no_answer(&self, what: &'static str, begun: Instant, source: Option<BoxError>) -> NoAnswer {
        NoAnswer { call: self.text.clone(), what, after: begun.elapsed(), source }
    }

    fn unanswered(&self, ways: &Ways, begun: Instant, error: ConnectorError) -> ConnectorError {
        if error.is_user() {
            return error;
        }
        if error.is_timeout() {
            let silent = self.silent(ways, "no answer", begun);
            return ConnectorError::timeout(silent.into());
        }
        let kind = error.as_other();
        let broken = self.no_answer("broke off after waiting", begun, Some(error.into()));
        // What hyper has no word for is of the connection, too.
        match kind {
            Some(kind) => ConnectorError::other(broken.into(), Some(kind)),
            None => ConnectorError::io(broken.into()),
        }
    }

    /// Leaves the silent peer's connections, and says so.
    fn silent(&self, ways: &Ways, what: &'static str, begun: Instant) -> NoAnswer {
        ways.leave(begun);
        let silent = self.no_answer(what, begun, None);
        if self.is_metadata {
            debug!(error = silent.to_string(), "a peer is silent");
        } else {
            warn!(error = silent.to_string(), "a peer is silent; going on with new connections");
        }
        silent
    }
}

/// Splits a URI into host and port, and the path without its query.
fn split(uri: &str) -> (&str, &str) {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let path = rest[authority.len()..].split('?').next().unwrap_or_default();
    (authority, path)
}

fn host(authority: &str) -> &str {
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

/// A body that ends when it brings nothing for [`SILENCE`] while it is waited for.
struct WatchedBody {
    body: SdkBody,
    call: Call,
    ways: Arc<Ways>,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl Body for WatchedBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let begun = this.waiting.take().map_or_else(Instant::now, |(begun, _)| begun);
            return Poll::Ready(frame.map(|frame| {
                frame
                    .map_err(|error| this.call.no_answer("its body broke off after waiting", begun, Some(error)).into())
            }));
        }
        let silence = this.ways.silence;
        let (begun, waiting) = this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(sleep(silence))));
        let begun = *begun;
        if waiting.as_mut().poll(context).is_pending() {
            return Poll::Pending;
        }
        this.waiting = None;
        Poll::Ready(Some(Err(this.call.silent(&this.ways, "its body brought nothing", begun).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        Body::size_hint(&self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_smithy_types::byte_stream::ByteStream;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };

    const SHORT: Duration = Duration::from_millis(300);

    /// A client whose peers may be silent for [`SHORT`].
    fn watching() -> Watching {
        let tls = TlsContext::builder().with_trust_store(TrustStore::empty()).build().expect("an empty store");
        let ways = Ways { tls, refusals: Refusals::default(), silence: SHORT, pools: Mutex::default() };
        let settings = HttpConnectorSettings::builder().read_timeout(SHORT).build();
        Watching { ways: Arc::new(ways), settings }
    }

    /// A peer, and where it is.
    async fn peer() -> (TcpListener, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let uri = format!("http://{}/bucket/key?x=1", listener.local_addr().expect("bound"));
        (listener, uri)
    }

    /// Reads a request, which has no body, and says something.
    async fn answer(connection: &mut TcpStream, text: &str) {
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            request.push(connection.read_u8().await.expect("a request"));
        }
        connection.write_all(text.as_bytes()).await.expect("the client listens");
    }

    fn get(uri: &str) -> HttpRequest {
        HttpRequest::get(uri).expect("a URI")
    }

    const EMPTY: &str = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";

    #[tokio::test]
    async fn after_a_silence_no_connection_of_before_is_used_and_the_call_is_named() {
        let (listener, uri) = peer().await;
        let client = watching();
        // Two connections that have answered and are kept.
        let (one, two) = (client.call(get(&uri)), client.call(get(&uri)));
        let answering = async {
            let (mut first, _) = listener.accept().await.expect("a client");
            let (mut second, _) = listener.accept().await.expect("a client");
            answer(&mut first, EMPTY).await;
            answer(&mut second, EMPTY).await;
            [first, second]
        };
        let (one, two, silent) = tokio::join!(one, two, answering);
        drop((one.expect("answered"), two.expect("answered")));
        tokio::task::yield_now().await;
        // From here on the peer says nothing on either.
        let error = client.call(get(&uri)).await.expect_err("silence");
        assert!(error.is_timeout());
        let text = format!("{:#}", anyhow::Error::new(error));
        let named = format!("GET /bucket/key to {}: no answer for 0.", listener.local_addr().expect("bound"));
        assert!(text.contains(&named), "{text}");
        let (again, _) = tokio::join!(client.call(get(&uri)), async {
            let (mut third, _) = listener.accept().await.expect("a client");
            answer(&mut third, EMPTY).await;
            third
        });
        assert!(again.is_ok(), "a new connection answers");
        drop(silent);
    }

    #[tokio::test]
    async fn a_body_that_falls_silent_ends_and_one_that_is_read_slowly_does_not() {
        for is_silent in [true, false] {
            let (listener, uri) = peer().await;
            let client = watching();
            let (answered, mut connection) = tokio::join!(client.call(get(&uri)), async {
                let (mut connection, _) = listener.accept().await.expect("a client");
                answer(&mut connection, "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nabc").await;
                connection
            });
            let mut body = ByteStream::new(answered.expect("answered").into_body());
            assert_eq!(body.next().await.expect("a piece").expect("good").as_ref(), b"abc");
            if is_silent {
                let begun = Instant::now();
                let error = body.next().await.expect("an error").expect_err("silence");
                let text = format!("{:#}", anyhow::Error::new(error));
                assert!(text.contains("GET /bucket/key") && text.contains("its body brought nothing for 0."), "{text}");
                assert!(begun.elapsed() < 20 * SHORT);
            } else {
                // Nobody waits for the body meanwhile.
                sleep(2 * SHORT).await;
                connection.write_all(b"def").await.expect("the client listens");
                assert_eq!(body.next().await.expect("a piece").expect("good").as_ref(), b"def");
            }
        }
    }

    #[test]
    fn metadata_and_this_machine_are_spoken_to_without_a_proxy() {
        for (uri, is_local, is_metadata) in [
            ("http://127.0.0.1:4566/b", true, false),
            ("http://localhost/b", true, false),
            ("http://[::1]:80/b", true, false),
            ("http://169.254.169.254/latest", true, true),
            ("http://127.0.0.1:1338/latest/api/token", true, true),
            ("http://[fd00:ec2::254]/latest", true, true),
            ("https://sqs.eu-west-1.amazonaws.com/", false, false),
            ("http://10.0.0.1/", false, false),
        ] {
            let call = Call::of(&get(uri));
            assert_eq!((call.is_local, call.is_metadata), (is_local, is_metadata), "{uri}");
        }
    }
}
