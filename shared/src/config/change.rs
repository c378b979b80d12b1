//! What a configuration that was read again changes: which keys take effect now, and which wait for the next start.

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use super::{ConfigError, Daemon, each_key, set};

/// Longest value that is shown; of a longer list the number of its entries is.
const SHOWN_BYTES_MAX: usize = 80;

/// One key whose value is another one now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Change {
    /// Dotted path.
    pub key: String,
    /// As TOML; absent: it had none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
}

/// What came of reading the configuration again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Changes {
    /// In force.
    pub changed: Vec<Change>,
    /// Kept as they were: these keys are read at the start only.
    pub restart: Vec<Change>,
}

/// `wanted` as far as it can take effect while `running` runs (keys in [`Daemon::FIXED`] keep their values), and what that
/// changes. Errors on a value that TOML cannot hold, as [`print`](super::print()) does.
pub fn reconcile<C: Daemon>(running: &C, wanted: &C) -> Result<(C, Changes), ConfigError> {
    let whole = |e: &dyn std::fmt::Display| ConfigError::Whole(e.to_string());
    let old = Table::try_from(running).map_err(|e| whole(&e))?;
    let mut new = Table::try_from(wanted).map_err(|e| whole(&e))?;
    let mut changes = Changes::default();
    let mut keep = Vec::new();
    each_key(C::FIELDS, &mut |key| {
        let (from, to) = (at(&old, key), at(&new, key));
        if from == to {
            return;
        }
        let change = Change { key: key.to_owned(), from: from.map(shown), to: to.map(shown) };
        if C::FIXED.contains(&key) {
            keep.push((key.to_owned(), from.cloned()));
            changes.restart.push(change);
        } else {
            changes.changed.push(change);
        }
    });
    for (key, value) in keep {
        match value {
            Some(value) => set(&mut new, &key, value),
            None => remove(&mut new, &key),
        }
    }
    Ok((C::deserialize(new).map_err(|e| whole(&e.message()))?, changes))
}

impl Changes {
    /// Nothing is different, or nothing but what waits for a restart.
    pub fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.restart.is_empty()
    }

    /// The keys in force since now, and those that wait for a restart; each joined by commas.
    pub fn keys(&self) -> (String, String) {
        let joined = |list: &[Change]| list.iter().map(|c| c.key.as_str()).collect::<Vec<_>>().join(", ");
        (joined(&self.changed), joined(&self.restart))
    }
}

fn at<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let mut parts = key.split('.');
    let first = table.get(parts.next()?)?;
    parts.try_fold(first, |value, part| value.get(part))
}

fn remove(table: &mut Table, key: &str) {
    match key.split_once('.') {
        None => drop(table.remove(key)),
        Some((outer, inner)) => {
            if let Some(Value::Table(table)) = table.get_mut(outer) {
                remove(table, inner);
            }
        }
    }
}

fn shown(value: &Value) -> String {
    let text = value.to_string();
    match value {
        Value::Array(list) if text.len() > SHOWN_BYTES_MAX || list.iter().any(Value::is_table) => {
            format!("{} entries", list.len())
        }
        _ => text,
    }
}
