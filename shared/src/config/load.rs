//! Puts file, environment and flags together, and says where a mistake is.
//!
//! Each source is tried on the defaults by itself, the environment and flags key by key, so that a bad value is
//! charged to where it stands. The file must be small and whole: nothing is read from a file that has one mistake.
//!
//! Environment: key `ping.interval` of a daemon with prefix `PAMS_AGENT` is `PAMS_AGENT_PING_INTERVAL`: prefix, then
//! the path in capitals, all joined by `_`. A value is read as TOML (`5`, `true`, `["a", "b"]`) and, where that does
//! not fit, as a plain string; an empty one counts as not set. A variable with the prefix that is no key is an error,
//! but for those in [`Daemon::OTHER_VARIABLES`] and those that Kubernetes and Docker links make of a service's name
//! (`_SERVICE_HOST`, `_PORT`..).

use std::{
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{
    ConfigError, Daemon, Field, Kind, each_key,
    error::{Flaw, nearest},
    set,
};

/// A configuration file is never larger: what is, was named by mistake.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// This process's variables; one that is not UTF-8 is no configuration of ours, and left out.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

/// Defaults under `file` under `env` under `overrides` (keys by flags), checked. Errors take one line.
pub fn load<C: Daemon>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: Table,
) -> Result<C, ConfigError> {
    layered(file, env, overrides).map_err(ConfigError::in_one_line)
}

fn layered<C: Daemon>(
    file: Option<&Path>,
    env: impl IntoIterator<Item = (String, String)>,
    overrides: Table,
) -> Result<C, ConfigError> {
    let file = file.map(Source::read).transpose()?;
    let mut merged = match &file {
        Some(file) => file.table::<C>()?,
        None => Table::new(),
    };
    let variables = from_environment::<C>(env)?;
    for (key, _, value) in &variables {
        set(&mut merged, key, value.clone());
    }
    let flags = from_flags::<C>(&overrides)?;
    for (key, value) in &flags {
        set(&mut merged, key, value.clone());
    }
    let config = C::deserialize(merged).map_err(|e| ConfigError::Whole(told::<C>("", e.message())))?;
    config.check().map_err(|flaw| {
        let problem = format!("{}; {}", flaw.problem, flaw.advice);
        if flags.iter().any(|(key, _)| key == flaw.key) {
            return ConfigError::Flag { flag: flag(flaw.key), problem };
        }
        if let Some((_, name, _)) = variables.iter().find(|(key, _, _)| key == flaw.key) {
            return ConfigError::Variable { name: name.clone(), problem };
        }
        file.as_ref().map_or_else(|| ConfigError::Whole(flaw.to_string()), |file| file.locate(&flaw))
    })?;
    Ok(config)
}

/// The variable that sets `key`.
pub(super) fn variable(prefix: &str, key: &str) -> String {
    format!("{prefix}_{}", key.replace('.', "_").to_ascii_uppercase())
}

fn flag(key: &str) -> String {
    format!("--{}", key.replace(['.', '_'], "-"))
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    fn read(path: &Path) -> Result<Self, ConfigError> {
        let refused = |source| ConfigError::Read { file: path.to_owned(), source };
        let not_text = |problem: String| ConfigError::NotText { file: path.to_owned(), problem };
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(refused)?;
        if bytes.len() as u64 > FILE_BYTES_MAX {
            return Err(not_text(format!("larger than {FILE_BYTES_MAX} bytes; is it a configuration file?")));
        }
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Self { path: path.to_owned(), text }),
            Err(e) => {
                Err(not_text(format!("byte {} is not utf-8; save the file as utf-8", e.utf8_error().valid_up_to())))
            }
        }
    }

    /// The file's keys and values, once they fit `C`.
    fn table<C: Daemon>(&self) -> Result<Table, ConfigError> {
        let syntax = |e: toml::de::Error| self.at(e.span(), e.message().to_owned());
        let table = self.text.parse().map_err(syntax)?;
        let whole = toml::Deserializer::parse(&self.text).map_err(syntax)?;
        serde_path_to_error::deserialize::<_, C>(whole).map_err(|e| {
            let path = e.path().to_string();
            self.at(e.inner().span(), told::<C>(&path, e.inner().message()))
        })?;
        Ok(table)
    }

    /// The flaw at its key's value; without a place if the file does not hold the key.
    fn locate(&self, flaw: &Flaw) -> ConfigError {
        let mut found = None;
        if let Ok(root) = DeTable::parse(&self.text) {
            let mut keys = flaw.key.split('.').peekable();
            let mut table = Some(root.get_ref());
            while let (Some(key), Some(inside)) = (keys.next(), table.take()) {
                match (inside.get(key), keys.peek()) {
                    (Some(value), None) => found = Some(value.span()),
                    (Some(value), Some(_)) => {
                        if let DeValue::Table(next) = value.get_ref() {
                            table = Some(next);
                        }
                    }
                    (None, _) => {}
                }
            }
        }
        match found {
            Some(span) => self.at(Some(span), flaw.to_string()),
            None => ConfigError::Whole(flaw.to_string()),
        }
    }

    fn at(&self, span: Option<Range<usize>>, problem: String) -> ConfigError {
        let start = span.map_or(0, |span| span.start).min(self.text.len());
        let before = self.text.get(..start).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        ConfigError::File { file: self.path.clone(), line, column, problem }
    }
}

