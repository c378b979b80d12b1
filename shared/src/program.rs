//! What `main` of each binary does beside its own matter: it listens to signals, writes to stdout, tells on stderr why it
//! ends, and finds the exit code. It parses nothing (see [`config`](mod@crate::config)) and logs to where
//! [`logs`](crate::logs) says.

use std::{
    future::Future,
    io::{self, Write},
    pin::Pin,
};

use anyhow::Context;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::config::exit;

/// Completes at the first signal.
pub type Shutdown = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Runs a daemon until SIGTERM or SIGINT, on which it stops in good order; a second signal ends it at once. Gives the exit
/// code.
pub fn run<F>(runtime: Runtime, daemon: impl FnOnce(Shutdown) -> F) -> anyhow::Result<u8>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let ended = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let shutdown = Box::pin(async { drop(stopped.await) });
        tokio::select! {
            biased;
            code = signals(stop) => code,
            ended = daemon(shutdown) => ended.map(|()| 0),
        }
    });
    // Blocking work of one who is in a hurry is not waited for.
    runtime.shutdown_background();
    ended
}

/// The first signal stops; the second one gives the exit code of a program that it killed.
async fn signals(stop: oneshot::Sender<()>) -> anyhow::Result<u8> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => ("SIGTERM", 128 + 15),
            _ = interrupt.recv() => ("SIGINT", 128 + 2),
        }
    };
    let (name, _) = next().await;
    tracing::info!("{name}: leaving; another signal ends at once");
    let _ = stop.send(());
    let (name, code) = next().await;
    tracing::warn!("{name} again: ended at once; what was under way is lost");
    Ok(code)
}

/// Writes to stdout. That nobody reads on is no error.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Tells on stderr why `program` ends, unless the code is 0; gives the code.
pub fn told(program: &str, code: u8, error: &anyhow::Error) -> u8 {
    if code != 0 {
        // A closed stderr leaves nobody to tell.
        let _ = writeln!(io::stderr(), "{program}: {}", causes(error));
    }
    code
}

/// The error with each cause that is not told by what it caused: many messages hold the words of their source.
fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// The exit code of a daemon that could not start or go on.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => exit::NO_PERMISSION,
        Some(_) => exit::IO,
        None => exit::UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen on UDP [::]:1: {source}; --listen names another address")]
    struct Listen {
        source: io::Error,
    }

    fn taken() -> io::Error {
        io::Error::from_raw_os_error(nix::errno::Errno::EADDRINUSE as i32)
    }

    #[test]
    fn each_cause_is_told_once() {
        let told = causes(&anyhow::Error::from(Listen { source: taken() }));
        assert_eq!(
            told,
            "cannot listen on UDP [::]:1: Address already in use (os error 98); --listen names another address"
        );
        let told = causes(&anyhow::Error::from(taken()).context("cannot listen").context("no start"));
        assert_eq!(told, "no start: cannot listen: Address already in use (os error 98)");
    }

    #[test]
    fn the_exit_code_tells_files_and_permissions_from_the_rest() {
        for (error, code) in [
            (Listen { source: taken() }.into(), exit::IO),
            (Listen { source: io::ErrorKind::PermissionDenied.into() }.into(), exit::NO_PERMISSION),
            (anyhow::Error::from(taken()).context("no start"), exit::IO),
            (anyhow::anyhow!("no home"), exit::UNAVAILABLE),
        ] {
            assert_eq!(exit_code(&error), code, "{error:#}");
        }
    }
}
