//! From the model's numbers to what the core is given, and back: statuses, plans, and every decision that was taken,
//! judged once by the laws.

use std::collections::HashMap;

use super::ablation::Ablation;
use super::search::Config;
use super::state::{
    Age, CONFIG, Cell, DEPLOYMENT, Door, Life, Pod, Release, SERVICE, World, at, name, number, of,
};
use super::times::{NOW, Pass, normal, now, older, seconds, waits};
use api::names::{Color, Component, PerColor, PerComponent, RESTART, RETRY, ROLLBACK_TO};
use api::status::{MetadataServicesStatus, Step};
use rollout::facts::{Cause, Facts, ObjectId, ReleaseRef, Revision};
use rollout::intent::{Intent, Policy, Requests};
use rollout::{Action, Effect, Plan, ResourcePatch, explain, plan};
use simulator::cluster::{self, Cluster};
use simulator::laws::{self, Judgement};
use simulator::scene::Scene;
use simulator::{hash, template};

/// One write of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Deed {
    Commit(u32),
    ResourcePatch {
        restore: Release,
        rollback: bool,
        retry: bool,
        restart: bool,
    },
    CreateDoor(usize),
    Point {
        door: usize,
        selects: Option<Color>,
        release: Release,
        epoch: u8,
    },
    Create {
        color: usize,
        component: usize,
        part: u8,
        release: Release,
        epoch: u8,
    },
    /// Creates the record, or patches the one that was read; `number` 0 keeps its number.
    Record {
        release: Release,
        failed: bool,
        number: u8,
        create: bool,
    },
    Stamp {
        color: usize,
        component: usize,
        part: u8,
        epoch: u8,
    },
    DeletePart {
        color: usize,
        component: usize,
        part: u8,
    },
    DeleteRecord(usize),
}

/// What an operator does in a pass: group after group. Empty: it waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InFlight {
    pub groups: Vec<Vec<Deed>>,
}

/// What a pass decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Number of the plan; 0 is to wait.
    pub plan: u32,
    /// Whether it wants to look again by itself.
    pub again: bool,
}

/// The tables of one search.
pub struct Tables {
    pub ablation: Option<Ablation>,
    /// Decisions are held to the laws.
    judged: bool,
    /// Another hand may have been at the objects.
    pub tampered: bool,
    /// Whether a bad release goes back by itself.
    pub auto_rollback: bool,
    statuses: Vec<MetadataServicesStatus>,
    status_numbers: HashMap<u64, Vec<u32>>,
    aged: HashMap<(u32, Pass), u32>,
    plans: Vec<InFlight>,
    plan_numbers: HashMap<InFlight, u32>,
    decisions: HashMap<World, Decision>,
}

/// So many decisions are remembered at most.
const REMEMBERED: usize = 3_000_000;

impl Tables {
    pub fn new(config: &Config) -> Self {
        Self {
            ablation: config.ablation,
            judged: config.judged,
            tampered: config.budget.hands + config.budget.drifts > 0,
            auto_rollback: config.auto_rollback,
            statuses: vec![MetadataServicesStatus::default()],
            status_numbers: HashMap::new(),
            aged: HashMap::new(),
            plans: vec![InFlight::default()],
            plan_numbers: HashMap::new(),
            decisions: HashMap::new(),
        }
    }

    /// The status of a number; `None` for 0.
    pub fn status(&self, id: u32) -> Option<&MetadataServicesStatus> {
        (id != 0).then(|| &self.statuses[index(id)])
    }

    pub fn step(&self, world: &World) -> Option<Step> {
        Some(self.status(world.status)?.rollout.as_ref()?.step)
    }

    pub fn in_flight(&self, plan: u32) -> &InFlight {
        &self.plans[index(plan)]
    }

    /// The `n`-th write of a plan, groups in order.
    pub fn deed(&self, plan: u32, n: usize) -> Deed {
        *self.in_flight(plan).groups.iter().flatten().nth(n).unwrap()
    }

    pub fn intern_status(&mut self, status: MetadataServicesStatus) -> u32 {
        let status = normal(status);
        let bucket = self.status_numbers.entry(digest(&status)).or_default();
        if let Some(known) = bucket.iter().find(|id| self.statuses[index(**id)] == status) {
            return *known;
        }
        let id = u32::try_from(self.statuses.len()).unwrap();
        bucket.push(id);
        self.statuses.push(status);
        id
    }

