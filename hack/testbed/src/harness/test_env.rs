//! A namespace with one operator, and a timeline of it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Namespace};
use kube::Client;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use serde_json::Value;

use super::limits::{TIME_LIMIT, USER_AGENT};
use super::operator_command::OperatorCommand;
use super::setup::create_namespace;
use super::shipped_rights;
use super::watched_resource::{last_status, reaches, violations};
use crate::audit::AuditLog;
use crate::invariants::{self, Call, Violation, Waived};
use crate::pace::{self, Place};
use crate::{Cluster, Entry, History, Kind, Operator, State, Subject, Timeline};

/// Numbers the namespaces of this process.
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A namespace with one operator, which talks to the API server directly, and a timeline.
///
/// [`TestEnv::finish`] checks all invariants of everything that happened.
pub struct TestEnv {
    /// The client of the administrator.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Everything that happened in the namespace.
    pub timeline: Timeline,
    /// External changes that the test makes, and that the invariants therefore ignore.
    pub waived: Waived,
    /// The test interrupts the watches of the timeline, so its gaps are no failure.
    pub gaps: bool,
    operator: Option<Operator>,
    command: OperatorCommand,
    /// The audit log of the cluster. None for an existing cluster.
    audit: Option<PathBuf>,
    used_rights: PathBuf,
    _place: Place<'static>,
}

impl TestEnv {
    /// Creates a namespace. `command` lacks the namespace yet; its log is a directory.
    pub(super) async fn new(
        cluster: &Cluster,
        label: &str,
        command: OperatorCommand,
        used_rights: PathBuf,
        place: Place<'static>,
    ) -> Self {
        let client = cluster.client().unwrap();
        // The process id distinguishes runs on one existing cluster.
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = format!("{label}-{}-{number}", std::process::id());
        create_namespace(&client, &namespace).await;
        let mut command = command;
        command.set_flag(&format!("--watch-namespace={namespace}"));
        command.set_flag(&format!("--leader-elect-namespace={namespace}"));
        command.log = command.log.join(format!("{namespace}.log"));
        Self {
            timeline: Timeline::start(client.clone(), Some(&namespace)).await.unwrap(),
            waived: Waived::default(),
            gaps: false,
            operator: None,
            command,
            audit: cluster.audit_log().map(Path::to_owned),
            used_rights,
            _place: place,
            client,
            namespace,
        }
    }

    /// Sets a flag for the next start of the operator, as `--flag=value`.
    pub fn set_flag(&mut self, flag: &str) {
        self.command.set_flag(flag);
    }

    /// Lets the operator act as another user from its next start on.
    pub fn act_as(&mut self, kubeconfig: &Path) {
        kubeconfig.clone_into(&mut self.command.kubeconfig);
    }

    /// Returns the command of the operator.
    pub fn command(&self) -> &OperatorCommand {
        &self.command
    }

    /// Starts the operator.
    pub fn start(&mut self) {
        self.operator = Some(self.second());
    }

    /// Starts one more operator with the same flags. It ends when the handle is dropped.
    pub fn second(&self) -> Operator {
        self.command.start()
    }

    /// Returns the process of the operator.
    pub fn operator(&mut self) -> &mut Operator {
        self.operator.as_mut().unwrap()
    }

    /// Returns the output of the operator.
    pub fn log(&self) -> String {
        self.command.log_text()
    }

    /// Kills the operator by SIGKILL, and deletes its lease so that the next operator need not wait for the expiry.
    pub async fn kill(&mut self) {
        self.operator().kill();
        self.operator = None;
        let leases: Api<Lease> = self.api();
        leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await.unwrap();
    }

    /// Kills the operator and starts a new one.
    pub async fn restart(&mut self) {
        self.kill().await;
        self.start();
    }

