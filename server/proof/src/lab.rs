//! Hosts: network namespaces of this run, each with a device of the [`Wire`] and an address, and the way to start programs in
//! them. All of it is gone when the lab is dropped, on a panic too; what a run that was killed left behind is cleared away
//! by the next one.
//!
//! A host's name is also its folder in the lab's directory. Unix sockets are files, so a daemon's control socket can be asked
//! from outside its namespace.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
};

use anyhow::{Context, bail};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;
use tokio::process::Command;

use crate::wire::{HOSTS_MAX, Port, Wire, address};

/// Names of namespaces are PREFIX-PID-LAB-HOST.
const PREFIX: &str = "pams-proof";
/// Of the chances of the first lab; each further one of a run has the next.
const SEED: u8 = 7;

/// Labs that this process has made.
static LABS: AtomicU32 = AtomicU32::new(0);

pub struct Lab {
    pub dir: TempDir,
    pub wire: Wire,
    /// What plays all the roles: `pams-proof`.
    program: PathBuf,
    hosts: Vec<Host>,
    /// File systems of hosts that have their own.
    disks: Mutex<Vec<PathBuf>>,
}

struct Host {
    name: &'static str,
    namespace: String,
    device: String,
    /// Last octet of its present address.
    last: AtomicU8,
}

/// Whether this can work here at all; what is missing otherwise.
pub fn check() -> anyhow::Result<()> {
    if !geteuid().is_root() {
        bail!("network namespaces and TUN devices need root: run this as root, for instance with sudo");
    }
    for (tool, package) in [("ip", "iproute2"), ("ping", "iputils-ping")] {
        match std::process::Command::new(tool).arg("-V").output() {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                bail!("there is no `{tool}` on the PATH: install it, with `apt-get install {package}` on Debian")
            }
            Err(e) => return Err(e).with_context(|| format!("{tool} cannot be started")),
        }
    }
    if !Path::new("/dev/net/tun").exists() {
        bail!("there is no /dev/net/tun: load the kernel module `tun`, or give the container that device");
    }
    Ok(())
}

/// Deletes the namespaces of runs whose process is no more, and ends what still runs in them. To be called once, before the
/// first lab.
pub fn clear_away() -> anyhow::Result<()> {
    for line in ip(&["netns", "list"])?.lines() {
        let Some(namespace) = line.split_whitespace().next() else { continue };
        let owner = namespace.strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('-')?.split('-').next());
        let Some(owner) = owner.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        if !is_alive(owner) {
            delete(namespace);
        }
    }
    Ok(())
}

/// Whether there is such a process. One that has ended and that nobody has waited for is none.
fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

