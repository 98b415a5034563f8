//! A deterministic simulator of everything around the core: it asks `plan`, carries out the move one write at a time,
//! holds every write to the laws of `laws` (see `watch`), and lets a test play user, node, other hand and crash.

// Only tests use this crate: a panic is a failed test.
#![allow(missing_docs, clippy::missing_panics_doc, clippy::new_without_default)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod arbitrary;
pub mod cluster;
mod hands;
pub mod laws;
pub mod scene;
pub mod templates;
mod views;
mod watch;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;

use api::names::{PerComponent, RESTART, RETRY, ROLLBACK_TO};
use api::status::{MetadataServicesStatus, Step};
pub use cluster::Boot;
use cluster::{Cluster, Door};
use rollout::facts::{Deferred, Facts, Image, ObjectId, ReleaseRef, Revision, Setting};
use rollout::intent::{Intent, Policy, Requests, Wanted};
use rollout::{Action, Effect, EventNote, Plan, ResourcePatch, explain, plan};

/// 2026-09-21 14:13:20 UTC.
pub const START: i64 = 1_790_000_000;

/// The resource, its cluster, and the operator that is under test.
#[allow(clippy::struct_excessive_bools)] // each a switch of its own
#[derive(Clone)]
pub struct Sim {
    pub intent: Intent,
    pub status: Option<MetadataServicesStatus>,
    pub cluster: Cluster,
    pub stale: Vec<Setting>,
    pub surplus: Vec<rollout::facts::Extra>,
    pub adoptable: Vec<ObjectId>,
    /// Names that objects of others hold.
    pub taken: Vec<ObjectId>,
    pub restore_refused: Option<String>,
    pub deferred: Deferred,
    pub templates: HashMap<String, Wanted>,
    /// What was written, by kind.
    pub writes: BTreeMap<&'static str, usize>,
    /// How often the selector of a front Service was changed.
    pub moved: usize,
    /// Every write, in words.
    pub trace: Vec<String>,
    pub notes: Vec<EventNote>,
    /// After so many more writes, the operator crashes.
    pub fuse: Option<usize>,
    /// The next leader crashes too, after so many writes.
    pub next_fuse: Option<usize>,
    /// Seconds until the next leader takes over after a crash.
    pub takeover: i64,
    /// Whether the status is lost in the crash.
    pub crash_loses_status: bool,
    /// Whether the actions of a group are carried out last first.
    pub backwards: bool,
    /// Whether another hand has been at the objects: some laws hold only when it has been mended.
    pub tampered: bool,
    /// Whether another hand has written the status.
    pub edited: bool,
    /// Whether both front Services have to lead to a ready pod after every write.
    pub serves: bool,
    memory: watch::Memory,
}

/// A policy with the defaults of design D7.
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

/// The template of this name; its hash and its release's name follow from it.
pub fn template(name: &str) -> Wanted {
    let image = |component: &str| Image { tag: name.into(), reference: format!("r/{component}:{name}") };
    Wanted {
        hash: hash(name),
        images: PerComponent { storage: image("storage"), schema: image("schema") },
        release_version: Some(name.into()),
    }
}

/// The hash of the template of this name.
pub fn hash(name: &str) -> String {
    format!("{name}-hash")
}

