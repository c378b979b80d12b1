//! `pams-agent`: the daemon, and the clients of its control socket. What it takes and means stands in `cli` and `config`.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use anyhow::Context;
use pams_agent::{
    cli::{self, Args, Misuse, Plan},
    config::Config,
    shell::{self, Options, Ready},
};
use pams_shared::{
    config::{exit, parse_args},
    logs,
};
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

fn main() -> ExitCode {
    let outcome = match parse_args::<Args>().plan() {
        Ok(Plan::Print(text)) => print(&text).map(|()| 0).map_err(anyhow::Error::from),
        Ok(Plan::Ask { socket, form, ask }) => runtime().and_then(|runtime| {
            runtime.block_on(cli::ask(socket, form, ask)).or_else(|fault| Ok(told(fault.exit_code(), &fault.into())))
        }),
        Ok(Plan::Run { config, join, ready_json }) => daemon(*config, join, ready_json),
        Err(misuse) => Ok(told(Misuse::EXIT, &misuse.into())),
    };
    outcome.unwrap_or_else(|error| told(code(&error), &error)).into()
}

/// Runs until SIGTERM or SIGINT, then leaves in good order; a second signal ends it at once.
fn daemon(config: Config, join: Option<String>, ready_json: bool) -> anyhow::Result<u8> {
    logs::init(&config.log, config.log_format)?;
    let mut options = Options { join, ..Options::default() };
    if ready_json {
        options.ready = Some(Box::new(tell_ready));
    }
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let (stop, stopped) = oneshot::channel();
        let shutdown = async { drop(stopped.await) };
        tokio::select! {
            biased;
            code = signals(stop) => code,
            ended = shell::run(config, options, shutdown) => ended.map(|()| 0),
        }
    });
    // Blocking work of one who is in a hurry is not waited for.
    runtime.shutdown_background();
    ended
}

/// One thread: so little happens that a second one costs more than it does.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
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
    tracing::warn!("{name} again: ended at once; what was not reported is lost");
    Ok(code)
}

fn tell_ready(ready: &Ready) {
    let line = serde_json::json!({
        "quic": ready.quic,
        "http": ready.http,
        "socket": ready.socket,
        "peer": ready.peer,
    });
    if let Err(error) = print(&format!("{line}\n")) {
        tracing::warn!(%error, "nobody reads the line of --ready-json");
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

/// Tells why on stderr, with each cause that is not told by what it caused; gives the code.
fn told(code: u8, error: &anyhow::Error) -> u8 {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    if code != 0 {
        let _ = writeln!(io::stderr(), "pams-agent: {text}");
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
