//! An operator whose requests go through its own proxy.

use std::time::{Duration, Instant};

use super::limits::{NAME, POLL_INTERVAL};
use super::operator_command::OperatorCommand;
use crate::Operator;
use crate::pace;
use crate::proxy::{Fault, Halt, Plan, Proxy};

/// An operator may write until so long after the start of its last successful lease renewal.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);

/// Time that a request may take from the operator to the proxy on a busy machine.
const TRANSIT: Duration = Duration::from_millis(500);

/// An operator behind its own proxy.
#[derive(Debug)]
pub struct ProxiedOperator {
    /// The proxy between the operator and the API server.
    pub proxy: Proxy,
    /// The process.
    pub process: Operator,
    command: OperatorCommand,
}

impl ProxiedOperator {
    pub(super) fn start(proxy: Proxy, command: OperatorCommand) -> Self {
        Self { process: command.start(), proxy, command }
    }

    /// Kills the process and starts a new one, as the kubelet restarts a container.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = self.command.start();
    }

    /// Returns the output of all its processes.
    pub fn log(&self) -> String {
        self.command.log_text()
    }

    /// Performs `action`, and returns the `number`-th write after this call, which the proxy holds. None if `over`
    /// completes before that write.
    pub async fn held(
        &mut self,
        number: usize,
        fault: Fault,
        action: impl Future<Output = ()>,
        over: impl Future<Output = bool>,
    ) -> Option<Halt> {
        self.proxy.plan(Plan::on_write(self.proxy.writes().len() + number, fault));
        action.await;
        tokio::select! {
            held = self.proxy.halt() => Some(held),
            _ = over => None,
        }
    }

    /// Returns a message if the operator panicked.
    pub fn panic(&self) -> Option<String> {
        self.log().contains("panicked").then(|| "the operator panicked".to_owned())
    }

    /// Returns the invariants that its requests and its log violate. Its resources must be named [`NAME`].
    pub fn violations(&self) -> Vec<String> {
        self.proxy.violations(NAME).into_iter().chain(self.panic()).collect()
    }

    /// Like [`ProxiedOperator::violations`], and checks the process: it must have ended if `ended`, and run if not.
    pub fn trouble(&mut self, ended: bool) -> Vec<String> {
        let mut found = self.violations();
        if self.process.is_running() == ended {
            let text = if ended { "the operator did not end" } else { "the operator ended by itself" };
            found.push(text.to_owned());
        }
        found
    }

    /// Returns the violations of I39: writes that the operator started after the renew deadline of its lease.
    pub fn late_writes(&self) -> Vec<String> {
        let renewals = self.proxy.renewals();
        let writes = self.proxy.writes().into_iter();
        let late = writes.filter_map(|write| {
            let renewed = renewals.iter().rev().find(|renewed| **renewed <= write.at);
            let since = renewed.map(|renewed| write.at - *renewed);
            let transit = renewed.map(|renewed| TRANSIT + pace::lateness(*renewed)).unwrap_or_default();
            let in_time = since.is_some_and(|since| since < RENEW_DEADLINE + transit);
            (!in_time).then(|| format!("I39: {write} came {since:?} after the last renewal"))
        });
        late.collect()
    }

    /// Waits until the process has ended by itself. Returns false at the end of the time limit.
    pub async fn ends_by_itself(&mut self, limit: Duration) -> bool {
        let start = Instant::now();
        while self.process.is_running() {
            if pace::elapsed(start) > limit {
                return false;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        true
    }
}
