//! What the service manager is told, in systemd's notification protocol (sd_notify(3)): ready, reloading, stopping, a line
//! of status, and that the loop turns. Without a service manager, and for agents in tests, all of it is nothing.
//!
//! Not the crate `sd-notify`: its sends wait when the manager's queue is full, and the loop, which sends the heartbeat
//! itself so that a loop that hangs is seen, must not; it also knows no abstract sockets.

use std::{
    ffi::OsStr,
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
    sync::Mutex,
    time::Duration,
};

use crate::clock::Clock;

/// Longest line of status that is sent.
const STATUS_BYTES_MAX: usize = 512;

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Supervisor {
    way: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    /// The last line of status, so that only news are sent.
    said: Mutex<String>,
}

impl Supervisor {
    /// As `NOTIFY_SOCKET`, `WATCHDOG_USEC` and `WATCHDOG_PID` say. Whoever cannot be told is told nothing: a daemon works
    /// without; a warning is logged.
    pub fn from_environment() -> Self {
        let Some(place) = std::env::var_os("NOTIFY_SOCKET").filter(|place| !place.is_empty()) else {
            return Self::default();
        };
        let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|usec| ours && *usec > 0).map(Duration::from_micros);
        Self::new(&place, watchdog).unwrap_or_else(|error| {
            tracing::warn!(?place, %error, "the service manager cannot be told anything");
            Self::default()
        })
    }

    /// `place`: the path of a datagram socket, or an abstract name after `@`. `watchdog`: the longest silence that the
    /// manager allows.
    pub fn new(place: &OsStr, watchdog: Option<Duration>) -> io::Result<Self> {
        let address = match place.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
        };
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        Ok(Self { way: Some((socket, address)), watchdog, said: Mutex::default() })
    }

    /// How often [`heartbeat`](Self::heartbeat) is to be called: twice in the time that the manager waits. `None`: it does
    /// not.
    pub fn heartbeat_every(&self) -> Option<Duration> {
        self.watchdog.map(|usec| usec / 2)
    }

    /// It serves: at the start, and again after [`reloading`](Self::reloading).
    pub fn ready(&self) {
        self.send("READY=1\n");
    }

    /// The configuration is being read again.
    pub fn reloading(&self) {
        // The manager tells this from news that are older than its own signal by the time.
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", Clock.monotonic_us()));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\n");
    }

    /// The loop turns. To be called by the loop and nothing else.
    pub fn heartbeat(&self) {
        self.send("WATCHDOG=1\n");
    }

    /// One line for people; sent if it is another one than the last.
    pub fn status(&self, text: &str) {
        if self.way.is_none() {
            return;
        }
        let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let line = &line[..line.floor_char_boundary(STATUS_BYTES_MAX)];
        let Ok(mut said) = self.said.lock() else { return };
        if *said != line {
            line.clone_into(&mut said);
            self.send(&format!("STATUS={line}\n"));
        }
    }

    /// Somebody listens for [`status`](Self::status).
    pub fn is_there(&self) -> bool {
        self.way.is_some()
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.way
            && let Err(error) = socket.send_to_addr(text.as_bytes(), address)
        {
            tracing::debug!(%error, text, "the service manager was not told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut text = [0; 1_024];
        let bytes = manager.recv(&mut text).unwrap();
        String::from_utf8(text[..bytes].to_vec()).unwrap()
    }

    fn all(supervisor: &Supervisor, manager: &UnixDatagram) {
        supervisor.ready();
        assert_eq!(heard(manager), "READY=1\n");
        supervisor.status("two\nlines");
        supervisor.status("two\nlines");
        supervisor.heartbeat();
        assert_eq!((heard(manager), heard(manager)), ("STATUS=two lines\n".into(), "WATCHDOG=1\n".into()));
        supervisor.reloading();
        let told = heard(manager);
        let usec = told.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").and_then(|t| t.trim_end().parse::<u64>().ok());
        assert!(usec.is_some_and(|usec| usec > 0), "{told}");
        supervisor.stopping();
        assert_eq!(heard(manager), "STOPPING=1\n");
    }

    #[test]
    fn a_manager_hears_everything_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor::new(path.as_os_str(), Some(Duration::from_secs(3))).unwrap();
        assert_eq!(supervisor.heartbeat_every(), Some(Duration::from_millis(1_500)));
        all(&supervisor, &manager);

        let name = format!("pams-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        all(&Supervisor::new(format!("@{name}").as_ref(), None).unwrap(), &manager);
    }

    #[test]
    fn a_manager_that_is_gone_or_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let supervisor = Supervisor::new(path.as_os_str(), None).unwrap();
        supervisor.ready();
        let manager = UnixDatagram::bind(&path).unwrap();
        for _ in 0..10_000 {
            supervisor.heartbeat();
        }
        assert_eq!(heard(&manager), "WATCHDOG=1\n");
        Supervisor::default().ready();
    }
}
