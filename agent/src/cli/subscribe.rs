//! `subscribe`: a line for each change of a peer's presence, as it comes, until Ctrl-C. A subscription that was not there
//! before ends with it.

use std::io::Write;

use pams_shared::{
    control::{Control, ControlError, Lines, target},
    id::PeerId,
};
use serde_json::{Value, json};

use super::{Form, ask::Fault, read, show};

pub struct Subscription {
    pub peer: PeerId,
    /// As the user called it.
    pub name: String,
}

impl Subscription {
    pub async fn run(
        self,
        control: &Control,
        form: Form,
        interrupted: impl Future<Output = ()>,
        out: &mut dyn Write,
    ) -> Result<u8, Fault> {
        let id = self.peer.to_string();
        let path = target(&["v1", "subscriptions", &id], &[]);
        // First listen, then subscribe, so that nothing is missed.
        let lines = control.lines(&target(&["v1", "events"], &[("peer", &id)])).await?;
        let begun: Value = control.put(&path, &json!({})).await?;
        let new = begun["new"].as_bool().unwrap_or(false);
        let shown = self.show(&begun, lines, form, interrupted, out).await;
        if new {
            control.delete::<Value>(&path).await?;
        }
        shown.map(|()| 0)
    }

    async fn show(
        &self,
        begun: &Value,
        mut lines: Lines,
        form: Form,
        interrupted: impl Future<Output = ()>,
        out: &mut dyn Write,
    ) -> Result<(), Fault> {
        match form {
            Form::Json => writeln!(out, "{begun}")?,
            Form::Table => {
                let begun: read::Subscribed = serde_json::from_value(begun.clone())?;
                out.write_all(show::subscribed(&self.name, &begun).as_bytes())?;
            }
        }
        out.flush()?;
        tokio::pin!(interrupted);
        loop {
            let line = tokio::select! {
                biased;
                () = &mut interrupted => return Ok(()),
                line = lines.next::<Value>() => line?,
            };
            let Some(line) = line else {
                let problem = "it ended".to_owned();
                return Err(
                    ControlError::Broken { program: "pams-agent", what: "the subscription".into(), problem }.into()
                );
            };
            match form {
                Form::Json => writeln!(out, "{line}")?,
                Form::Table => out.write_all(show::event(&self.name, &serde_json::from_value(line)?).as_bytes())?,
            }
            out.flush()?;
        }
    }
}
