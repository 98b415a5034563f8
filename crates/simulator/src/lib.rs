//! A deterministic simulator of the cluster around the core.
//!
//! It calls `plan`, carries out the effect one write at a time, and checks the invariants at every write
//! (`write_checks`). Tests act as user, node or another client, and crash the operator before any write.

// Only tests use this crate: a panic is a failed test.
#![allow(missing_docs, clippy::missing_panics_doc, clippy::new_without_default)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod arbitrary;
pub mod cluster_state;
pub mod invariants;
pub mod message_templates;
pub mod plan_input;
mod pod_events;
pub mod predecessor;
mod public_status;
mod queries;
mod user_actions;
mod write_checks;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use api::names::{PerComponent, RESTART, RETRY, ROLLBACK_TO};
use api::status::{MetadataServicesStatus, Step};
pub use cluster_state::Startup;
use cluster_state::{Cluster, FrontService};
use rollout::facts::{Deferred, Facts, Image, ObjectId, ReleaseRef, Revision, Setting};
use rollout::intent::{Intent, Policy, Requests, Wanted};
use rollout::{Action, Effect, EventNote, Plan, ResourcePatch, explain, plan};

/// 2026-09-21 14:13:20 UTC.
pub const START: i64 = 1_790_000_000;

/// The resource, its cluster, and the operator under test.
#[allow(clippy::struct_excessive_bools)] // each a switch of its own
#[derive(Clone)]
pub struct Sim {
    pub intent: Intent,
    pub status: Option<MetadataServicesStatus>,
    pub cluster: Cluster,
    pub stale: Vec<Setting>,
    pub surplus: Vec<rollout::facts::Extra>,
    pub adoptable: Vec<ObjectId>,
    /// Names of objects that foreign objects already use.
    pub taken_names: Vec<ObjectId>,
    pub restore_refused: Option<String>,
    pub deferred: Deferred,
    pub templates: HashMap<String, Wanted>,
    /// Number of writes by kind.
    pub writes: BTreeMap<&'static str, usize>,
    /// Number of selector changes of the front Services.
    pub selector_changes: usize,
    /// A line for each write: second, step and write.
    pub trace: Vec<String>,
    pub notes: Vec<EventNote>,
    /// Number of writes until the operator crashes. `None`: it does not crash.
    pub crash_after: Option<usize>,
    /// Number of writes until the next leader crashes too.
    pub crash_again_after: Option<usize>,
    /// Seconds until the next leader takes over after a crash.
    pub takeover_seconds: i64,
    /// True if a crash also deletes the status.
    pub crash_loses_status: bool,
    /// True if the actions of a group are carried out in reverse order.
    pub reversed: bool,
    /// True if another client changed objects. Some invariants hold only after the operator repaired the change.
    pub externally_changed: bool,
    /// True if another client wrote the status.
    pub status_edited: bool,
    /// True if each front Service must select a ready Pod after every write.
    pub must_serve: bool,
    checks: write_checks::CheckState,
}

/// Returns a policy with the defaults of design D7.
pub fn policy() -> Policy {
    Policy {
        grace: 120,
        deploy_timeout: 600,
        dwell: 10,
        cleanup_delay: 30,
        auto_rollback: true,
        failure_threshold: 120,
        revert_spec: false,
        paused: false,
        history_limit: 10,
    }
}

/// Returns the template of this name. Its hash and its release have names that follow from it.
pub fn template(name: &str) -> Wanted {
    let image = |component: &str| Image { tag: name.into(), reference: format!("r/{component}:{name}") };
    Wanted {
        hash: hash(name),
        images: PerComponent { storage: image("storage"), schema: image("schema") },
        release_version: Some(name.into()),
    }
}

/// Returns the hash of the template of this name.
pub fn hash(name: &str) -> String {
    format!("{name}-hash")
}

impl Sim {
    /// Returns a resource that was just created. Its spec asks for release `a`.
    pub fn new() -> Self {
        let intent = Intent {
            name: "sample1".into(),
            namespace: "default".into(),
            generation: 1,
            deleted: false,
            wanted: template("a"),
            violations: vec![],
            crd_outdated: None,
            policy: policy(),
            requests: Requests::default(),
            ports: PerComponent { storage: 9005, schema: 9006 },
            old_images: vec![],
        };
        Self {
            templates: HashMap::from([(hash("a"), intent.wanted.clone())]),
            intent,
            status: None,
            cluster: Cluster { now: START, replicas: 2, ..Cluster::default() },
            stale: vec![],
            surplus: vec![],
            adoptable: vec![],
            taken_names: vec![],
            restore_refused: None,
            deferred: Deferred::default(),
            writes: BTreeMap::new(),
            selector_changes: 0,
            trace: vec![],
            notes: vec![],
            crash_after: None,
            crash_again_after: None,
            takeover_seconds: 17,
            crash_loses_status: false,
            reversed: false,
            externally_changed: false,
            status_edited: false,
            must_serve: false,
            checks: write_checks::CheckState::default(),
        }
    }