impl Lab {
    /// Hosts of these names, joined by perfect paths. `program` is `pams-proof`.
    pub fn new(program: &Path, names: &[&'static str]) -> anyhow::Result<Self> {
        check()?;
        assert!(names.len() <= HOSTS_MAX, "a lab has {HOSTS_MAX} hosts at most");
        let (pid, number) = (std::process::id(), LABS.fetch_add(1, Relaxed));
        let hosts: Vec<Host> = (0..)
            .zip(names)
            .map(|(i, name)| Host {
                name,
                namespace: format!("{PREFIX}-{pid}-{number}-{name}"),
                device: format!("pp{pid}-{}-{i}", number % 100),
                last: AtomicU8::new(1),
            })
            .collect();
        let devices: Vec<String> = hosts.iter().map(|h| h.device.clone()).collect();
        let wire = Wire::join(&devices, [SEED.wrapping_add(number as u8); 32])
            .context("no TUN device could be made: is the kernel module `tun` there?")?;
        // From here on dropping it takes away whatever is there.
        let lab = Self { dir: tempfile::tempdir()?, wire, program: program.to_owned(), hosts, disks: Mutex::default() };
        for host in &lab.hosts {
            ip(&["netns", "add", &host.namespace])?;
            ip(&["link", "set", &host.device, "netns", &host.namespace])?;
            ip(&["-n", &host.namespace, "link", "set", "lo", "up"])?;
            ip(&["-n", &host.namespace, "link", "set", &host.device, "mtu", "1500", "up"])?;
            lab.with_address("add", host.name)?;
        }
        Ok(lab)
    }

    fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|h| h.name == name).unwrap_or_else(|| panic!("the lab has no host {name}"))
    }

    pub fn port(&self, host: &str) -> Port {
        let at = self.hosts.iter().position(|h| h.name == host);
        at.unwrap_or_else(|| panic!("the lab has no host {host}")) as Port
    }

    /// The present address of a host.
    pub fn address(&self, host: &str) -> Ipv4Addr {
        address(self.port(host), self.host(host).last.load(Relaxed))
    }

    /// A socket address of a host.
    pub fn at(&self, host: &str, port: u16) -> SocketAddr {
        (self.address(host), port).into()
    }

    pub fn namespace(&self, host: &str) -> &str {
        &self.host(host).namespace
    }

    /// Takes the host's address away and gives it another one, as another network would.
    pub fn readdress(&self, host: &str) -> anyhow::Result<()> {
        self.with_address("del", host)?;
        self.host(host).last.fetch_add(1, Relaxed);
        self.with_address("add", host)
    }

    fn with_address(&self, verb: &str, name: &str) -> anyhow::Result<()> {
        let (host, address) = (self.host(name), format!("{}/16", self.address(name)));
        ip(&["-n", &host.namespace, "addr", verb, &address, "dev", &host.device])?;
        Ok(())
    }

    /// A program on a host, killed when dropped.
    pub fn command(&self, host: &str, program: &Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(host).namespace]).arg(program);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// `pams-proof` on a host.
    pub fn role(&self, host: &str) -> Command {
        self.command(host, &self.program)
    }

    /// Where a host's things are.
    pub fn folder(&self, host: &str) -> PathBuf {
        self.dir.path().join(host)
    }

    /// Gives a host's folder a file system of its own, so small that it can be filled.
    pub fn small_disk(&self, host: &str, kib: u32) -> anyhow::Result<()> {
        let folder = self.folder(host);
        std::fs::create_dir_all(&folder)?;
        let size = format!("size={kib}k,mode=0700");
        mount(Some("tmpfs"), &folder, Some("tmpfs"), MsFlags::empty(), Some(size.as_str()))
            .with_context(|| format!("no tmpfs can be mounted on {}", folder.display()))?;
        self.disks.lock().unwrap_or_else(PoisonError::into_inner).push(folder);
        Ok(())
    }

    /// Where what is said on a host's stderr goes.
    pub fn log_path(&self, host: &str) -> PathBuf {
        self.dir.path().join(format!("{host}.log"))
    }

    /// The ends of all logs, to find out what went wrong.
    pub fn logs(&self, lines: usize) -> String {
        let mut text = String::new();
        for host in &self.hosts {
            let log = std::fs::read_to_string(self.log_path(host.name)).unwrap_or_default();
            let all: Vec<&str> = log.lines().collect();
            for line in &all[all.len().saturating_sub(lines)..] {
                text += &format!("{}: {line}\n", host.name);
            }
        }
        text
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for host in &self.hosts {
            delete(&host.namespace);
        }
        for disk in self.disks.get_mut().unwrap_or_else(PoisonError::into_inner) {
            // Whoever was killed may not be gone yet.
            let _ = umount2(disk.as_path(), MntFlags::MNT_DETACH);
        }
    }
}

/// Kills all that runs in a namespace, and takes its name away; the kernel does the rest.
fn delete(namespace: &str) {
    let pids = ip(&["netns", "pids", namespace]).unwrap_or_default();
    for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = ip(&["netns", "del", namespace]);
}

/// What iproute2 prints.
fn ip(words: &[&str]) -> anyhow::Result<String> {
    let output = std::process::Command::new("ip").args(words).output().context("iproute2 cannot be started")?;
    if !output.status.success() {
        bail!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