    pub fn intern_plan(&mut self, in_flight: InFlight) -> u32 {
        if in_flight.groups.is_empty() {
            return 0;
        }
        if let Some(known) = self.plan_numbers.get(&in_flight) {
            return *known;
        }
        let id = u32::try_from(self.plans.len()).unwrap();
        self.plan_numbers.insert(in_flight.clone(), id);
        self.plans.push(in_flight);
        id
    }

    /// The number of a status after time has passed.
    pub fn age(&mut self, id: u32, pass: Pass) -> u32 {
        if id == 0 {
            return 0;
        }
        if let Some(known) = self.aged.get(&(id, pass)) {
            return *known;
        }
        let status = older(self.statuses[index(id)].clone(), pass);
        let aged = self.intern_status(status);
        self.aged.insert((id, pass), aged);
        aged
    }

    /// A plan that holds a status grows older with it.
    pub fn age_plan(&mut self, plan: u32, pass: Pass) -> u32 {
        match self.in_flight(plan).groups.first().and_then(|group| group.first()) {
            Some(Deed::Commit(status)) => {
                let aged = self.age(*status, pass);
                self.intern_plan(InFlight { groups: vec![vec![Deed::Commit(aged)]] })
            }
            _ => plan,
        }
    }

    /// What a pass decides that reads this.
    pub fn decide(&mut self, world: &World) -> Result<Decision, String> {
        if let Some(known) = self.decisions.get(world) {
            return Ok(*known);
        }
        let (intent, facts) = (self.intent(world), self.facts(world));
        let status = self.status(world.status).cloned();
        let plan = self.plan(&intent, status.as_ref(), &facts);
        let decision = self.settle(world, &intent, status.as_ref(), &facts, plan)?;
        if self.decisions.len() >= REMEMBERED {
            self.decisions.clear();
        }
        self.decisions.insert(*world, decision);
        Ok(decision)
    }

    fn plan(&self, intent: &Intent, status: Option<&MetadataServicesStatus>, facts: &Facts) -> Plan {
        match self.ablation {
            Some(ablation) => ablation.plan(intent, status, facts.clone(), now()),
            None => plan(intent, status, facts, now()),
        }
    }

    /// Judges a plan and numbers it. A status that differs only in what is for people is no decision: then the plan
    /// on that status tells what is waited for.
    fn settle(
        &mut self,
        world: &World,
        intent: &Intent,
        status: Option<&MetadataServicesStatus>,
        facts: &Facts,
        plan: Plan,
    ) -> Result<Decision, String> {
        let mut plan = plan;
        if let Effect::UpdateStatus(new) = plan.effect.clone()
            && self.intern_status((*new).clone()) == world.status
        {
            plan = self.plan(intent, Some(&new), facts);
            if let Effect::UpdateStatus(again) = &plan.effect {
                return Err(format!("I30: written again and again: {again:?} after {new:?}"));
            }
        }
        if self.judged {
            judge(
                &Scene { intent, status, facts, now: now(), tampered: self.tampered, edited: false },
                &plan,
            )?;
        }
        let again = plan.requeue_after.is_some();
        let in_flight = self.translate(world, plan.effect);
        Ok(Decision { plan: self.intern_plan(in_flight), again })
    }

    /// What a pass persists that finds a name taken.
    pub fn explain(&mut self, world: &World) -> Decision {
        let (intent, mut facts) = (self.intent(world), self.facts(world));
        facts.taken = vec!["an object (it has no controller)".into()];
        let told = explain(&intent, self.status(world.status), &facts, now());
        let in_flight = told.map_or_else(InFlight::default, |plan| self.translate(world, plan.effect));
        let same = matches!(in_flight.groups.first().map(Vec::as_slice), Some([Deed::Commit(id)]) if *id == world.status);
        Decision { plan: if same { 0 } else { self.intern_plan(in_flight) }, again: true }
    }

    /// The resource as the core sees it.
    pub fn intent(&self, world: &World) -> Intent {
        let resource = &world.resource;
        let asked = |flag: bool| flag.then(|| "now".to_owned());
        Intent {
            name: "sample1".into(),
            namespace: "default".into(),
            generation: i64::from(resource.generation),
            deleted: resource.life != Life::Lives,
            wanted: template(name(resource.spec)),
            violations: vec![],
            crd_outdated: None,
            policy: Policy { auto_rollback: self.auto_rollback, ..waits() },
            requests: Requests {
                rollback_to: (resource.rollback != 0).then(|| name(resource.rollback).to_owned()),
                retry: asked(resource.retry),
                restart: asked(resource.restart),
            },
            ports: PerComponent { storage: 9005, schema: 9006 },
            old_images: vec![],
        }
    }

