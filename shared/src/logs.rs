//! Sets up the log: `tracing` events to stderr, as text or JSON. Only `main` calls [`init`]; a library and a test
//! never do.
//!
//! | level | what it is for |
//! | --- | --- |
//! | error | data lost, or a bug |
//! | warn | unexpected but recovered |
//! | info | a change that an operator cares about |
//! | debug | one line per transaction |
//! | trace | one line per packet |

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use tracing::Subscriber;
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::MakeWriter,
    layer::SubscriberExt,
    registry, reload,
    util::SubscriberInitExt,
};

use crate::terminal::colour;

/// What is logged: levels by comma, each for all or for the modules whose path begins with a name, as in
/// `info,quinn=warn`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter(String);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    #[default]
    Text,
    /// One object a line.
    Json,
}

#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    #[error(
        "`{0}` is no level of the log: give off, error, warn, info, debug or trace, also by module as in \"info,quinn=warn\""
    )]
    Level(String),
    #[error("`{0}` names no module before its `=`")]
    Module(String),
    #[error("the log is set up already")]
    Twice,
}

type Lines = Box<dyn Layer<Registry> + Send + Sync>;

/// Changes the log while it is written.
#[derive(Clone)]
pub struct Switch {
    filter: reload::Handle<Targets, Registry>,
    lines: reload::Handle<Lines, Registry>,
    make: Arc<dyn Fn(Format) -> Lines + Send + Sync>,
}

impl Switch {
    /// From the next event on.
    pub fn set(&self, filter: &Filter, format: Format) {
        // Fails only where the log is gone.
        let _ = self.filter.reload(filter.targets());
        let _ = self.lines.reload((self.make)(format));
    }
}

impl fmt::Debug for Switch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Switch").finish_non_exhaustive()
    }
}

/// Logs to stderr from now on, in colour if that is a terminal and `NO_COLOR` is not set.
pub fn init(filter: &Filter, format: Format) -> Result<Switch, LogError> {
    let (subscriber, switch) = subscriber(filter, format, colour(&std::io::stderr()), std::io::stderr);
    subscriber.try_init().map_err(|_| LogError::Twice)?;
    Ok(switch)
}

fn subscriber<W>(
    filter: &Filter,
    format: Format,
    colour: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync + use<W>, Switch)
where
    W: for<'a> MakeWriter<'a> + Clone + Send + Sync + 'static,
{
    let make = Arc::new(move |format| {
        let lines = tracing_subscriber::fmt::layer().with_writer(writer.clone()).with_ansi(colour);
        match format {
            Format::Text => lines.boxed(),
            Format::Json => lines.json().flatten_event(true).boxed(),
        }
    });
    let (layer, lines) = reload::Layer::new(make(format));
    let (targets, filter) = reload::Layer::new(filter.targets());
    (registry().with(layer.with_filter(targets)), Switch { filter, lines, make })
}

impl Filter {
    fn targets(&self) -> Targets {
        let mut targets = Targets::new();
        for (module, level) in self.0.split(',').filter_map(|part| rule(part).ok()) {
            targets = match module {
                Some(module) => targets.with_target(module, level),
                None => targets.with_default(level),
            };
        }
        targets
    }
}

/// `level` or `module=level`. Not `Targets::from_str`, which takes a misspelt level for a module and logs all of it.
fn rule(part: &str) -> Result<(Option<&str>, LevelFilter), LogError> {
    let (module, level) = match part.split_once('=') {
        Some((module, level)) => (Some(module.trim()), level.trim()),
        None => (None, part.trim()),
    };
    if module == Some("") {
        return Err(LogError::Module(part.to_owned()));
    }
    // `LevelFilter` also reads digits and the empty string.
    let known = level.bytes().all(|b| b.is_ascii_alphabetic()) && !level.is_empty();
    let level = known.then(|| level.parse().ok()).flatten().ok_or_else(|| LogError::Level(level.to_owned()))?;
    Ok((module, level))
}

impl Default for Filter {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl FromStr for Filter {
    type Err = LogError;

    fn from_str(text: &str) -> Result<Self, LogError> {
        text.split(',').try_for_each(|part| rule(part).map(drop))?;
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Filter {
    type Error = LogError;

    fn try_from(text: String) -> Result<Self, LogError> {
        text.parse()
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.0
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is logged of one event at each level, here and in a module called quinn.
    fn logged(filter: &str, format: Format) -> String {
        let lines = Written::default();
        let writer = lines.clone();
        let (subscriber, _) = subscriber(&filter.parse().unwrap(), format, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(peer = "b2", "ours");
            tracing::debug!("finer");
            tracing::info!(target: "quinn::endpoint", "theirs");
            tracing::warn!(target: "quinn::endpoint", "odd");
        });
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn levels_hold_for_all_or_for_a_module() {
        let words = |filter| {
            let text = logged(filter, Format::Text);
            ["ours", "finer", "theirs", "odd"].into_iter().filter(|w| text.contains(w)).collect::<Vec<_>>()
        };
        assert_eq!(words("info"), ["ours", "theirs", "odd"]);
        assert_eq!(words("debug, quinn=warn"), ["ours", "finer", "odd"]);
        assert_eq!(words("off,quinn=info"), ["theirs", "odd"]);
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = logged("info", Format::Json);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["message"], &first["peer"], &first["level"]),
            (&"ours".into(), &"b2".into(), &"INFO".into())
        );
        assert_eq!(text.lines().count(), 3);
    }

    #[test]
    fn level_and_form_change_while_the_log_is_written() {
        let lines = Written::default();
        let writer = lines.clone();
        let (subscriber, switch) = subscriber(&Filter::default(), Format::Text, false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            for (filter, format) in [("info", Format::Text), ("debug", Format::Json), ("warn", Format::Text)] {
                switch.set(&filter.parse().unwrap(), format);
                tracing::debug!(filter, "fine");
                tracing::warn!(filter, "odd");
            }
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let seen: Vec<_> = text.lines().map(|line| (line.starts_with('{'), line.contains("fine"))).collect();
        assert_eq!(seen, [(false, false), (true, true), (true, false), (false, false)], "{text}");
    }

    #[test]
    fn a_misspelt_filter_is_an_error_and_not_a_module() {
        for (filter, expected) in [
            ("inof", "`inof` is no level"),
            ("info,quinn=loud", "`loud` is no level"),
            ("", "`` is no level"),
            ("info,", "`` is no level"),
            ("3", "`3` is no level"),
            ("=info", "`=info` names no module"),
        ] {
            let told = filter.parse::<Filter>().unwrap_err().to_string();
            assert!(told.starts_with(expected), "{filter}: {told}");
        }
    }
}
