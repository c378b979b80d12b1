//! What the operating system says of this process. Elsewhere than on Linux the memory is not told, rather than guessed.

use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};

use crate::{
    catalogue::Metric,
    expo::{Expo, Number},
};

/// The families in which a program shows itself; each binary has its own, under its prefix.
#[derive(Clone, Copy, Debug)]
pub struct Families {
    /// With the version as its label.
    pub build: &'static Metric,
    pub start: &'static Metric,
    pub cpu: &'static Metric,
    pub resident: &'static Metric,
}

/// Writes them for a scrape. `started_ms`: wall clock at the start, ms since 1970.
pub fn write(expo: &mut Expo, families: Families, version: &str, started_ms: u64) {
    expo.family(families.build).sample(&[version], 1_u64);
    expo.family(families.start).sample(&[], Duration::from_millis(started_ms));
    known(expo, families.cpu, cpu());
    known(expo, families.resident, resident_bytes());
}

/// A family without a series is one that nobody knows.
fn known(expo: &mut Expo, family: &'static Metric, value: Option<impl Number>) {
    let mut family = expo.family(family);
    if let Some(value) = value {
        family.sample(&[], value);
    }
}

/// CPU time so far, user and system.
pub fn cpu() -> Option<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF).ok()?;
    let micros = |t: nix::sys::time::TimeVal| t.tv_sec() * 1_000_000 + t.tv_usec();
    u64::try_from(micros(usage.user_time()) + micros(usage.system_time())).ok().map(Duration::from_micros)
}

/// Bytes in RAM.
pub fn resident_bytes() -> Option<u64> {
    resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

/// From the line `VmRSS:     1234 kB`.
fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kib.checked_mul(1_024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_read_or_not_told() {
        assert_eq!(resident("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1_263_616));
        for text in ["", "VmRSS: x kB", "VmRSS: 1 MB", "VmRSS: 18446744073709551615 kB"] {
            assert_eq!(resident(text), None, "{text}");
        }
        assert!(cpu().is_some());
    }
}
