//! The commented file that `--print-config` shows: valid, complete, and the same configuration when read again.

use super::{ConfigError, Daemon, Field, Kind};
use toml::{Table, Value};

/// `config` as a commented file. A setting that has no value stands as an example behind a `#` without a space, prose
/// behind one with; so the file can be cut to taste.
///
/// Fails on a value that TOML cannot hold (an integer over `i64::MAX`, a path that is not UTF-8).
pub fn print<C: Daemon>(config: &C) -> Result<String, ConfigError> {
    let whole = |e: toml::ser::Error| ConfigError::Whole(format!("cannot be written as toml: {e}"));
    let values = Table::try_from(config).map_err(whole)?;
    let examples = Table::try_from(C::example()).map_err(whole)?;
    let mut text = String::new();
    comment(&mut text, C::DOC);
    text.push_str(&format!(
        "#\n# Each key can also be set in the environment: ping.interval would be {}_PING_INTERVAL. Flags beat the\n\
         # environment, which beats this file.\n",
        C::ENV_PREFIX
    ));
    table(&mut text, "", C::FIELDS, &values, &examples);
    Ok(text)
}

/// For a test of each binary: the default, printed, reads as the default, and with the examples taken in as
/// [`Config::example`](super::Config::example). Also no two keys share a variable. Returns the printed text.
pub fn round_trip<C: Daemon>() -> Result<String, String> {
    let text = print(&C::default()).map_err(|e| e.to_string())?;
    let read = |text: &str| toml::from_str::<C>(text).map_err(|e| format!("{e}\n{text}"));
    if read(&text)? != C::default() {
        return Err(format!("the printed default does not read as the default:\n{text}"));
    }
    let full: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    if read(&full)? != C::example() {
        return Err(format!("the printed examples do not read as the examples:\n{full}"));
    }
    let mut variables = Vec::new();
    super::each_key(C::FIELDS, &mut |key| variables.push(super::load::variable(C::ENV_PREFIX, key)));
    variables.sort();
    match variables.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(format!("two keys share the variable {}", pair[0])),
        None => Ok(text),
    }
}

fn table(text: &mut String, path: &str, fields: &[Field], values: &Table, examples: &Table) {
    let empty = Table::new();
    for field in fields.iter().filter(|f| matches!(f.kind, Kind::Value | Kind::Optional)) {
        text.push('\n');
        comment(text, field.doc);
        match (values.get(field.name), examples.get(field.name)) {
            (Some(value), _) => setting(text, "", field.name, value),
            (None, Some(example)) => setting(text, "#", field.name, example),
            (None, None) => {}
        }
    }
    for field in fields {
        let inner = |table: &Table| table.get(field.name).and_then(Value::as_table).cloned().unwrap_or_default();
        let name = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        match field.kind {
            Kind::Value | Kind::Optional => {}
            Kind::Table(fields) => {
                text.push('\n');
                comment(text, field.doc);
                text.push_str(&format!("[{name}]\n"));
                table(text, &name, fields, &inner(values), &inner(examples));
            }
            Kind::List => {
                text.push('\n');
                comment(text, field.doc);
                let given = values.get(field.name).and_then(Value::as_array).filter(|list| !list.is_empty());
                let (mark, list) = match given {
                    Some(list) => ("", list.as_slice()),
                    None => ("#", examples.get(field.name).and_then(Value::as_array).map_or(&[][..], Vec::as_slice)),
                };
                for entry in list {
                    text.push_str(&format!("{mark}[[{name}]]\n"));
                    for (key, value) in entry.as_table().unwrap_or(&empty) {
                        setting(text, mark, key, value);
                    }
                }
            }
        }
    }
}

fn setting(text: &mut String, mark: &str, key: &str, value: &Value) {
    text.push_str(&format!("{mark}{key} = {value}\n"));
}

fn comment(text: &mut String, doc: &[&str]) {
    for line in doc {
        text.push_str(format!("# {}", line.trim()).trim_end());
        text.push('\n');
    }
}
