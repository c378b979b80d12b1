//! A configuration file and variables of the environment, behind NUL bytes, as an operator or a script may write them: a
//! mistake is told in one line with its place, and what is taken reads the same from its own print.

use std::{cell::RefCell, fs, io::Write, path::Path};

use pams_shared::config::{ConfigError, Daemon, load, print};
use tempfile::NamedTempFile;

thread_local! {
    static FILE: RefCell<NamedTempFile> = RefCell::new(NamedTempFile::new().expect("a temporary file"));
}

pub fn check<C: Daemon>(bytes: &[u8]) {
    let mut parts = bytes.split(|b| *b == 0);
    let text = parts.next().unwrap_or_default();
    let variables: Vec<(String, String)> = parts
        .filter_map(|part| std::str::from_utf8(part).ok()?.split_once('='))
        .map(|(key, value)| (format!("{}_{key}", C::ENV_PREFIX), value.to_owned()))
        .collect();
    FILE.with_borrow_mut(|file| {
        write(file, text);
        match load::<C>(Some(file.path()), variables, Default::default()) {
            Ok(config) => {
                // TOML has no integers beyond i64.
                let Ok(printed) = print(&config) else { return };
                write(file, printed.as_bytes());
                let again = load::<C>(Some(file.path()), [], Default::default());
                assert_eq!(again.as_ref().map_err(ToString::to_string), Ok(&config), "{printed}");
            }
            Err(error) => told(&error, file.path(), text),
        }
    });
}

fn told(error: &ConfigError, path: &Path, text: &[u8]) {
    let message = error.to_string();
    assert!(!message.contains(pams_shared::frame::wire::steers), "{message:?}");
    match error {
        ConfigError::File { file, line, column, .. } => {
            assert_eq!(file, path);
            let text = std::str::from_utf8(text).expect("what is no text has no lines");
            let there = text.split('\n').nth(line - 1).unwrap_or_else(|| panic!("{message}"));
            assert!((1..=there.chars().count() + 1).contains(column), "{message}");
        }
        ConfigError::NotText { file, .. } => assert_eq!(file, path),
        ConfigError::Variable { name, .. } => assert!(!name.is_empty()),
        ConfigError::Whole(problem) => assert!(!problem.is_empty()),
        ConfigError::Read { .. } | ConfigError::Flag { .. } => panic!("nobody gave that: {message}"),
        _ => {}
    }
}

fn write(file: &mut NamedTempFile, bytes: &[u8]) {
    fs::write(file.path(), bytes).and_then(|()| file.flush()).expect("the temporary file is writable");
}
