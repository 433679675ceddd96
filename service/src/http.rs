//! The HTTP server of all programs. Each supplies the answers; this module makes sure that no peer can keep it from
//! answering: by connecting and saying nothing, by a head that comes a byte at a time, by never reading, or by taking
//! all descriptors.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::http::{StatusCode, header};
use axum::routing::get;
use http_body::Body as _;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::terminal;

/// The longest head of a request; a longer one is answered with 431.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Pause after a connection could not be accepted: without it a process out of descriptors spins.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often it is said that connections cannot be accepted.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// What answers may still take once the program stops.
const GOODBYE: Duration = Duration::from_secs(1);

/// What one peer may take.
#[derive(Debug, Clone, Copy)]
struct Limits {
    /// Connections at once. More would take descriptors from the work; fewer, and a page's streams fill it.
    connections: usize,
    /// Time until a request's head has been read.
    head: Duration,
    /// Time until a whole answer has been taken. A stream has no end of its own.
    answer: Duration,
}

const LIMITS: Limits = Limits { connections: 128, head: Duration::from_secs(5), answer: Duration::from_secs(30) };

/// What keeps a program from doing its work, shared between those who find out and `/readyz`.
#[derive(Debug, Default)]
pub struct Health {
    missing: Mutex<BTreeMap<String, String>>,
}

impl Health {
    /// Returns a state in which each of these is still missing.
    #[must_use]
    pub fn starting(names: &[&str]) -> Self {
        let missing = names.iter().map(|name| ((*name).to_owned(), "not reached yet".to_owned()));
        Self { missing: Mutex::new(missing.collect()) }
    }

    /// Notes that a part is there, or why it is not; anyone may read the reason, so it holds no secrets.
    pub fn note(&self, part: &str, state: Result<(), String>) {
        match state {
            Ok(()) => self.lock().remove(part),
            Err(why) => self.lock().insert(part.to_owned(), why),
        };
    }

    /// Returns why a part is missing; None when it is there.
    #[must_use]
    pub fn why(&self, part: &str) -> Option<String> {
        self.lock().get(part).cloned()
    }

