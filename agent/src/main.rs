//! `pams-agent`: the daemon, and the clients of its control socket. What it takes and means stands in `cli` and `config`.

use std::process::ExitCode;

use anyhow::Context;
use pams_agent::{
    cli::{self, Args, Misuse, Plan},
    config::Config,
    shell::{self, Options, Ready},
};
use pams_shared::{
    config::parse_args,
    logs,
    program::{exit_code, print, run, told},
    supervisor::Supervisor,
};
use tokio::runtime::{Builder, Runtime};

const PROGRAM: &str = "pams-agent";

fn main() -> ExitCode {
    let outcome = match parse_args::<Args>().plan() {
        Ok(Plan::Print(text)) => print(&text).map(|()| 0).map_err(anyhow::Error::from),
        Ok(Plan::Ask { socket, form, ask }) => runtime().and_then(|runtime| {
            runtime
                .block_on(cli::ask(socket, form, ask))
                .or_else(|fault| Ok(told(PROGRAM, fault.exit_code(), &fault.into())))
        }),
        Ok(Plan::Run { config, read, join, ready_json }) => {
            let options = Options { join, read: Some(read), ..Options::default() };
            daemon(*config, options, ready_json)
        }
        Err(misuse) => Ok(told(PROGRAM, Misuse::EXIT, &misuse.into())),
    };
    outcome.unwrap_or_else(|error| told(PROGRAM, exit_code(&error), &error)).into()
}

/// Runs until SIGTERM or SIGINT, then leaves in good order; a second signal ends it at once.
fn daemon(config: Config, mut options: Options, ready_json: bool) -> anyhow::Result<u8> {
    options.logs = Some(logs::init(&config.log, config.log_format)?);
    options.supervisor = Supervisor::from_environment().into();
    if ready_json {
        options.ready = Some(Box::new(tell_ready));
    }
    run(runtime()?, |shutdown| shell::run(config, options, shutdown))
}

/// One thread: so little happens that a second one costs more than it does.
fn runtime() -> anyhow::Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start the runtime")
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
