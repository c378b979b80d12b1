//! Where an agent keeps its things, depending on who runs it.

use std::path::{Path, PathBuf};

/// Where a client looks for the control socket: at the default, or, where there is none, at that of an agent of the
/// system's.
pub fn client_socket() -> PathBuf {
    let own = default_socket(&default_data_dir());
    let system = Path::new(SYSTEM_SOCKET);
    if !own.exists() && system.exists() { system.to_owned() } else { own }
}

const SYSTEM_SOCKET: &str = "/run/pams/agent.sock";
const SYSTEM_DATA_DIR: &str = "/var/lib/pams-agent";

pub(super) fn default_data_dir() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return SYSTEM_DATA_DIR.into();
    }
    let state = directory("XDG_STATE_HOME").or_else(|| Some(std::env::home_dir()?.join(".local/state")));
    state.map_or_else(|| SYSTEM_DATA_DIR.into(), |state| state.join("pams-agent"))
}

pub(super) fn default_socket(data_dir: &Path) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return SYSTEM_SOCKET.into();
    }
    directory("XDG_RUNTIME_DIR").map_or_else(|| data_dir.join("agent.sock"), |run| run.join("pams/agent.sock"))
}

/// A directory of the XDG base directory specification, which says that a relative one is to be ignored.
fn directory(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}
