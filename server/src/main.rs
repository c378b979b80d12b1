//! `pams-server`: the daemon, and the commands that work beside it. What it takes and means stands in `cli` and `config`.

use std::process::ExitCode;

use anyhow::Context;
use pams_server::{
    cli::{self, Args, Misuse, Plan},
    config::Config,
    shell::{self, Options, Ready},
};
use pams_shared::{
    config::parse_args,
    frame::Role,
    logs,
    program::{exit_code, print, run, told},
    supervisor::Supervisor,
};
use tokio::runtime::Builder;

const PROGRAM: &str = "pams-server";

fn main() -> ExitCode {
    let outcome = match parse_args::<Args>().plan() {
        Ok(Plan::Print(text)) => print(&text).map(|()| 0).map_err(anyhow::Error::from),
        Ok(Plan::Ask { config, ask }) => beside(*config, ask),
        Ok(Plan::Run { config, read, join, ready_json }) => {
            daemon(*config, Options { join, read: Some(read), ..Options::default() }, ready_json)
        }
        Err(misuse) => Ok(told(PROGRAM, Misuse::EXIT, &misuse.into())),
    };
    outcome.unwrap_or_else(|error| told(PROGRAM, exit_code(&error), &error)).into()
}

fn beside(config: Config, ask: cli::Ask) -> anyhow::Result<u8> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let answered = runtime.block_on(cli::ask(config, ask));
    Ok(answered.map_or_else(|fault| told(PROGRAM, fault.exit_code(), &fault.into()), |()| 0))
}

/// Runs until SIGTERM or SIGINT, then stops in good order; a second signal ends it at once.
///
/// With a thread for each processor: the loop is one task, but each agent's encryption and frames, each handshake and each
/// answer over HTTP is work of its own, which must not wait for the loop nor hold it up.
fn daemon(config: Config, mut options: Options, ready_json: bool) -> anyhow::Result<u8> {
    options.logs = Some(logs::init(&config.log, config.log_format)?);
    options.supervisor = Supervisor::from_environment().into();
    options.ready = Some(Box::new(move |ready: &Ready| tell_ready(ready, ready_json)));
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    run(runtime, |shutdown| async { Ok(shell::run(config, options, shutdown).await?) })
}

/// Where it serves, for programs; at the first start also the line that an agent joins with, for people.
fn tell_ready(ready: &Ready, ready_json: bool) {
    let mut text = String::new();
    if ready_json {
        text = format!("{}\n", serde_json::json!({ "quic": ready.quic, "http": ready.http }));
    }
    if let Some(token) = &ready.first_token {
        text += &format!("{}\n", cli::join_line(Role::Agent, token));
        tracing::info!("this is the first start: the line on stdout lets agents join; `pams-server token` makes more");
    }
    if let Err(error) = print(&text) {
        tracing::warn!(%error, "cannot write to stdout; `pams-server token create` makes another token");
    }
}
