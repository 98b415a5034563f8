//! Memory, CPU time and file descriptors of the process, read from `/proc/self` at each scrape.

use std::fs;

use parking_lot::Mutex;
use prometheus::{Counter, Gauge};

use super::Register;

/// Clock ticks per second in `/proc/self/stat`: 100 in Linux' user interface on every architecture that matters.
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) struct Process {
    resident: Gauge,
    cpu: Mutex<Counter>,
    started: Gauge,
    files: Gauge,
}

impl Process {
    pub(super) fn new(register: &Register) -> Result<Self, prometheus::Error> {
        Ok(Self {
            resident: register.gauge("process_resident_memory_bytes")?,
            cpu: Mutex::new(register.counter("process_cpu_seconds_total")?),
            started: register.gauge("process_start_time_seconds")?,
            files: register.gauge("process_open_fds")?,
        })
    }

    /// Reads the values. A value that cannot be read, such as from a hardened `/proc`, stays as it was.
    pub(super) fn refresh(&self) {
        if let Some(bytes) = read("/proc/self/status").as_deref().and_then(resident_bytes) {
            self.resident.set(bytes);
        }
        if let Some(stat) = read("/proc/self/stat").as_deref().and_then(Stat::parse) {
            // The lock prevents two parallel scrapes from adding the same difference twice.
            let cpu = self.cpu.lock();
            cpu.inc_by((stat.cpu_seconds - cpu.get()).max(0.0));
            if let Some(boot) = read("/proc/stat").as_deref().and_then(boot_time) {
                self.started.set(boot + stat.started_after_boot);
            }
        }
        if let Ok(entries) = fs::read_dir("/proc/self/fd") {
            // The listing itself holds one descriptor open.
            let open = u32::try_from(entries.count().saturating_sub(1)).unwrap_or(u32::MAX);
            self.files.set(f64::from(open));
        }
    }
}

fn read(path: &str) -> Option<String> {
    fs::read_to_string(path).ok()
}

/// Returns `VmRSS` of `/proc/self/status`, in bytes.
fn resident_bytes(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

/// Returns the boot time of the machine, in seconds since 1970.
fn boot_time(stat: &str) -> Option<f64> {
    stat.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()
}

/// The used fields of `/proc/self/stat`.
#[derive(Debug, PartialEq)]
struct Stat {
    cpu_seconds: f64,
    started_after_boot: f64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in parentheses and may contain spaces, so fields count from its end.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<f64>().ok();
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            started_after_boot: ticks(22)? / TICKS_PER_SECOND,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read() {
        assert_eq!(resident_bytes("VmPeak:\t 9 kB\nVmRSS:\t    1234 kB\n"), Some(1_263_616.0));
        assert_eq!(resident_bytes("VmRSS: much"), None);
        assert_eq!(boot_time("cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_000.0));
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 4200 1 1";
        assert_eq!(Stat::parse(stat), Some(Stat { cpu_seconds: 2.0, started_after_boot: 42.0 }));
        assert_eq!(Stat::parse("7 (x) S 1"), None);
        assert_eq!(Stat::parse(""), None);
    }
}
