//! How long a connection's kernel waits for a peer that says nothing.
//!
//! sqlx makes the socket and keeps it, so it is found among this process's descriptors, by its peer.

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{SocketAddrAny, getpeername, sockopt},
    process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open},
};
use sqlx::postgres::PgConnectOptions;
use std::{
    net::{SocketAddrV4, SocketAddrV6},
    time::Duration,
};
use tracing::debug;

/// libpq's settings of a connection. Zero means the system's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tcp {
    /// Whether an idle peer is asked for a sign of life.
    pub keepalives: bool,
    /// After how many seconds.
    pub idle: u32,
    /// And again after how many.
    pub interval: u32,
    /// How often in vain.
    pub count: u32,
    /// Milliseconds until bytes must be acknowledged.
    pub user_timeout: u32,
}

impl Default for Tcp {
    fn default() -> Self {
        Self { keepalives: true, idle: 30, interval: 10, count: 3, user_timeout: 0 }
    }
}

impl Tcp {
    /// Takes a URL's parameter.
    pub fn set(&mut self, name: &str, value: i32) {
        let number = value.max(0).unsigned_abs();
        match name {
            "keepalives" => self.keepalives = value != 0,
            "keepalives_idle" => self.idle = number,
            "keepalives_interval" => self.interval = number,
            "keepalives_count" => self.count = number,
            _ => self.user_timeout = number,
        }
    }

    /// Sets the options on all sockets whose peer has the server's port: also a second time does no harm.
    ///
    /// Where the system does not let a process duplicate its own descriptors, the connection goes without; whoever
    /// waits on it has limits of its own.
    pub fn apply(&self, options: &PgConnectOptions) {
        if options.get_socket().is_some() || options.get_host().starts_with('/') {
            return;
        }
        if let Err(error) = self.apply_to_peers(options.get_port()) {
            debug!(error = format!("{error:?}"), "TCP options of Postgres's connections not set");
        }
    }

    fn apply_to_peers(&self, port: u16) -> rustix::io::Result<()> {
        let process = pidfd_open(getpid(), PidfdFlags::empty())?;
        let Ok(descriptors) = std::fs::read_dir("/proc/self/fd") else { return Err(Errno::NOSYS) };
        for entry in descriptors.flatten() {
            let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let is_socket = std::fs::read_link(format!("/proc/self/fd/{number}"))
                .is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
            if !is_socket {
                continue;
            }
            let socket = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
                Ok(socket) => socket,
                // Closed meanwhile.
                Err(Errno::BADF) => continue,
                Err(error) => return Err(error),
            };
            let peer = getpeername(&socket).ok().flatten().and_then(|peer| peer_port(&peer));
            if peer == Some(port) {
                self.apply_to(&socket)?;
            }
        }
        Ok(())
    }

    fn apply_to(&self, socket: &OwnedFd) -> rustix::io::Result<()> {
        sockopt::set_socket_keepalive(socket, self.keepalives)?;
        if self.keepalives {
            if self.idle > 0 {
                sockopt::set_tcp_keepidle(socket, Duration::from_secs(self.idle.into()))?;
            }
            if self.interval > 0 {
                sockopt::set_tcp_keepintvl(socket, Duration::from_secs(self.interval.into()))?;
            }
            if self.count > 0 {
                sockopt::set_tcp_keepcnt(socket, self.count)?;
            }
        }
        if self.user_timeout > 0 {
            sockopt::set_tcp_user_timeout(socket, self.user_timeout)?;
        }
        Ok(())
    }
}

fn peer_port(peer: &SocketAddrAny) -> Option<u16> {
    let v4 = SocketAddrV4::try_from(peer.clone()).map(|address| address.port());
    v4.or_else(|_| SocketAddrV6::try_from(peer.clone()).map(|address| address.port())).ok()
}