    /// Returns whether nothing is missing.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.lock().is_empty()
    }

    /// Returns what is missing, a line each.
    #[must_use]
    pub fn missing(&self) -> String {
        self.lock().iter().map(|(name, why)| terminal::line(&format!("{name}: {why}")) + "\n").collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.missing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who asked, as an extension of the request: the other end of its connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// Returns what importers and scalers answer: `/healthz`, `/readyz` and, with what `metrics` returns, `/metrics`.
pub fn router(health: Arc<Health>, metrics: impl Fn() -> String + Clone + Send + Sync + 'static) -> Router {
    let readyz = async move || match health.missing() {
        missing if missing.is_empty() => (StatusCode::OK, "ready\n".to_owned()),
        missing => (StatusCode::SERVICE_UNAVAILABLE, missing),
    };
    let content_type = [(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")];
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .route("/metrics", get(async move || (content_type, metrics())))
}

/// Serves until `stop` and returns the bound address; `None` when `listen` is empty.
///
/// # Errors
/// When the address cannot be bound for another reason than that its port is taken.
pub async fn serve(listen: &str, router: Router, stop: CancellationToken) -> anyhow::Result<Option<SocketAddr>> {
    if listen.is_empty() {
        return Ok(None);
    }
    let listener = bind(listen).await.with_context(|| format!("listen on http.listen = {listen:?}"))?;
    let address = listener.local_addr().context("read the bound address")?;
    tokio::spawn(accept(listener, router, LIMITS, stop));
    info!(listen = %address, "serving health and metrics");
    Ok(Some(address))
}

/// Binds the address, or a free port of the same host when its port is taken.
async fn bind(listen: &str) -> io::Result<TcpListener> {
    match TcpListener::bind(listen).await {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
            info!(listen, "port is taken, using a free one");
            TcpListener::bind(format!("{host}:0")).await
        }
        bound => bound,
    }
}

/// Accepts connections until `stop`; nothing that happens to one of them ends it.
async fn accept(listener: TcpListener, router: Router, limits: Limits, stop: CancellationToken) {
    let mut seats = Seats::new(limits.connections);
    let mut complained: Option<Instant> = None;
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (guest, seat) = seats.take().await;
                let (router, stop, peer) = (router.clone(), stop.clone(), Peer(peer.ip().to_canonical()));
                tokio::spawn(async move {
                    attend((stream, peer), router, guest, limits, stop).await;
                    drop(seat);
                });
            }
            Err(error) => {
                // It may be descriptors that are missing (EMFILE): one of ours is given up for the next peer.
                seats.free_one();
                if complained.is_none_or(|at| at.elapsed() > COMPLAINT_PAUSE) {
                    complained = Some(Instant::now());
                    warn!(error = %error, "connection not accepted");
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Who is connected, the oldest first; at most as many as there are seats.
struct Seats {
    free: Arc<Semaphore>,
    guests: VecDeque<Weak<Guest>>,
}

impl Seats {
    fn new(n: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(n)), guests: VecDeque::new() }
    }

    /// Takes a seat; where none is free, one has to leave.
    async fn take(&mut self) -> (Arc<Guest>, OwnedSemaphorePermit) {
        if self.free.available_permits() == 0 {
            self.free_one();
        }
        let seat = Arc::clone(&self.free).acquire_owned().await.expect("nobody closes it");
        self.guests.retain(|guest| guest.strong_count() > 0);
        let guest = Arc::new(Guest::default());
        self.guests.push_back(Arc::downgrade(&guest));
        (guest, seat)
    }

    /// Closes the connection idle for longest, else the oldest one.
    fn free_one(&mut self) {
        let staying = || self.guests.iter().filter_map(Weak::upgrade).filter(|guest| !guest.leave.is_cancelled());
        if let Some(guest) = staying().find(|guest| guest.state() == IDLE).or_else(|| staying().next()) {
            guest.leave.cancel();
        }
    }
}

/// No whole request has come yet.
const IDLE: u8 = 0;
/// A request is being answered.
const ANSWERED: u8 = 1;
/// The answer is a stream, which ends when its peer leaves.
const STREAMED: u8 = 2;

/// A connection as the others see it.
#[derive(Default)]
struct Guest {
    state: AtomicU8,
    leave: CancellationToken,
}

impl Guest {
    fn state(&self) -> u8 {
        self.state.load(Ordering::Relaxed)
    }

    fn set(&self, state: u8) {
        self.state.store(state, Ordering::Relaxed);
    }

    /// Returns when the peer has had its time.
    async fn overdue(&self, limits: Limits) {
        sleep(limits.head).await;
        if self.state() == IDLE {
            return;
        }
        sleep(limits.answer).await;
        if self.state() == STREAMED {
            std::future::pending::<()>().await;
        }
    }
}

/// Answers one request of a peer, then closes: a peer that asks every few seconds does not need the connection in between.
async fn attend(
    (stream, peer): (TcpStream, Peer),
    router: Router,
    guest: Arc<Guest>,
    limits: Limits,
    stop: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let answering = TowerToHyperService::new(router);
    let service = service_fn(|mut request: hyper::Request<_>| {
        guest.set(ANSWERED);
        request.extensions_mut().insert(peer);
        let answer = answering.call(request);
        let guest = Arc::clone(&guest);
        async move {
            let answer = answer.await?;
            if answer.body().size_hint().exact().is_none() {
                guest.set(STREAMED);
            }
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let mut builder = http1::Builder::new();
    // The time for a head is kept here: hyper's own needs a timer and knows nothing of the answer.
    builder.keep_alive(false).max_buf_size(MAX_HEAD_BYTES).header_read_timeout(None);
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        served = &mut serving => served.map_err(|error| error.to_string()),
        () = guest.leave.cancelled() => Err("left for another".to_owned()),
        () = guest.overdue(limits) => Err("took too long".to_owned()),
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            let _ = timeout(GOODBYE, serving).await;
            Ok(())
        }
    };
    if let Err(error) = ended {
        debug!(error, "connection closed");
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// How long a test waits for what should come at once.
    const PATIENCE: Duration = Duration::from_secs(10);
    const HEAD: &str = "GET /healthz HTTP/1.1\r\nHost: h\r\n";

    async fn start(router: Router, limits: Limits) -> SocketAddr {
        let listener = bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(accept(listener, router, limits, CancellationToken::new()));
        address
    }

    fn usual() -> Router {
        router(Arc::default(), || "metric 1\n".to_owned())
    }

    async fn connect(address: SocketAddr, say: &str) -> TcpStream {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await.expect("accepted");
        let mut stream = stream.expect("the server listens");
        stream.write_all(say.as_bytes()).await.expect("taken by the kernel");
        stream
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        let mut stream = connect(address, &format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")).await;
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").expect("the answer is text");
        answer
    }

    /// Returns whether the server has closed a connection.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        let mut byte = [0];
        matches!(timeout(PATIENCE, stream.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }

    #[tokio::test]
    async fn it_answers_within_a_second_beside_2000_connections_that_say_nothing_or_half_a_head() {
        allow_descriptors(4096);
        let address = start(usual(), LIMITS).await;
        let mut idle = Vec::new();
        for n in 0..2000 {
            idle.push(connect(address, if n % 2 == 0 { "" } else { HEAD }).await);
        }
        for path in ["/healthz", "/readyz", "/metrics"] {
            let asked = Instant::now();
            let answer = ask(address, path).await;
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert!(asked.elapsed() < Duration::from_secs(1), "{path} took {:?}", asked.elapsed());
        }
        assert!(is_closed(&mut idle[0]).await, "the oldest had to leave");
    }

    #[tokio::test]
    async fn without_descriptors_who_is_idle_leaves_for_who_asks() {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let listener = bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        // The kernel takes them, so they need no descriptor of the server's yet.
        let mut idle = Vec::new();
        for _ in 0..8 {
            idle.push(connect(address, "").await);
        }
        let mut asking = connect(address, &format!("{HEAD}\r\n")).await;
        // Other tests of this process, if there are any, may want descriptors meanwhile: it is only for a moment.
        let limit = getrlimit(Resource::Nofile);
        let n_descriptors = std::os::fd::AsRawFd::as_raw_fd(&asking) as u64 + 1;
        setrlimit(Resource::Nofile, Rlimit { current: Some(n_descriptors + 4), ..limit }).expect("it is lower");
        let limits = Limits { head: Duration::from_secs(60), ..LIMITS };
        tokio::spawn(accept(listener, usual(), limits, CancellationToken::new()));
        let mut answer = String::new();
        let answered = timeout(PATIENCE, asking.read_to_string(&mut answer)).await;
        setrlimit(Resource::Nofile, limit).expect("it was so before");
        answered.expect("in time").expect("the answer is text");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(is_closed(&mut idle[0]).await, "the oldest had to leave");
    }

    #[tokio::test]
    async fn a_head_that_does_not_come_and_an_answer_that_is_not_taken_end_the_connection() {
        let large = Router::new().route("/", get(async || "x".repeat(64 << 20)));
        let address =
            start(large, Limits { head: Duration::from_millis(50), answer: Duration::from_millis(50), ..LIMITS }).await;
        assert!(is_closed(&mut connect(address, "").await).await);
        assert!(is_closed(&mut connect(address, HEAD).await).await);
        let mut unread = connect(address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        sleep(Duration::from_millis(300)).await;
        let mut taken = Vec::new();
        let _ = timeout(Duration::from_secs(10), unread.read_to_end(&mut taken)).await.expect("an end");
        assert!(taken.len() < 64 << 20, "{}", taken.len());
    }

    #[tokio::test]
    async fn who_is_answered_stays_while_others_are_idle_and_leaves_when_nobody_is() {
        use axum::body::{Body, Bytes};
        let stream = async || {
            // A stream that has started and never ends.
            Body::new(Endless(Some(Bytes::from_static(b"first"))))
        };
        let limits = Limits { connections: 2, head: Duration::from_secs(60), answer: Duration::from_millis(1) };
        let address = start(usual().route("/events", get(stream)), limits).await;
        let mut streamed = connect(address, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut begun = vec![0; 1024];
        let n = streamed.read(&mut begun).await.expect("a head");
        assert!(begun[..n].starts_with(b"HTTP/1.1 200"));
        let mut idle = connect(address, "").await;
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        assert!(is_closed(&mut idle).await, "the idle one left for it");

        let _second = connect(address, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let _third = connect(address, "GET /events HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));
        while !is_closed(&mut streamed).await {}
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_peer_and_not_with_the_time_for_an_answer() {
        use axum::body::{Body, Bytes};
        let stream = async || Body::new(Endless(Some(Bytes::from_static(b"first"))));
        let time = Duration::from_millis(200);
        let limits = Limits { head: time, answer: time, ..LIMITS };
        let address = start(Router::new().route("/", get(stream)), limits).await;
        let mut streamed = connect(address, "GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        let mut begun = Vec::new();
        while !begun.windows(5).any(|bytes| bytes == b"first") {
            assert!(timeout(PATIENCE, streamed.read_buf(&mut begun)).await.expect("in time").expect("open") > 0);
        }
        // Each of these takes the time for a head.
        for _ in 0..5 {
            assert!(is_closed(&mut connect(address, "").await).await);
        }
        let more = streamed.try_read(&mut [0; 64]);
        assert!(more.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock), "{more:?}");
    }

    #[tokio::test]
    async fn a_long_head_is_refused_and_a_connection_serves_one_request() {
        let address = start(usual(), LIMITS).await;
        let long = format!("GET /healthz HTTP/1.1\r\nHost: h\r\nA: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES));
        let mut stream = connect(address, &long).await;
        let mut answer = [0; 64];
        let n = stream.read(&mut answer).await.expect("an answer");
        assert!(answer[..n].starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer[..n]));
        assert!(ask(address, "/healthz").await.to_lowercase().contains("connection: close"));
        assert!(ask(address, "/nothing").await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn readiness_follows_what_is_missing_and_health_does_not() {
        let health = Arc::new(Health::starting(&["database", "queue"]));
        let address = start(router(Arc::clone(&health), String::new), LIMITS).await;
        let answer = ask(address, "/readyz").await;
        assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
        assert!(answer.ends_with("database: not reached yet\nqueue: not reached yet\n"), "{answer}");
        assert!(ask(address, "/healthz").await.starts_with("HTTP/1.1 200"));

        health.note("database", Ok(()));
        health.note("queue", Ok(()));
        assert!(health.is_ready());
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        health.note("database", Err("refused\n\u{202e}".to_owned()));
        assert!(ask(address, "/readyz").await.ends_with("database: refused\\n\\u{202e}\n"));
    }

    #[tokio::test]
    async fn a_taken_port_gives_way_an_empty_address_turns_it_off_and_a_foreign_one_is_an_error() {
        let serve = async |listen: &str| super::serve(listen, usual(), CancellationToken::new()).await;
        let first = serve("127.0.0.1:0").await.expect("bound").expect("an address");
        let second = serve(&first.to_string()).await.expect("bound").expect("an address");
        assert_eq!(first.ip(), second.ip());
        assert_ne!(first.port(), second.port());
        assert_eq!(serve("").await.expect("nothing to bind"), None);
        serve("192.0.2.1:1").await.expect_err("not an address of this machine");
    }

    /// A body of one chunk that never ends.
    struct Endless(Option<axum::body::Bytes>);

    impl http_body::Body for Endless {
        type Data = axum::body::Bytes;
        type Error = std::convert::Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
            self.0.take().map_or(std::task::Poll::Pending, |chunk| {
                std::task::Poll::Ready(Some(Ok(http_body::Frame::data(chunk))))
            })
        }
    }

    fn allow_descriptors(n: u64) {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let limit = getrlimit(Resource::Nofile);
        if limit.current.is_some_and(|current| current < n) {
            setrlimit(Resource::Nofile, Rlimit { current: Some(n), ..limit }).expect("the hard limit is higher");
        }
    }
}