    /// Returns a resource at rest: release `a` is active on blue, and no write is counted.
    pub fn stable() -> Self {
        let mut sim = Self::new();
        sim.run_until_idle();
        assert_eq!(sim.step_name(), "Stable", "{}", sim.trace_text());
        sim.reset_counters();
        sim
    }

    /// Returns a resource at rest after an upgrade: release `b` is active on green.
    pub fn upgraded() -> Self {
        let mut sim = Self::stable();
        sim.edit("b");
        sim.run_until_idle();
        assert_eq!(sim.active(), "b on green", "{}", sim.trace_text());
        sim.reset_counters();
        sim
    }

    /// Resets the counts of writes and Events, and the trace.
    pub fn reset_counters(&mut self) {
        self.writes.clear();
        self.selector_changes = 0;
        self.trace.clear();
        self.notes.clear();
    }

    pub fn now(&self) -> Timestamp {
        Timestamp::from_second(self.cluster.now).unwrap()
    }

    pub fn facts(&self) -> Facts {
        Facts {
            stale: self.stale.clone(),
            surplus: self.surplus.clone(),
            adoptable: self.adoptable.clone(),
            restore_refused: self.restore_refused.clone(),
            deferred: self.deferred,
            ..self.cluster.facts(self.status.as_ref())
        }
    }

    /// Runs one reconcile: calls `plan` and carries out the effect.
    pub fn reconcile(&mut self) -> Plan {
        self.cluster.tick();
        let facts = self.facts();
        let now = self.now();
        let made = plan(&self.intent, self.status.as_ref(), &facts, now);
        let again = plan(&self.intent, self.status.as_ref(), &facts, now);
        assert_eq!(made, again, "two plans of one input differ");
        let wrote = match made.effect.clone() {
            Effect::Wait => {
                write_checks::at_rest(self, &made);
                true
            }
            Effect::UpdateStatus(status) => self.update_status(*status),
            Effect::Write(groups) if self.needs_taken_name(&groups) => {
                return self.report_taken_names(&facts);
            }
            Effect::Write(groups) => groups.into_iter().all(|group| self.write_group(group)),
            Effect::PatchResource(patch) => self.patch_resource(&patch),
        };
        if wrote {
            self.notes.extend(made.notes.clone());
        }
        self.cluster.tick();
        made
    }

    /// Returns whether an action creates an object under a name that a foreign object uses.
    fn needs_taken_name(&self, groups: &[Vec<Action>]) -> bool {
        groups.iter().flatten().any(|action| write_checks::needs_taken_name(&self.taken_names, action))
    }

    /// Does as the controller does for a taken name: writes only the status that `explain` returns, and waits.
    fn report_taken_names(&mut self, facts: &Facts) -> Plan {
        let taken = self.taken_names.iter().map(|id| format!("{id:?} (it has no controller)")).collect();
        let facts = Facts { taken, ..facts.clone() };
        let wait = Plan { effect: Effect::Wait, notes: vec![], requeue_after: Some(30) };
        let made = explain(&self.intent, self.status.as_ref(), &facts, self.now()).unwrap_or(wait);
        if let Effect::UpdateStatus(status) = made.effect.clone() {
            self.update_status(*status);
            self.notes.extend(made.notes.clone());
        }
        made
    }

    fn may_write(&mut self) -> bool {
        match &mut self.crash_after {
            Some(0) => {
                self.crash_after = self.crash_again_after.take();
                self.trace.push("CRASH".into());
                self.cluster.now += self.takeover_seconds;
                if self.crash_loses_status {
                    self.lose_status();
                }
                false
            }
            Some(left) => {
                *left -= 1;
                true
            }
            None => true,
        }
    }

    fn record_write(&mut self, kind: &'static str, words: &str) {
        *self.writes.entry(kind).or_default() += 1;
        self.trace.push(format!("{:>5}s {} {words}", self.cluster.now - START, self.step_name()));
    }

