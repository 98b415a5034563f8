//! Liveness and readiness of the process.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// A condition of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// The name in the report, one word.
    pub name: &'static str,
    /// The action while the gate is closed, for the reader of the report.
    pub remedy: &'static str,
}

/// The state that the probes report. Cheap to clone; the clones share it.
///
/// Leadership is no gate: a standby is ready to take over, and a Deployment with a standby that is never ready could not
/// complete its rollout.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_silence: Duration,
    last_heartbeat: Mutex<Instant>,
    gates: Vec<(Gate, AtomicBool)>,
}

impl Health {
    /// How long the main loop may be silent before the process counts as stuck: several times the pause between two
    /// heartbeats and the longest deadline of a request. The kubelet restarts a stuck process.
    pub const MAX_SILENCE: Duration = Duration::from_secs(60);

    /// Starts with a heartbeat and closed `gates`. The process counts as stuck after `max_silence` without a heartbeat.
    pub fn new(max_silence: Duration, gates: &[Gate]) -> Self {
        let gates = gates.iter().map(|gate| (*gate, AtomicBool::new(false))).collect();
        Self(Arc::new(Inner { max_silence, last_heartbeat: Mutex::new(Instant::now()), gates }))
    }

    /// Records that the main loop runs.
    pub fn heartbeat(&self) {
        *self.0.last_heartbeat.lock() = Instant::now();
    }

    /// Opens (`true`) or closes a gate.
    pub fn set(&self, name: &str, open: bool) {
        let Some((_, state)) = self.0.gates.iter().find(|(gate, _)| gate.name == name) else {
            tracing::error!(gate = name, "no readiness gate has this name: this is a bug, please report it");
            return;
        };
        state.store(open, Ordering::Release);
    }

    /// Returns the liveness report; `Err` if the last heartbeat is too old.
    pub fn live(&self) -> Result<String, String> {
        let silent = self.0.last_heartbeat.lock().elapsed();
        if silent <= self.0.max_silence {
            return Ok("ok\n".to_owned());
        }
        Err(format!(
            "the main loop has been silent for {} s (limit {} s)\n",
            silent.as_secs(),
            self.0.max_silence.as_secs()
        ))
    }

    /// Returns the readiness report, a line per gate; `Err` if a gate is closed.
    pub fn ready(&self) -> Result<String, String> {
        let mut report = String::new();
        let mut all_open = true;
        for (gate, state) in &self.0.gates {
            let open = state.load(Ordering::Acquire);
            all_open &= open;
            // Writing to a String cannot fail.
            let _ = if open {
                writeln!(report, "[+] {}: ok", gate.name)
            } else {
                writeln!(report, "[-] {}: not ready: {}", gate.name, gate.remedy)
            };
        }
        report.push_str(if all_open { "ready\n" } else { "not ready\n" });
        if all_open { Ok(report) } else { Err(report) }
    }
}
