//! A TCP proxy that holds windows open: put before Postgres, S3 or SQS, it stops, cuts, delays or
//! answers at the very byte a test names.
//!
//! A [`Rule`] watches what clients send. When its pattern passes, its [`Action`] happens to that
//! connection, a limited number of times; the [`Trigger`] tells the test that it did and lets the
//! connection go on again.

mod rule;

pub use rule::{Action, Rule, Trigger, http_answer};

use anyhow::{Context as _, Result, bail};
use rule::ActiveRule;
use std::{
    mem,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until},
};

/// Whether connections live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    /// Bytes pass.
    Open,
    /// Nothing passes, in either direction; connections are kept.
    Held,
    /// Connections are closed, new ones too.
    Shut,
}

#[derive(Debug)]
struct Shared {
    upstream: String,
    rules: Mutex<Vec<Arc<ActiveRule>>>,
    gate: watch::Sender<Gate>,
    /// Counts cuts; a connection ends when the number is no longer the one it began with.
    cuts: watch::Sender<u64>,
    /// Counts silences; a connection passes nothing when the number is no longer the one it began with.
    silences: watch::Sender<u64>,
    /// Bytes a second of answers, on each connection; 0 for as fast as they come.
    bytes_per_sec: AtomicU32,
    connections: AtomicUsize,
    round_trips: AtomicUsize,
}

/// A listening proxy; its connections end when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1 and passes connections on to `upstream` (`host:port`).
    ///
    /// # Errors
    /// When there is no free port.
    pub async fn start(upstream: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("listen")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            upstream: upstream.to_owned(),
            rules: Mutex::default(),
            gate: watch::Sender::new(Gate::Open),
            cuts: watch::Sender::new(0),
            silences: watch::Sender::new(0),
            bytes_per_sec: AtomicU32::new(0),
            connections: AtomicUsize::new(0),
            round_trips: AtomicUsize::new(0),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared)));
        Ok(Self { address, shared, accepting })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns `http://host:port`, for `AWS_ENDPOINT_URL_SQS` and its kin.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Puts a rule to work, for connections there are and those to come.
    pub fn add(&self, rule: Rule) -> Trigger {
        let rule = Arc::new(ActiveRule::new(rule));
        let mut rules = self.shared.rules();
        // Rules that act no more would only slow the traffic down.
        rules.retain(|rule| !rule.is_spent());
        rules.push(Arc::clone(&rule));
        Trigger { rule }
    }

    /// Lets answers pass at no more than so many bytes a second on each connection.
    pub fn pace(&self, bytes_per_sec: u32) {
        self.shared.bytes_per_sec.store(bytes_per_sec, Ordering::SeqCst);
    }

    /// Lets nothing pass in either direction; connections are kept, new ones accepted.
    pub fn hold(&self) {
        self.shared.gate.send_replace(Gate::Held);
    }

    /// Lets everything pass again.
    pub fn open(&self) {
        self.shared.gate.send_replace(Gate::Open);
    }

    /// Ends every connection; new ones pass.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets nothing pass any more on the connections there are, without closing them; new ones pass.
    pub fn silence_all(&self) {
        self.shared.silences.send_modify(|silences| *silences += 1);
    }

    /// Ends every connection, and new ones as they come, until [`Self::open`].
    pub fn shut(&self) {
        self.shared.gate.send_replace(Gate::Shut);
        self.cut();
    }

    /// Returns how many connections were accepted so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Returns how often, over all connections, a client spoke and then waited for the server's answer.
    #[must_use]
    pub fn round_trips(&self) -> usize {
        self.shared.round_trips.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.shut();
    }
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Vec<Arc<ActiveRule>>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.connections.fetch_add(1, Ordering::SeqCst);
        if *shared.gate.borrow() == Gate::Shut {
            continue;
        }
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let mut cuts = shared.cuts.subscribe();
            let silenced = watch::Sender::new(false);
            let mut silences = shared.silences.subscribe();
            // A client or server that goes away ends the connection, which is all there is to say.
            tokio::select! {
                // Nothing passes any more once there is a cut: not a request, and not the answer to it.
                biased;
                _ = cuts.changed() => {}
                // The sender lives as long as the proxy.
                () = async { while silences.changed().await.is_ok() { silenced.send_replace(true); } } => {}
                _ = pass(client, Arc::clone(&shared), &silenced) => {}
            }
        });
    }
}