impl Sim {
    /// A resource that was just created, wanting release `a`.
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
            taken: vec![],
            restore_refused: None,
            deferred: Deferred::default(),
            writes: BTreeMap::new(),
            moved: 0,
            trace: vec![],
            notes: vec![],
            fuse: None,
            next_fuse: None,
            takeover: 17,
            crash_loses_status: false,
            backwards: false,
            tampered: false,
            edited: false,
            serves: false,
            memory: watch::Memory::default(),
        }
    }

    /// Release `a` serves on blue, settled; counters start anew.
    pub fn stable() -> Self {
        let mut sim = Self::new();
        sim.settle();
        assert_eq!(sim.step_name(), "Stable", "{}", sim.story());
        sim.forget();
        sim
    }

    /// `b` after `a`, settled: `b` serves on green.
    pub fn upgraded() -> Self {
        let mut sim = Self::stable();
        sim.edit("b");
        sim.settle();
        assert_eq!(sim.active(), "b on green", "{}", sim.story());
        sim.forget();
        sim
    }

    /// Starts the counts of writes and events anew.
    pub fn forget(&mut self) {
        self.writes.clear();
        self.moved = 0;
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

    /// One pass of the operator: plan, and carry it out.
    pub fn pass(&mut self) -> Plan {
        self.cluster.tick();
        let facts = self.facts();
        let now = self.now();
        let made = plan(&self.intent, self.status.as_ref(), &facts, now);
        let again = plan(&self.intent, self.status.as_ref(), &facts, now);
        assert_eq!(made, again, "the plan is not a function of its input");
        let wrote = match made.effect.clone() {
            Effect::Wait => {
                watch::at_rest(self, &made);
                true
            }
            Effect::UpdateStatus(status) => self.commit(*status),
            Effect::Write(groups) if self.is_barred(&groups) => return self.told_of_the_bar(&facts),
            Effect::Write(groups) => groups.into_iter().all(|group| self.act(group)),
            Effect::PatchResource(amend) => self.amend(&amend),
        };
        if wrote {
            self.notes.extend(made.notes.clone());
        }
        self.cluster.tick();
        made
    }

    /// Whether an object of others holds a name that is to be created.
    fn is_barred(&self, groups: &[Vec<Action>]) -> bool {
        groups.iter().flatten().any(|action| watch::is_barred(&self.taken, action))
    }

    /// The shell found a name taken: it writes nothing but why, and looks again later.
    fn told_of_the_bar(&mut self, facts: &Facts) -> Plan {
        let taken = self.taken.iter().map(|id| format!("{id:?} (it has no controller)")).collect();
        let facts = Facts { taken, ..facts.clone() };
        let wait = Plan { effect: Effect::Wait, notes: vec![], requeue_after: Some(30) };
        let made = explain(&self.intent, self.status.as_ref(), &facts, self.now()).unwrap_or(wait);
        if let Effect::UpdateStatus(status) = made.effect.clone() {
            self.commit(*status);
            self.notes.extend(made.notes.clone());
        }
        made
    }

    fn burn(&mut self) -> bool {
        match &mut self.fuse {
            Some(0) => {
                self.fuse = self.next_fuse.take();
                self.trace.push("CRASH".into());
                self.cluster.now += self.takeover;
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

    fn count(&mut self, kind: &'static str, words: &str) {
        *self.writes.entry(kind).or_default() += 1;
        self.trace.push(format!("{:>5}s {} {words}", self.cluster.now - START, self.step_name()));
    }

    fn commit(&mut self, status: MetadataServicesStatus) -> bool {
        if !self.burn() {
            return false;
        }
        let step = status.rollout.as_ref().map(|rollout| rollout.step);
        self.count("Commit", &format!("Commit {step:?}"));
        watch::before_commit(self, &status);
        self.status = Some(status);
        watch::after_write(self);
        true
    }

    fn act(&mut self, mut group: Vec<Action>) -> bool {
        if self.backwards {
            group.reverse();
        }
        for action in group {
            if !self.burn() {
                return false;
            }
            self.count(kind(&action), &format!("{action:?}"));
            watch::before_action(self, &action);
            self.execute(action);
            self.cluster.tick();
            watch::after_write(self);
        }
        true
    }

    fn execute(&mut self, action: Action) {
        match action {
            Action::CreateFront(component) => {
                let door = self.cluster.fronts.get_mut(component);
                assert!(door.is_none(), "AlreadyExists: front {component}");
                *door = Some(Door { exact: true, ..Door::default() });
            }
            Action::Route(component, route) => {
                let now = self.cluster.now;
                let door = self.cluster.fronts.get_mut(component).as_mut().expect("404: no front to point");
                let slices = door.slices;
                let version = (!route.version.is_empty()).then_some(route.version);
                let (selects, epoch) = (route.color, route.epoch);
                self.moved += usize::from(door.selects != selects);
                *door = Door { selects, exact: true, version, epoch, switched_at: Some(now), slices };
            }
            Action::Create(id, tagged) => self.create(&id, tagged),
            Action::Adopt(id) => self.adoptable.retain(|known| *known != id),
            Action::RaiseEpoch(id, epoch) => self.cluster.stamp(&id, epoch),
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
                panic!("not created so: {id:?}")
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

    fn amend(&mut self, amend: &ResourcePatch) -> bool {
        if !self.burn() {
            return false;
        }
        self.count("Amend", &format!("{amend:?}"));
        let before = self.intent.clone();
        if let Some(version) = &amend.restore {
            let found = self.cluster.revisions.iter().find(|revision| revision.version == *version);
            let hash =
                found.map_or_else(|| self.intent.wanted.hash.clone(), |revision| revision.hash.clone());
            let name = self.intent.wanted.release_version.take();
            self.intent.wanted = Wanted { release_version: name, ..self.templates[&hash].clone() };
            self.intent.generation += i64::from(before.wanted.hash != hash);
        }
        for annotation in &amend.remove {
            let requests = &mut self.intent.requests;
            match *annotation {
                ROLLBACK_TO => requests.rollback_to = None,
                RETRY => requests.retry = None,
                RESTART => requests.restart = None,
                other => panic!("unknown annotation {other}"),
            }
        }
        assert_ne!(self.intent, before, "an amend that changes nothing\n{}", self.story());
        true
    }

    /// Passes until there is nothing to do now. Returns how long to wait.
    pub fn run(&mut self) -> Option<i64> {
        for _ in 0..60 {
            let made = self.pass();
            if made.effect == Effect::Wait {
                return made.requeue_after;
            }
        }
        panic!("does not come to rest\n{}", self.story());
    }

    /// Runs, sleeping exactly as long as the core asks for or until a pod becomes ready, until `done` or nothing more
    /// is due. A wait that the core does not announce is a wait for ever.
    fn live(&mut self, limit: i64, done: impl Fn(&Self) -> bool) {
        let end = self.cluster.now + limit;
        loop {
            self.cluster.tick();
            if done(self) {
                return;
            }
            let made = self.pass();
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

    /// Lives until nothing is due any more, at most 3 hours.
    pub fn settle(&mut self) {
        let start = self.cluster.now;
        self.live(10_800, |_| false);
        assert!(self.cluster.now < start + 10_800, "never settles\n{}", self.story());
    }

    /// Lives until the step is entered; fails if it is not.
    pub fn until(&mut self, step: Step) {
        self.live(10_800, |sim| sim.step() == Some(step));
        assert_eq!(self.step(), Some(step), "never gets there\n{}", self.story());
    }

    /// Lives until the step is entered or nothing is due any more; whether it was entered.
    pub fn reaches(&mut self, step: Step) -> bool {
        self.live(10_800, |sim| sim.step() == Some(step));
        self.step() == Some(step)
    }

    /// Lives until so many more writes are done and the next one is lost; `false` if there are not so many.
    pub fn stop_before(&mut self, writes: usize) -> bool {
        self.fuse = Some(writes);
        self.takeover = 0;
        self.live(10_800, |sim| sim.fuse.is_none());
        self.fuse.take().is_none()
    }

    /// Lives for so many seconds.
    pub fn advance(&mut self, seconds: i64) {
        let end = self.cluster.now + seconds;
        self.live(seconds, |_| false);
        self.cluster.now = end;
        self.run();
    }

    /// Lives for an hour in which nothing is written.
    pub fn stays_quiet(&mut self) {
        let before = self.trace.len();
        for _ in 0..12 {
            self.cluster.now += 300;
            self.run();
        }
        assert_eq!(self.trace.len(), before, "not quiet\n{}", self.story());
    }
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::CreateFront(_) => "CreateFront",
        Action::Route(..) => "Point",
        Action::Create(..) => "Create",
        Action::Adopt(_) => "Adopt",
        Action::RaiseEpoch(..) => "Stamp",
        Action::RecordRevision { .. } => "Record",
        Action::Delete(_) => "Delete",
        Action::ApplySetting(_) => "Settle",
        Action::ApplyServiceAccount => "Account",
    }
}