    /// What the shell would tell the core.
    pub fn facts(&self, world: &World) -> Facts {
        let status = self.status(world.status);
        let since = status
            .and_then(|status| status.rollout.as_ref()?.timers.ready_since.as_ref())
            .map_or(NOW, |time| time.0.as_second());
        let cluster = Cluster {
            now: NOW,
            fronts: PerComponent::from_fn(|component| door(world, component)),
            cells: PerColor::from_fn(|color| {
                PerComponent::from_fn(|component| cell(world.cell(component, color), component, color, since))
            }),
            revisions: revisions(world),
            ..Cluster::default()
        };
        cluster.facts(status)
    }

    fn translate(&mut self, world: &World, effect: Effect) -> InFlight {
        let groups = match effect {
            Effect::Wait => vec![],
            Effect::UpdateStatus(status) => vec![vec![Deed::Commit(self.intern_status(*status))]],
            Effect::PatchResource(amend) => vec![vec![amended(&amend)]],
            Effect::Write(groups) => {
                groups.iter().map(|group| group.iter().map(|action| deed(world, action)).collect()).collect()
            }
        };
        InFlight { groups }
    }
}

fn index(id: u32) -> usize {
    usize::try_from(id).unwrap()
}

/// Tells most statuses apart.
fn digest(status: &MetadataServicesStatus) -> u64 {
    let rollout = status.rollout.as_ref();
    let records: Vec<_> = status
        .release_history
        .iter()
        .map(|record| (&record.version, record.status, record.strategy, record.activated_at.is_some()))
        .collect();
    let said: Vec<_> = status.conditions.iter().map(|said| (&said.status, &said.reason)).collect();
    let machine = rollout.map(|rollout| (rollout.step, rollout.epoch, rollout.since.0, &rollout.target));
    super::state::fingerprint(&(machine, records, said, status.observed_generation))
}

fn judge(scene: &Scene, plan: &Plan) -> Judgement {
    match &plan.effect {
        Effect::Wait => laws::rest(scene, plan, false),
        Effect::UpdateStatus(status) => laws::commit(scene, status),
        Effect::Write(groups) => groups.iter().flatten().try_for_each(|action| laws::action(scene, action)),
        Effect::PatchResource(amend) => amendment(scene, amend),
    }
}

/// I24: only a release that served is restored, and only what was asked for is removed.
fn amendment(scene: &Scene, amend: &ResourcePatch) -> Judgement {
    let record = |version: &str| scene.status.and_then(|status| status.record(version));
    match &amend.restore {
        Some(version) if record(version).is_none_or(|record| record.activated_at.is_none()) => {
            Err(format!("I24: {version} is restored, which never served"))
        }
        _ => Ok(()),
    }
}

fn door(world: &World, component: Component) -> Option<cluster::Door> {
    let door: &Door = &world.doors[of(component)];
    (door.there && !door.orphan).then(|| cluster::Door {
        selects: door.selects,
        exact: true,
        version: (door.release != 0).then(|| name(door.release).to_owned()),
        epoch: i64::from(door.epoch),
        switched_at: door.switched.map(seconds),
        slices: PerColor::from_fn(|color| {
            let cell = world.cell(component, color);
            let listed = if door.listed == Some(color) { pods(cell) } else { 0 };
            let ready = u32::from(cell.pod == Pod::Ready) + u32::from(cell.stray != 0);
            (ready.min(listed), listed)
        }),
    })
}

fn pods(cell: &Cell) -> u32 {
    u32::from(cell.pod != Pod::None) + u32::from(cell.stray != 0)
}

fn tag(part: super::state::Part) -> Option<ReleaseRef> {
    (part.release != 0 && !part.orphan).then(|| ReleaseRef {
        version: name(part.release).into(),
        hash: hash(name(part.release)),
        epoch: i64::from(part.epoch),
    })
}

fn cell(cell: &Cell, component: Component, color: Color, ready_since: i64) -> cluster::Cell {
    let deployment = tag(cell.parts[usize::from(DEPLOYMENT)]);
    let release = name(cell.parts[usize::from(DEPLOYMENT)].release);
    let pod = |name: String, version: String, ready| cluster::Pod {
        name,
        version,
        created: if cell.settled { 0 } else { NOW + 100_000 },
        ready,
        due: None,
        changed: cell.flapped.then_some(ready_since + 1),
        restarts: i32::from(cell.restarts),
        cause: (cell.pod == Pod::Failing).then_some(Cause::Crash),
        disrupted: false,
    };
    let mut pods = vec![];
    if cell.pod != Pod::None {
        pods.push(pod(format!("{component}-{color}-{release}"), release.into(), cell.pod == Pod::Ready));
    }
    if cell.stray != 0 {
        let stray = format!("{component}-{color}-{}-stray", name(cell.stray));
        let mut pod = pod(stray.clone(), stray, true);
        (pod.created, pod.restarts, pod.changed) = (NOW + 100_000, 0, None);
        pods.push(pod);
    }
    cluster::Cell {
        deployment: deployment.map(|tag| cluster::Dep {
            tag,
            desired: 1,
            problem: None,
            drifted_by: vec![],
            observed: true,
        }),
        terminating: false,
        config: tag(cell.parts[usize::from(CONFIG)]),
        service: tag(cell.parts[usize::from(SERVICE)]),
        sets: !pods.is_empty(),
        pods,
    }
}