/// What the request direction tells the answer direction of one connection.
#[derive(Debug, Clone)]
enum Answers {
    Pass,
    Wait(Arc<ActiveRule>),
    CutAfter(usize),
}

/// Whose turn it is to speak on one connection.
#[derive(Debug, Default)]
struct Turn {
    asked: AtomicBool,
}

impl Turn {
    /// The client spoke; pieces of one request, or requests sent ahead, are one round trip.
    fn asked(&self, shared: &Shared) {
        if !self.asked.swap(true, Ordering::SeqCst) {
            shared.round_trips.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn answered(&self) {
        self.asked.store(false, Ordering::SeqCst);
    }
}

async fn pass(client: TcpStream, shared: Arc<Shared>, silenced: &watch::Sender<bool>) -> Result<()> {
    let server = TcpStream::connect(&shared.upstream).await?;
    // Small packets must not wait for each other, or the proxy would change what it stands before.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let answers = watch::Sender::new(Answers::Pass);
    let answering = answers.subscribe();
    let to_client = Arc::new(tokio::sync::Mutex::new(to_client));
    let passing = Passing { shared: &shared, turn: Turn::default(), silenced };
    let requests = passing.requests(from_client, to_server, Arc::clone(&to_client), answers);
    let answers = passing.answers(from_server, to_client, answering);
    tokio::try_join!(requests, answers)?;
    Ok(())
}

/// A connection that is passed on.
struct Passing<'a> {
    shared: &'a Shared,
    turn: Turn,
    silenced: &'a watch::Sender<bool>,
}

/// The largest piece read at once; a rule holds, cuts or answers with this granularity before its pattern.
const PIECE_BYTES: usize = 64 * 1024;
/// How late a timer may be without making a paced connection slower than it should be.
const TIMER_SLACK: Duration = Duration::from_millis(5);

impl Passing<'_> {
    async fn requests(
        &self,
        mut from_client: OwnedReadHalf,
        mut to_server: OwnedWriteHalf,
        to_client: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
        answers: watch::Sender<Answers>,
    ) -> Result<()> {
        let mut buffer = vec![0; PIECE_BYTES];
        // The end of what was passed, so that a pattern on the border of two pieces is seen.
        let mut before = Vec::new();
        // What came in while a rule held the connection.
        let mut waiting = Vec::new();
        loop {
            let piece = if waiting.is_empty() {
                let read = from_client.read(&mut buffer).await;
                self.stay_silent().await;
                let read = read?;
                buffer[..read].to_vec()
            } else {
                mem::take(&mut waiting)
            };
            if piece.is_empty() {
                to_server.shutdown().await?;
                return Ok(());
            }
            self.turn.asked(self.shared);
            self.wait_while_held().await;
            let rules: Vec<_> = self.shared.rules().clone();
            for rule in rules {
                for _ in 0..sightings(&rule.rule.pattern, &before, &piece) {
                    if !rule.is_due() {
                        continue;
                    }
                    match &rule.rule.action {
                        Action::HoldRequest => hold(&rule, &mut from_client, &mut waiting).await?,
                        Action::HoldAnswer => {
                            answers.send_replace(Answers::Wait(Arc::clone(&rule)));
                        }
                        Action::CutRequest => bail!("cut"),
                        Action::Silence => {
                            self.silenced.send_replace(true);
                        }
                        Action::CutAnswer(bytes) => {
                            answers.send_replace(Answers::CutAfter(*bytes));
                        }
                        Action::Delay(pause) => sleep(*pause).await,
                        Action::Answer(answer) => {
                            read_rest_of_request(&piece, &mut from_client).await?;
                            to_client.lock().await.write_all(answer).await?;
                            to_client.lock().await.shutdown().await?;
                            bail!("answered");
                        }
                    }
                }
            }
            self.stay_silent().await;
            before.extend_from_slice(&piece);
            let kept = before.len().min(256);
            before.drain(..before.len() - kept);
            to_server.write_all(&piece).await?;
        }
    }

