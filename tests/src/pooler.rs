//! A connection pooler in transaction mode, in miniature: what stands before many a Postgres.
//!
//! Each client signs in through a server connection of its own; from then on the server connections
//! belong to all, and whoever begins a transaction gets the first free one until it ends.

use anyhow::{Context as _, Result};
use std::{net::SocketAddr, sync::Arc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::{Mutex, OwnedMutexGuard},
    task::JoinHandle,
};

/// A running pooler; it stops with its handle.
#[derive(Debug)]
pub struct Pooler {
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

type Servers = Arc<Mutex<Vec<Arc<Mutex<TcpStream>>>>>;

impl Pooler {
    /// Starts a pooler before the server at `host_and_port`.
    ///
    /// # Errors
    /// When it cannot listen.
    pub async fn start(host_and_port: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let server = host_and_port.to_owned();
        let servers = Servers::default();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (server, servers) = (server.clone(), Arc::clone(&servers));
                // A client that goes away ends its task with an error; nobody needs to hear of it.
                tokio::spawn(async move { serve(client, &server, &servers).await });
            }
        });
        Ok(Self { address, accepting })
    }

    /// Returns where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(mut client: TcpStream, server: &str, servers: &Servers) -> Result<()> {
    let signed_in = sign_in(&mut client, server).await?;
    servers.lock().await.push(Arc::new(Mutex::new(signed_in)));
    let mut held: Option<OwnedMutexGuard<TcpStream>> = None;
    loop {
        let message = read_message(&mut client).await?;
        if message[0] == b'X' {
            return Ok(());
        }
        let mut server = match held.take() {
            Some(server) => server,
            None => first_free(servers).await,
        };
        server.write_all(&message).await?;
        // Only a simple query and a Sync are answered to the end; the rest is still on its way.
        let idle = matches!(message[0], b'Q' | b'S') && relay_answer(&mut server, &mut client).await?;
        held = (!idle).then_some(server);
    }
}

/// Lets a client sign in at the server and returns the server connection.
async fn sign_in(client: &mut TcpStream, server: &str) -> Result<TcpStream> {
    let mut server = TcpStream::connect(server).await.context("connect to the server")?;
    let mut startup = read_startup(client).await?;
    // 80877103 asks for TLS, which a pooler on this machine does not have.
    if startup[4..8] == 80_877_103_u32.to_be_bytes() {
        client.write_all(b"N").await?;
        startup = read_startup(client).await?;
    }
    server.write_all(&startup).await?;
    loop {
        let message = read_message(&mut server).await?;
        client.write_all(&message).await?;
        match message[0] {
            b'Z' | b'E' => return Ok(server),
            // The server asks for the next step of the password exchange; 0 and 12 only tell how it went.
            b'R' if !matches!(message[8], 0 | 12) => server.write_all(&read_message(client).await?).await?,
            _ => {}
        }
    }
}

/// Relays until the server is ready for the next query; returns whether no transaction is open then.
async fn relay_answer(server: &mut TcpStream, client: &mut TcpStream) -> Result<bool> {
    loop {
        let message = read_message(server).await?;
        client.write_all(&message).await?;
        if message[0] == b'Z' {
            return Ok(message[5] == b'I');
        }
    }
}

async fn first_free(servers: &Servers) -> OwnedMutexGuard<TcpStream> {
    loop {
        let all = servers.lock().await.clone();
        if let Some(free) = all.into_iter().find_map(|server| server.try_lock_owned().ok()) {
            return free;
        }
        tokio::task::yield_now().await;
    }
}

async fn read_startup(stream: &mut TcpStream) -> Result<Vec<u8>> {
    read_after(stream, Vec::new()).await
}

async fn read_message(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let kind = stream.read_u8().await?;
    read_after(stream, vec![kind]).await
}

/// Reads a length and what it announces, behind what was read already.
async fn read_after(stream: &mut TcpStream, mut message: Vec<u8>) -> Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    message.extend(length.to_be_bytes());
    let start = message.len();
    message.resize(start + (length as usize).saturating_sub(4), 0);
    stream.read_exact(&mut message[start..]).await?;
    Ok(message)
}
