//! Is the process alive, and is it ready?

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Something that must be in place before the operator is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gate {
    /// Its name in the report, one word.
    pub name: &'static str,
    /// What to do while it is closed, for the person who reads the report.
    pub remedy: &'static str,
}

/// What the probes report. Cheap to clone; the clones share their state.
///
/// Leadership is no gate: a replica that stands by is ready to take over, and a Deployment whose standby were
/// not ready could never be rolled out.
#[derive(Clone, Debug)]
pub struct Health(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    max_silence: Duration,
    last_beat: Mutex<Instant>,
    gates: Vec<(Gate, AtomicBool)>,
}

impl Health {
    /// How long the main loop may be silent before the process counts as stuck: several times the longest pause
    /// between two beats and the longest deadline of a request, yet short enough that kubelet restarts a stuck
    /// process before anybody has to.
    pub const MAX_SILENCE: Duration = Duration::from_secs(60);

    /// Alive as of now, all `gates` closed; stuck once there was no beat for `max_silence`.
    pub fn new(max_silence: Duration, gates: &[Gate]) -> Self {
        let gates = gates.iter().map(|gate| (*gate, AtomicBool::new(false))).collect();
        Self(Arc::new(Inner { max_silence, last_beat: Mutex::new(Instant::now()), gates }))
    }

    /// The main loop goes round.
    pub fn beat(&self) {
        *self.0.last_beat.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Opens (`true`) or closes a gate.
    pub fn set(&self, name: &str, open: bool) {
        let Some((_, state)) = self.0.gates.iter().find(|(gate, _)| gate.name == name) else {
            tracing::error!(gate = name, "a readiness gate of this name was never declared: this is a bug");
            return;
        };
        state.store(open, Ordering::Release);
    }

    /// The liveness report; `Err` if the main loop has been silent for too long.
    pub fn live(&self) -> Result<String, String> {
        let silent = self.0.last_beat.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if silent <= self.0.max_silence {
            return Ok("ok\n".to_owned());
        }
        Err(format!(
            "the main loop has not gone round for {} s (at most {} s are normal)\n",
            silent.as_secs(),
            self.0.max_silence.as_secs()
        ))
    }

    /// The readiness report, a line per gate; `Err` if one is closed.
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