    async fn answers(
        &self,
        mut from_server: OwnedReadHalf,
        to_client: Arc<tokio::sync::Mutex<OwnedWriteHalf>>,
        answers: watch::Receiver<Answers>,
    ) -> Result<()> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut passed = 0;
        let mut due = Instant::now();
        loop {
            let read = from_server.read(&mut piece).await;
            self.stay_silent().await;
            let read = read?;
            if read == 0 {
                to_client.lock().await.shutdown().await?;
                return Ok(());
            }
            self.turn.answered();
            self.wait_while_held().await;
            let now = answers.borrow().clone();
            match now {
                Answers::Pass => {}
                Answers::Wait(rule) => rule.wait_for_release().await,
                Answers::CutAfter(bytes) => {
                    let left = bytes.saturating_sub(passed);
                    passed += read;
                    if left < read {
                        to_client.lock().await.write_all(&piece[..left]).await?;
                        bail!("cut");
                    }
                }
            }
            self.stay_silent().await;
            let bytes_per_sec = self.shared.bytes_per_sec.load(Ordering::SeqCst);
            if bytes_per_sec > 0 {
                // What a timer slept for too long is made up for; time without anything to pass is not.
                if due + TIMER_SLACK < Instant::now() {
                    due = Instant::now();
                }
                due += Duration::from_secs_f64(read as f64 / f64::from(bytes_per_sec));
                sleep_until(due).await;
            }
            to_client.lock().await.write_all(&piece[..read]).await?;
        }
    }

    /// Waits forever once the connection is silenced; only a cut ends it then.
    async fn stay_silent(&self) {
        if *self.silenced.borrow() {
            std::future::pending::<()>().await;
        }
    }

    async fn wait_while_held(&self) {
        let _ = self.shared.gate.subscribe().wait_for(|gate| *gate != Gate::Held).await;
    }
}

/// Waits for the release. A client that goes away meanwhile takes its connection with it, as without us.
async fn hold(rule: &ActiveRule, from_client: &mut OwnedReadHalf, waiting: &mut Vec<u8>) -> Result<()> {
    let mut buffer = vec![0; PIECE_BYTES];
    let mut released = pin!(rule.wait_for_release());
    loop {
        tokio::select! {
            () = &mut released => return Ok(()),
            read = from_client.read(&mut buffer), if waiting.len() < 4 * PIECE_BYTES => match read? {
                0 => bail!("the client went away"),
                read => waiting.extend_from_slice(&buffer[..read]),
            },
        }
    }
}

/// Counts how often the pattern ends within `piece`, of which `before` is what came just before.
fn sightings(pattern: &[u8], before: &[u8], piece: &[u8]) -> usize {
    if pattern.is_empty() {
        return 0;
    }
    let border = before.len().min(pattern.len() - 1);
    let joined = [&before[before.len() - border..], piece].concat();
    joined.windows(pattern.len()).filter(|window| *window == pattern).count()
}

/// Reads an HTTP request to its end, so that closing the connection does not reset it under our answer.
async fn read_rest_of_request(start: &[u8], from_client: &mut OwnedReadHalf) -> Result<()> {
    let mut request = start.to_vec();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if request_is_complete(&request) {
            return Ok(());
        }
        let read = from_client.read(&mut piece).await?;
        if read == 0 {
            return Ok(());
        }
        request.extend_from_slice(&piece[..read]);
    }
}

fn request_is_complete(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, _)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    let end_of_head = request.windows(4).position(|window| window == b"\r\n\r\n").map_or(request.len(), |at| at + 4);
    request.len() >= end_of_head + length.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_on_the_border_of_two_pieces_is_seen_once() {
        assert_eq!(sightings(b"COMMIT", b"..COM", b"MIT.."), 1);
        assert_eq!(sightings(b"COMMIT", b"COMMIT", b"...."), 0);
        assert_eq!(sightings(b"COMMIT", b"", b"COMMIT COMMIT"), 2);
        assert_eq!(sightings(b"COMMIT", b"C", b"OMMI"), 0);
    }

    #[test]
    fn a_request_ends_with_its_body() {
        assert!(!request_is_complete(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab"));
        assert!(request_is_complete(b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabc"));
        assert!(request_is_complete(b"GET / HTTP/1.1\r\n\r\n"));
        assert!(!request_is_complete(b"GET / HTTP/1.1\r\n"));
    }
}
