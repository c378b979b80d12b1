//! The arguments that both daemons have, for clap's `#[command(flatten)]`.

use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::{ConfigError, Daemon, environment, exit, load};

/// Flags of both daemons. Those that name a key are checked as the key is, so a bad value is told in the same words.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct CommonArgs {
    /// Configuration file (TOML) [default: the one that the environment names, if any]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print the configuration in force as a commented file, and end
    #[arg(long)]
    pub print_config: bool,

    /// Print the metrics that this program shows, and end
    #[arg(long)]
    pub list_metrics: bool,

    /// Directory of keys, certificates and counters
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,

    /// Address and port for QUIC (UDP); port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,

    /// Address and port for HTTP; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    pub http: Option<String>,

    /// What to log: error, warn, info, debug or trace, also by module, as in "info,quinn=warn"
    #[arg(long, value_name = "FILTER")]
    pub log: Option<String>,

    /// Form of the log: text or json
    #[arg(long, value_name = "FORM")]
    pub log_format: Option<String>,

    /// Print one line of JSON with the bound addresses on stdout once everything serves
    #[arg(long)]
    pub ready_json: bool,
}

impl CommonArgs {
    /// These flags, and those of `under` that are not among them.
    pub fn over(self, under: Self) -> Self {
        Self {
            config: self.config.or(under.config),
            print_config: self.print_config || under.print_config,
            list_metrics: self.list_metrics || under.list_metrics,
            data_dir: self.data_dir.or(under.data_dir),
            listen: self.listen.or(under.listen),
            http: self.http.or(under.http),
            log: self.log.or(under.log),
            log_format: self.log_format.or(under.log_format),
            ready_json: self.ready_json || under.ready_json,
        }
    }

    /// Something is to be printed that only a daemon prints.
    pub fn asks_of_daemon(&self) -> bool {
        self.print_config || self.list_metrics || self.ready_json
    }

    /// The keys that were given as flags; a binary adds its own with [`set`].
    pub fn overrides(&self) -> Table {
        let mut table = Table::new();
        let keys = [
            ("data_dir", &self.data_dir),
            ("listen", &self.listen),
            ("http", &self.http),
            ("log", &self.log),
            ("log_format", &self.log_format),
        ];
        for (key, value) in keys {
            if let Some(value) = value {
                set(&mut table, key, value.as_str());
            }
        }
        table
    }

    /// [`load`] from this process's environment and from the file that `--config` or the environment names, if any.
    pub fn load<C: Daemon>(&self, overrides: Table) -> Result<C, ConfigError> {
        let named = format!("{}_CONFIG", C::ENV_PREFIX);
        let from_environment = std::env::var_os(named).filter(|path| !path.is_empty()).map(PathBuf::from);
        let file = self.config.as_deref().or(from_environment.as_deref());
        load(file.map(Path::new), environment(), overrides)
    }
}

/// Sets the key at a dotted path, making its table.
pub fn set(table: &mut Table, key: &str, value: impl Into<Value>) {
    match key.split_once('.') {
        None => drop(table.insert(key.to_owned(), value.into())),
        Some((outer, inner)) => {
            let entry = table.entry(outer.to_owned()).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            if let Value::Table(entry) = entry {
                set(entry, inner, value);
            }
        }
    }
}

/// As clap's own `parse`, but bad usage ends with [`exit::USAGE`], not 2. For `main` only: it ends the process.
pub fn parse_args<A: clap::Parser>() -> A {
    A::try_parse().unwrap_or_else(|error| {
        // A closed stdout or stderr leaves nobody to tell.
        let _ = error.print();
        std::process::exit(if error.use_stderr() { exit::USAGE.into() } else { 0 })
    })
}
