//! What must hold for whatever bytes a stranger, an operator or a bad disk hands in. Each check panics where it does not;
//! cargo-fuzz looks for such bytes, and `server/tests/fuzz.rs` runs the ones that are known over the same functions.

pub mod config;
pub mod frame;
pub mod join;
pub mod token;

/// One check of bytes.
pub type Check = fn(&[u8]);

/// All of them, by the names of their folders in `corpus`.
pub const TARGETS: [(&str, Check); 5] = [
    ("frame", frame::check),
    ("join", join::check),
    ("token", token::check),
    ("agent_config", config::check::<pams_agent::config::Config>),
    ("server_config", config::check::<pams_server::config::Config>),
];