    /// Returns the API of a kind in this namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Returns the untyped API of a watched kind.
    pub fn objects(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// Creates an object from JSON.
    pub async fn create(&self, kind: Kind, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        self.objects(kind).create(&PostParams::default(), &object).await.unwrap();
    }

    /// Applies a merge patch to an object.
    pub async fn patch(&self, kind: Kind, name: &str, patch: &Value) {
        self.objects(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Deletes an object as `kubectl delete` does.
    pub async fn delete(&self, kind: Kind, name: &str) {
        self.objects(kind).delete(name, &DeleteParams::background()).await.unwrap();
    }

    /// Returns a handle to a resource in this namespace.
    pub fn subject(&self, name: &str) -> Subject {
        Subject::new(&self.client, &self.namespace, name)
    }

    /// Creates a resource and waits until it is Stable. Returns the version of its active release.
    pub async fn deploy(&self, name: &str, spec: &Value) -> (Subject, String) {
        let subject = self.subject(name);
        subject.create(spec).await.unwrap();
        let entry = self.stable(&subject).await;
        let version = State(&entry).active().to_owned();
        (subject, version)
    }

    /// Waits until `check` returns a value for everything that happened.
    pub async fn wait<T>(&self, what: &str, check: impl FnMut(&History) -> Option<T>) -> T {
        self.timeline.wait_until(&format!("{}: {what}", self.namespace), TIME_LIMIT, check).await.unwrap()
    }

    /// Waits until `check` holds for a resource, and returns that version of it.
    pub async fn until(
        &self,
        subject: &Subject,
        what: &str,
        check: impl Fn(State<'_>) -> bool,
    ) -> Arc<Entry> {
        let what = format!("{}: {what}", self.namespace);
        let answer = reaches(&self.timeline, subject, &what, TIME_LIMIT, check).await;
        answer.unwrap_or_else(|error| panic!("{error}\n{}", last_status(&self.timeline, subject)))
    }

    /// Waits until a resource is in a step.
    pub async fn step(&self, subject: &Subject, step: &str) -> Arc<Entry> {
        self.until(subject, &format!("step {step}"), |state| state.step() == step).await
    }

    /// Waits until no rollout and no request of a resource is pending.
    pub async fn settled(&self, subject: &Subject) -> Arc<Entry> {
        self.until(subject, "to be settled", |state| state.is_settled()).await
    }

    /// Waits until the release in the spec is active and the resource is Stable.
    pub async fn stable(&self, subject: &Subject) -> Arc<Entry> {
        self.until(subject, "to be Stable", |state| state.is_stable()).await
    }

    /// Waits until the release with this storage tag is active and the resource is Stable.
    pub async fn serves(&self, subject: &Subject, tag: &str) -> Arc<Entry> {
        let check = |state: State<'_>| state.is_stable() && state.active() == state.version_of_tag(tag);
        self.until(subject, &format!("{tag} to serve"), check).await
    }

    /// Waits until an automatic rollback is complete: the release with this tag is active, the phase is Degraded.
    pub async fn rolled_back(&self, subject: &Subject, to: &str) -> Arc<Entry> {
        let check = |state: State<'_>| {
            state.is_settled() && state.phase() == "Degraded" && state.active() == state.version_of_tag(to)
        };
        self.until(subject, &format!("a rollback to {to}"), check).await
    }

    /// Returns everything that happened until now.
    pub async fn history(&self) -> History {
        self.timeline.settle(TIME_LIMIT).await.unwrap();
        self.timeline.history()
    }

    /// Waits `seconds` of the cluster's time, in which nothing should happen.
    pub async fn linger(&self, seconds: u64) {
        pace::sleep(Duration::from_secs(seconds)).await;
    }

    /// Returns the Events of a resource: type, reason and message.
    pub async fn events(&self, name: &str) -> Vec<(String, String, String)> {
        let events: Api<Event> = self.api();
        let all = events.list(&ListParams::default()).await.unwrap();
        let about = all.items.into_iter().filter(|event| {
            event.involved_object.kind.as_deref() == Some("MetadataServices")
                && event.involved_object.name.as_deref() == Some(name)
        });
        let parts = |event: Event| [event.type_, event.reason, event.message].map(Option::unwrap_or_default);
        about.map(|event| parts(event).into()).collect()
    }

    /// Waits for an Event of this type and reason whose message contains a text.
    pub async fn event(&self, name: &str, kind: &str, reason: &str, text: &str) {
        let start = Instant::now();
        loop {
            let events = self.events(name).await;
            if events.iter().any(|event| event.0 == kind && event.1 == reason && event.2.contains(text)) {
                return;
            }
            assert!(pace::elapsed(start) < TIME_LIMIT, "no Event {kind} {reason} {text:?} in {events:#?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Returns the operator's requests in this namespace. None for a cluster without an audit log.
    pub async fn audit(&self) -> Option<AuditLog> {
        // The API server may write a line a moment after its answer.
        pace::sleep(Duration::from_millis(500)).await;
        self.logged(&format!("\"namespace\":\"{}\"", self.namespace))
    }

    /// Returns the operators' requests whose lines in the audit log contain a text. All tests share the log, so the
    /// other lines are not parsed.
    fn logged(&self, mark: &str) -> Option<AuditLog> {
        let text = std::fs::read_to_string(self.audit.as_ref()?).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
        let lines = whole.lines().filter(|line| line.contains(mark)).map(|line| format!("{line}\n"));
        Some(AuditLog::parse(&lines.collect::<String>()).unwrap().by_agent(USER_AGENT))
    }

    /// Checks the invariants of everything that happened, and deletes the namespace.
    pub async fn finish(self) {
        // The operator may still write: the audit log is read first, so that the history contains all its writes.
        let audit = self.audit().await;
        let history = self.history().await;
        assert!(self.timeline.gaps() == 0 || self.gaps, "the timeline has gaps");
        let mut found = violations(&history, &self.waived);
        if let Some(audit) = audit {
            let of_requests = invariants::writes_changed_something(&history, &audit).into_iter();
            let of_requests = of_requests.chain(invariants::deletes_of_unstamped(&history, &audit));
            found.extend(of_requests.chain(reads_before_writes(&history, &audit)).map(|one| one.to_string()));
            let of_the_crd = self.logged(shipped_rights::CRD_REQUEST);
            let requests = of_the_crd.iter().chain([&audit]);
            found.extend(shipped_rights::record(requests, &self.used_rights, &self.namespace));
        }
        assert!(found.is_empty(), "{}: violated invariants:\n{}", self.namespace, found.join("\n"));
        let log = self.command.log.clone();
        self.leave().await;
        let _ = std::fs::remove_file(log);
    }

    /// Stops the operator and deletes the namespace without any check.
    pub async fn leave(mut self) {
        drop(self.operator.take());
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let _ = namespaces.delete(&self.namespace, &DeleteParams::background()).await;
    }
}

/// Returns the violations of I41 if the namespace has one resource: requests do not show which resource they are for.
fn reads_before_writes(history: &History, audit: &AuditLog) -> Vec<Violation> {
    let names: BTreeSet<&str> =
        history.of_kind(Kind::MetadataServices).map(|one| one.name.as_str()).collect();
    match names.iter().collect::<Vec<_>>().as_slice() {
        [one] => invariants::live_reads(audit.requests().iter().filter_map(Call::of), one),
        _ => vec![],
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(25)..];
            eprintln!("--- the operator of {} wrote:\n{}", self.namespace, tail.join("\n"));
        }
    }
}