fn revisions(world: &World) -> Vec<Revision> {
    let known = world.records.iter().enumerate().filter(|(_, record)| record.number != 0 && !record.orphan);
    let mut revisions: Vec<_> = known
        .map(|(at, record)| {
            let version = name(u8::try_from(at).unwrap() + 1);
            Revision {
                version: version.into(),
                hash: hash(version),
                flaw: None,
                number: i64::from(record.number),
                failed: record.failed.then(|| "failed".to_owned()),
                images: template(version).images,
                created: NOW - 5_000,
            }
        })
        .collect();
    revisions.sort_by(|a, b| (a.number, &a.version).cmp(&(b.number, &b.version)));
    revisions
}

fn amended(amend: &ResourcePatch) -> Deed {
    let removes = |key: &str| amend.remove.contains(&key);
    Deed::ResourcePatch {
        restore: amend.restore.as_deref().map_or(0, number),
        rollback: removes(ROLLBACK_TO),
        retry: removes(RETRY),
        restart: removes(RESTART),
    }
}

fn deed(world: &World, action: &Action) -> Deed {
    match action {
        Action::CreateFront(component) => Deed::CreateDoor(of(*component)),
        Action::Route(component, route) => Deed::Point {
            door: of(*component),
            selects: route.color,
            release: number(&route.version),
            epoch: u8::try_from(route.epoch).unwrap(),
        },
        Action::Create(id, tagged) => {
            let (color, component, part) = place(id);
            let (release, epoch) = (number(&tagged.version), u8::try_from(tagged.epoch).unwrap());
            Deed::Create { color, component, part, release, epoch }
        }
        Action::RecordRevision { tagged, failed } => {
            let release = number(&tagged.version);
            let own = |record: &&super::state::Record| !record.orphan;
            let last = world.records.iter().filter(own).map(|record| record.number).max().unwrap_or(0);
            let seen =
                Some(world.records[usize::from(release) - 1]).filter(|seen| seen.number != 0 && !seen.orphan);
            let raised = seen.is_none_or(|seen| failed.is_none() && seen.number < last.max(1));
            let number = if raised { last + 1 } else { 0 };
            Deed::Record { release, failed: failed.is_some(), number, create: seen.is_none() }
        }
        Action::RaiseEpoch(id, epoch) => {
            let (color, component, part) = place(id);
            Deed::Stamp { color, component, part, epoch: u8::try_from(*epoch).unwrap() }
        }
        Action::Delete(ObjectId::Revision(version)) => Deed::DeleteRecord(usize::from(number(version)) - 1),
        Action::Delete(id) => {
            let (color, component, part) = place(id);
            Deed::DeletePart { color, component, part }
        }
        Action::Adopt(_) | Action::ApplySetting(_) | Action::ApplyServiceAccount => {
            panic!("not in the model: {action:?}")
        }
    }
}

fn place(id: &ObjectId) -> (usize, usize, u8) {
    match id {
        ObjectId::Deployment(component, color) => (at(*color), of(*component), DEPLOYMENT),
        ObjectId::ConfigMap(component, color) => (at(*color), of(*component), CONFIG),
        ObjectId::Service(component, color) => (at(*color), of(*component), SERVICE),
        ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => {
            panic!("no object of a color: {id:?}")
        }
    }
}

/// Whether a status says that a pod's class of age matters.
pub fn grace_begins(
    before: Option<&MetadataServicesStatus>,
    after: &MetadataServicesStatus,
) -> Option<Color> {
    let clock = |status: &MetadataServicesStatus| status.rollout.as_ref()?.timers.ready_since.clone();
    let begun = clock(after).filter(|since| since.0.as_second() == seconds(Age::Fresh))?;
    let new = before.and_then(clock) != Some(begun);
    after.rollout.as_ref()?.target.as_ref().filter(|_| new).map(|target| target.strategy)
}
