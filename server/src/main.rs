//! `pams-server`: the daemon, and the commands that work beside it. What it takes and means stands in `cli` and `config`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use pams_server::{
    cli::{self, Args, Misuse, Plan},
    config::Config,
    shell::{self, Options, Ready},
};
use pams_shared::{
    config::{exit, parse_args},
    logs,
};
use tokio::{
    runtime::Builder,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

fn main() -> ExitCode {
    let outcome = match parse_args::<Args>().plan() {
        Ok(Plan::Print(text)) => print(&text).map(|()| 0).map_err(anyhow::Error::from),
        Ok(Plan::Ask { config, ask }) => beside(*config, ask),
        Ok(Plan::Run { config, ready_json }) => daemon(*config, ready_json),
        Err(misuse) => Ok(told(Misuse::EXIT, &misuse.into())),
    };
    outcome.unwrap_or_else(|error| told(code(&error), &error)).into()
}

fn beside(config: Config, ask: cli::Ask) -> anyhow::Result<u8> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let answered = runtime.block_on(cli::ask(config, ask));
    Ok(answered.map_or_else(|fault| told(fault.exit_code(), &fault.into()), |()| 0))
}

/// Runs until SIGTERM or SIGINT, then stops in good order; a second signal ends it at once.
///
/// With a thread for each processor: the loop is one task, but each agent's encryption and frames, each handshake and each
/// answer over HTTP is work of its own, which must not wait for the loop nor hold it up.
fn daemon(config: Config, ready_json: bool) -> anyhow::Result<u8> {
    logs::init(&config.log, config.log_format)?;
    let ready = Box::new(move |ready: &Ready| tell_ready(ready, ready_json));
    let options = Options { ready: Some(ready), ..Options::default() };
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        tokio::select! {
            biased;
            code = signals(stop) => code,
            ended = shell::run(config, options, shutdown) => Ok(ended.map(|()| 0)?),
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
    tracing::info!("{name}: stopping; another signal ends at once");
    let _ = stop.send(());
    let (name, code) = next().await;
    tracing::warn!("{name} again: ended at once");
    Ok(code)
}

/// Where it serves, for programs; at the first start also the line that an agent joins with, for people.
fn tell_ready(ready: &Ready, ready_json: bool) {
    let mut text = String::new();
    if ready_json {
        text = format!("{}\n", serde_json::json!({ "quic": ready.quic, "http": ready.http }));
    }
    if let Some(token) = &ready.first_token {
        text += &format!("{}\n", cli::join_line(token));
        tracing::info!("this is the first start: the line on stdout lets agents join; `pams-server token` makes more");
    }
    if let Err(error) = print(&text) {
        tracing::warn!(%error, "cannot write to stdout; `pams-server token create` makes another token");
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // Whoever read has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Tells why on stderr; gives the code.
fn told(code: u8, error: &anyhow::Error) -> u8 {
    if code != 0 {
        let _ = writeln!(io::stderr(), "pams-server: {error:#}");
    }
    code
}

/// The exit code of a daemon that could not start or go on.
fn code(error: &anyhow::Error) -> u8 {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::PermissionDenied) => exit::NO_PERMISSION,
        Some(_) => exit::IO,
        None => exit::UNAVAILABLE,
    }
}