    fn update_status(&mut self, status: MetadataServicesStatus) -> bool {
        if !self.may_write() {
            return false;
        }
        let step = status.rollout.as_ref().map(|rollout| rollout.step);
        self.record_write("UpdateStatus", &format!("UpdateStatus {step:?}"));
        write_checks::before_commit(self, &status);
        self.status = Some(status);
        write_checks::after_write(self);
        true
    }

    fn write_group(&mut self, mut group: Vec<Action>) -> bool {
        if self.reversed {
            group.reverse();
        }
        for action in group {
            if !self.may_write() {
                return false;
            }
            self.record_write(write_checks::kind(&action), &format!("{action:?}"));
            write_checks::before_action(self, &action);
            self.execute(action);
            self.cluster.tick();
            write_checks::after_write(self);
        }
        true
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::CreateFront(component) => {
                let front = self.cluster.fronts.get_mut(component);
                assert!(front.is_none(), "AlreadyExists: front {component}");
                *front = Some(FrontService { exact: true, ..FrontService::default() });
            }
            Action::Route(component, route) => {
                let now = self.cluster.now;
                let front = self.cluster.fronts.get_mut(component).as_mut().expect("404: no front Service");
                let slices = front.slices;
                let version = (!route.version.is_empty()).then_some(route.version);
                let (selects, epoch) = (route.color, route.epoch);
                self.selector_changes += usize::from(front.selects != selects);
                *front =
                    FrontService { selects, exact: true, version, epoch, switched_at: Some(now), slices };
            }
            Action::Create(id, tagged) => self.create(&id, tagged),
            Action::AdoptFront(component, route) => {
                self.cluster.unstamped.remove(&ObjectId::Front(component));
                self.execute(Action::Route(component, route));
            }
            Action::AdoptUnstamped(id, tagged) => self.cluster.adopt(&id, tagged),
            Action::Adopt(id) => self.adoptable.retain(|known| *known != id),
            Action::RaiseEpoch(id, epoch) => self.cluster.raise_epoch(&id, epoch),
            Action::RecordRevision { tagged, failed } => self.record(tagged, failed),
            Action::Delete(id) => self.delete(&id),
            Action::ApplySetting(setting) => self.stale.retain(|known| *known != setting),
            Action::ApplyServiceAccount => self.stale.retain(|known| *known != Setting::ACCOUNT),
        }
    }

    fn create(&mut self, id: &ObjectId, tagged: ReleaseRef) {
        assert!(self.template_is_known(&tagged.hash), "no template for {tagged:?}");
        let tag = ReleaseRef { version: tagged.version, hash: tagged.hash, epoch: tagged.epoch };
        match id {
            ObjectId::Deployment(component, color) => {
                self.cluster.create_deployment(*component, *color, tag);
            }
            ObjectId::Service(component, color) => {
                let old = self.cluster.cell_mut(*component, *color).service.replace(tag);
                assert_eq!(old, None, "AlreadyExists: {id:?}");
            }
            ObjectId::ConfigMap(component, color) => {
                let old = self.cluster.cell_mut(*component, *color).config.replace(tag);
                assert_eq!(old, None, "AlreadyExists: {id:?}");
            }
            ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => {
                panic!("{id:?} is no object that Create makes")
            }
        }
    }

    fn record(&mut self, tagged: ReleaseRef, failed: Option<String>) {
        assert!(self.template_is_known(&tagged.hash), "no template for {tagged:?}");
        let number = self.cluster.revisions.iter().map(|revision| revision.number).max().unwrap_or(0) + 1;
        let known = self.cluster.revisions.iter().position(|revision| revision.version == tagged.version);
        if let Some(at) = known {
            let revision = &mut self.cluster.revisions[at];
            assert_eq!(revision.hash, tagged.hash, "a revision never changes its template");
            (revision.number, revision.failed) = (number, failed);
        } else {
            let images = self.templates[&tagged.hash].images.clone();
            let (version, hash, created) = (tagged.version, tagged.hash, self.cluster.now);
            self.cluster.revisions.push(Revision {
                version,
                hash,
                flaw: None,
                number,
                failed,
                images,
                created,
            });
        }
    }

    fn template_is_known(&self, hash: &str) -> bool {
        self.intent.wanted.hash == hash || self.cluster.revisions.iter().any(|revision| revision.hash == hash)
    }

    fn delete(&mut self, id: &ObjectId) {
        match id {
            ObjectId::Deployment(component, color) => self.cluster.delete_deployment(*component, *color),
            ObjectId::Service(component, color) => self.cluster.cell_mut(*component, *color).service = None,
            ObjectId::ConfigMap(component, color) => {
                self.cluster.cell_mut(*component, *color).config = None;
            }
            ObjectId::Revision(version) => self.cluster.revisions.retain(|known| known.version != *version),
            ObjectId::Extra(extra) => self.surplus.retain(|known| known != extra),
            ObjectId::Front(_) => panic!("a front Service is never deleted"),
        }
    }

    fn patch_resource(&mut self, patch: &ResourcePatch) -> bool {
        if !self.may_write() {
            return false;
        }
        self.record_write("PatchResource", &format!("{patch:?}"));
        let before = self.intent.clone();
        if let Some(version) = &patch.restore {
            let found = self.cluster.revisions.iter().find(|revision| revision.version == *version);
            let hash =
                found.map_or_else(|| self.intent.wanted.hash.clone(), |revision| revision.hash.clone());
            let name = self.intent.wanted.release_version.take();
            self.intent.wanted = Wanted { release_version: name, ..self.templates[&hash].clone() };
            self.intent.generation += i64::from(before.wanted.hash != hash);
        }
        for annotation in &patch.remove {
            let requests = &mut self.intent.requests;
            match *annotation {
                ROLLBACK_TO => requests.rollback_to = None,
                RETRY => requests.retry = None,
                RESTART => requests.restart = None,
                other => panic!("unknown annotation {other}"),
            }
        }
        assert_ne!(self.intent, before, "an patch that changes nothing\n{}", self.trace_text());
        true
    }

    /// Reconciles until the plan is to wait. Returns the seconds to wait, `None` for no limit.
    pub fn run(&mut self) -> Option<i64> {
        for _ in 0..60 {
            let made = self.reconcile();
            if made.effect == Effect::Wait {
                return made.requeue_after;
            }
        }
        panic!("still not at rest\n{}", self.trace_text());
    }

    /// Reconciles until `done`, until nothing is due, or until the limit in seconds.
    ///
    /// Sleeps as long as the core asks for, or until a Pod becomes ready. A wait without a limit ends the run, so a
    /// wait that the core forgets to announce lasts forever.
    fn run_within(&mut self, limit: i64, done: impl Fn(&Self) -> bool) {
        let end = self.cluster.now + limit;
        loop {
            self.cluster.tick();
            if done(self) {
                return;
            }
            let made = self.reconcile();
            if made.effect != Effect::Wait {
                continue;
            }
            let again = made.requeue_after.map(|seconds| self.cluster.now + seconds);
            let Some(next) = again.into_iter().chain(self.cluster.next_event()).min() else { return };
            if next > end {
                self.cluster.now = end;
                return;
            }
            self.cluster.now = next;
        }
    }

    /// Runs until nothing is due, at most 3 hours.
    pub fn run_until_idle(&mut self) {
        let start = self.cluster.now;
        self.run_within(10_800, |_| false);
        assert!(self.cluster.now < start + 10_800, "never idle\n{}", self.trace_text());
    }

    /// Runs until the operator enters the step. Fails if it does not.
    pub fn until(&mut self, step: Step) {
        self.run_within(10_800, |sim| sim.step() == Some(step));
        assert_eq!(self.step(), Some(step), "the step is not entered\n{}", self.trace_text());
    }

    /// Runs until the operator enters the step or nothing is due. Returns whether it entered the step.
    pub fn reaches(&mut self, step: Step) -> bool {
        self.run_within(10_800, |sim| sim.step() == Some(step));
        self.step() == Some(step)
    }

    /// Runs until this number of writes is done, and drops the next write. Returns `false` if there are fewer writes.
    pub fn stop_before(&mut self, writes: usize) -> bool {
        self.crash_after = Some(writes);
        self.takeover_seconds = 0;
        self.run_within(10_800, |sim| sim.crash_after.is_none());
        self.crash_after.take().is_none()
    }

    /// Runs for this number of seconds.
    pub fn advance(&mut self, seconds: i64) {
        let end = self.cluster.now + seconds;
        self.run_within(seconds, |_| false);
        self.cluster.now = end;
        self.run();
    }

    /// Runs for an hour. Fails if the operator writes in it.
    pub fn assert_stays_idle(&mut self) {
        let before = self.trace.len();
        for _ in 0..12 {
            self.cluster.now += 300;
            self.run();
        }
        assert_eq!(self.trace.len(), before, "writes at rest\n{}", self.trace_text());
    }
}