/// Key, variable and value of each variable that sets a key.
fn from_environment<C: Daemon>(
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<(String, String, Value)>, ConfigError> {
    let mut known = Vec::new();
    each_key(C::FIELDS, &mut |key| known.push((variable(C::ENV_PREFIX, key), key.to_owned())));
    let mut given = Vec::new();
    for (name, text) in env {
        let Some(rest) = name.strip_prefix(C::ENV_PREFIX).and_then(|rest| rest.strip_prefix('_')) else { continue };
        if text.is_empty() {
            continue;
        }
        let Some((_, key)) = known.iter().find(|(variable, _)| *variable == name) else {
            if rest == "CONFIG" || C::OTHER_VARIABLES.contains(&rest) || is_service_link(rest) {
                continue;
            }
            let near = nearest(rest, known.iter().map(|(variable, _)| &variable[C::ENV_PREFIX.len() + 1..]));
            let near = near.map_or_else(String::new, |near| format!("; did you mean {}_{near}?", C::ENV_PREFIX));
            return Err(ConfigError::Variable { name, problem: format!("sets no known key{near}") });
        };
        match fitting::<C>(key, &text) {
            Ok(value) => given.push((key.clone(), name, value)),
            Err(problem) => return Err(ConfigError::Variable { name, problem }),
        }
    }
    given.sort_by(|a, b| a.1.cmp(&b.1));
    Ok(given)
}

/// What Kubernetes, and Docker's links, set in each container for a service that is called as we are.
fn is_service_link(rest: &str) -> bool {
    let port = rest.strip_prefix("PORT").is_some_and(|rest| {
        rest.is_empty() || rest.strip_prefix('_').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    });
    port || rest == "SERVICE_HOST" || rest.starts_with("SERVICE_PORT")
}

/// `text` as the value that fits `key`: as TOML, else as a plain string.
fn fitting<C: Daemon>(key: &str, text: &str) -> Result<Value, String> {
    let typed = text.parse::<Value>().ok();
    let plain = Value::String(text.to_owned());
    let mut problem = None;
    for value in typed.into_iter().chain([plain]) {
        match alone::<C>(key, &value) {
            Ok(()) => return Ok(value),
            Err(e) => problem = problem.or(Some(e)),
        }
    }
    Err(problem.unwrap_or_default())
}

/// Whether `value` fits `key` when all else is default.
fn alone<C: Daemon>(key: &str, value: &Value) -> Result<(), String> {
    let mut table = Table::new();
    set(&mut table, key, value.clone());
    match serde_path_to_error::deserialize::<_, C>(table) {
        Ok(_) => Ok(()),
        Err(e) => {
            let path = e.path().to_string();
            let message = e.inner().message();
            // The place names the key already, but for a part of it.
            Err(if path == key { advised(message) } else { told::<C>(&path, message) })
        }
    }
}

/// Key and value of each leaf of `overrides`.
fn from_flags<C: Daemon>(overrides: &Table) -> Result<Vec<(String, Value)>, ConfigError> {
    fn leaves(table: &Table, path: &str, found: &mut Vec<(String, Value)>) {
        for (name, value) in table {
            let key = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            match value {
                Value::Table(inner) => leaves(inner, &key, found),
                value => found.push((key, value.clone())),
            }
        }
    }
    let mut found = Vec::new();
    leaves(overrides, "", &mut found);
    for (key, value) in &found {
        alone::<C>(key, value).map_err(|problem| ConfigError::Flag { flag: flag(key), problem })?;
    }
    Ok(found)
}

/// serde's `message` about `path` in our words; for an unknown key, with the nearest known one.
fn told<C: Daemon>(path: &str, message: &str) -> String {
    let Some(rest) = message.strip_prefix("unknown field `") else {
        let message = advised(message);
        return if path.is_empty() || path == "." { message } else { format!("{path}: {message}") };
    };
    // unknown field `x`, expected one of `a`, `b`
    let mut quoted = rest.split('`').step_by(2);
    let name = quoted.next().unwrap_or_default();
    let siblings: Vec<&str> = quoted.filter(|s| !s.is_empty()).collect();
    let table = path.strip_suffix(name).unwrap_or(path);
    if let Some(near) = nearest(name, siblings.iter().copied()) {
        return format!("unknown key `{table}{name}`; did you mean `{table}{near}`?");
    }
    match elsewhere(C::FIELDS, name) {
        Some(key) => format!("unknown key `{table}{name}`; did you mean `{key}`?"),
        None => format!("unknown key `{table}{name}`; known here: {}", siblings.join(", ")),
    }
}

/// What to do, where the type that said it does not know.
fn advised(message: &str) -> String {
    match message {
        "invalid socket address syntax" => {
            format!("{message}; give an IP address and a port, as in \"[::]:7421\" or \"127.0.0.1:0\"")
        }
        message => message.to_owned(),
    }
}

/// A key of any table whose last part is `name`.
fn elsewhere(fields: &'static [Field], name: &str) -> Option<String> {
    let table = fields.iter().find(|f| f.name == name && matches!(f.kind, Kind::Table(_)));
    let mut found = table.map(|f| f.name.to_owned());
    each_key(fields, &mut |key| {
        if found.is_none() && key.rsplit('.').next() == Some(name) {
            found = Some(key.to_owned());
        }
    });
    found
}
