//! Numbers for statuses, plans and decisions, and the conversion between the model and the core. Each distinct
//! decision is checked once against the invariants.

use std::collections::HashMap;

use super::ablation::Ablation;
use super::ages::{NOW, TimeStep, aged, model_policy, normalized, now, seconds};
use super::cluster_of_state::{cell, front, revisions};
use super::search::Config;
use super::state::{Age, ApiState, CONFIG, DEPLOYMENT, Lifecycle, Release, SERVICE, at, name, number, of};
use api::names::{Color, PerColor, PerComponent, RESTART, RETRY, ROLLBACK_TO};
use api::status::{MetadataServicesStatus, Step};
use rollout::facts::{Facts, ObjectId};
use rollout::intent::{Intent, Policy, Requests};
use rollout::{Action, Effect, Plan, ResourcePatch, explain, plan};
use simulator::cluster_state::Cluster;
use simulator::invariants::{self, Violation};
use simulator::plan_input::PlanInput;
use simulator::template;

/// A write of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Write {
    UpdateStatus(u32),
    PatchResource {
        restore: Release,
        rollback: bool,
        retry: bool,
        restart: bool,
    },
    CreateFront(usize),
    Route {
        front: usize,
        selects: Option<Color>,
        release: Release,
        epoch: u8,
    },
    CreateObject {
        color: usize,
        component: usize,
        kind: u8,
        release: Release,
        epoch: u8,
    },
    /// Creates a ControllerRevision, or patches the one that was read. `number` 0 keeps its number.
    RecordRevision {
        release: Release,
        failed: bool,
        number: u8,
        create: bool,
    },
    RaiseEpoch {
        color: usize,
        component: usize,
        kind: u8,
        epoch: u8,
    },
    DeleteObject {
        color: usize,
        component: usize,
        kind: u8,
    },
    DeleteRevision(usize),
}

/// The writes of a reconcile in groups. Without a group, the operator waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct InFlight {
    pub groups: Vec<Vec<Write>>,
}

/// The decision of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Number of the plan; 0 is to wait.
    pub plan: u32,
    /// True if the plan requeues the resource.
    pub requeues: bool,
}

/// The numbered values of one search.
pub struct Interner {
    pub ablation: Option<Ablation>,
    /// True if decisions are checked against the invariants.
    check_decisions: bool,
    /// True if another client may have changed objects.
    pub externally_changed: bool,
    /// True if a bad release is rolled back automatically.
    pub auto_rollback: bool,
    statuses: Vec<MetadataServicesStatus>,
    status_numbers: HashMap<u64, Vec<u32>>,
    aged: HashMap<(u32, TimeStep), u32>,
    plans: Vec<InFlight>,
    plan_numbers: HashMap<InFlight, u32>,
    decisions: HashMap<ApiState, Decision>,
}

/// Maximum number of cached decisions.
const MAX_CACHED_DECISIONS: usize = 3_000_000;

impl Interner {
    pub fn new(config: &Config) -> Self {
        Self {
            ablation: config.ablation,
            check_decisions: config.check_decisions,
            externally_changed: config.budget.external_deletes + config.budget.selector_changes > 0,
            auto_rollback: config.auto_rollback,
            statuses: vec![MetadataServicesStatus::default()],
            status_numbers: HashMap::new(),
            aged: HashMap::new(),
            plans: vec![InFlight::default()],
            plan_numbers: HashMap::new(),
            decisions: HashMap::new(),
        }
    }

    /// Returns the status of a number; `None` for 0.
    pub fn status(&self, id: u32) -> Option<&MetadataServicesStatus> {
        (id != 0).then(|| &self.statuses[index(id)])
    }

    pub fn step(&self, server: &ApiState) -> Option<Step> {
        Some(self.status(server.status)?.rollout.as_ref()?.step)
    }

    pub fn in_flight(&self, plan: u32) -> &InFlight {
        &self.plans[index(plan)]
    }

    /// Returns the `n`-th write of a plan, with its groups in order.
    pub fn write(&self, plan: u32, n: usize) -> Write {
        *self.in_flight(plan).groups.iter().flatten().nth(n).unwrap()
    }

    pub fn intern_status(&mut self, status: MetadataServicesStatus) -> u32 {
        let status = normalized(status);
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

    /// Returns the number of a status after an amount of time.
    pub fn age(&mut self, id: u32, elapsed: TimeStep) -> u32 {
        if id == 0 {
            return 0;
        }
        if let Some(known) = self.aged.get(&(id, elapsed)) {
            return *known;
        }
        let status = aged(self.statuses[index(id)].clone(), elapsed);
        let aged = self.intern_status(status);
        self.aged.insert((id, elapsed), aged);
        aged
    }

    /// Returns the number of a plan after an amount of time. Only the times of a status write change.
    pub fn age_plan(&mut self, plan: u32, elapsed: TimeStep) -> u32 {
        match self.in_flight(plan).groups.first().and_then(|group| group.first()) {
            Some(Write::UpdateStatus(status)) => {
                let aged = self.age(*status, elapsed);
                self.intern_plan(InFlight { groups: vec![vec![Write::UpdateStatus(aged)]] })
            }
            _ => plan,
        }
    }

    /// Returns the decision of a reconcile that reads this state.
    pub fn decide(&mut self, server: &ApiState) -> Result<Decision, Violation> {
        if let Some(known) = self.decisions.get(server) {
            return Ok(*known);
        }
        let (intent, facts) = (self.intent(server), self.facts(server));
        let status = self.status(server.status).cloned();
        let plan = self.plan(&intent, status.as_ref(), &facts);
        let decision = self.finish_decision(server, &intent, status.as_ref(), &facts, plan)?;
        if self.decisions.len() >= MAX_CACHED_DECISIONS {
            self.decisions.clear();
        }
        self.decisions.insert(*server, decision);
        Ok(decision)
    }

    fn plan(&self, intent: &Intent, status: Option<&MetadataServicesStatus>, facts: &Facts) -> Plan {
        match self.ablation {
            Some(ablation) => ablation.plan(intent, status, facts.clone(), now()),
            None => plan(intent, status, facts, now()),
        }
    }

    /// Checks a plan and assigns its number. A status that differs only in fields for users is no decision. In this
    /// case the result is the plan for that status.
    fn finish_decision(
        &mut self,
        server: &ApiState,
        intent: &Intent,
        status: Option<&MetadataServicesStatus>,
        facts: &Facts,
        plan: Plan,
    ) -> Result<Decision, Violation> {
        let mut plan = plan;
        if let Effect::UpdateStatus(new) = plan.effect.clone()
            && self.intern_status((*new).clone()) == server.status
        {
            plan = self.plan(intent, Some(&new), facts);
            if let Effect::UpdateStatus(again) = &plan.effect {
                return Err(format!("I30: written again and again: {again:?} after {new:?}"));
            }
        }
        if self.check_decisions {
            check_decision(
                &PlanInput {
                    intent,
                    status,
                    facts,
                    now: now(),
                    externally_changed: self.externally_changed,
                    status_edited: false,
                },
                &plan,
            )?;
        }
        let requeues = plan.requeue_after.is_some();
        let in_flight = self.translate(server, plan.effect);
        Ok(Decision { plan: self.intern_plan(in_flight), requeues })
    }

    /// Returns the decision of a reconcile that finds a taken name.
    pub fn explain(&mut self, server: &ApiState) -> Decision {
        let (intent, mut facts) = (self.intent(server), self.facts(server));
        facts.taken = vec!["an object (it has no controller)".into()];
        let plan = explain(&intent, self.status(server.status), &facts, now());
        let in_flight = plan.map_or_else(InFlight::default, |plan| self.translate(server, plan.effect));
        let same = matches!(in_flight.groups.first().map(Vec::as_slice), Some([Write::UpdateStatus(id)]) if *id == server.status);
        Decision { plan: if same { 0 } else { self.intern_plan(in_flight) }, requeues: true }
    }

    /// Returns the resource as the core sees it.
    pub fn intent(&self, server: &ApiState) -> Intent {
        let resource = &server.resource;
        let asked = |flag: bool| flag.then(|| "now".to_owned());
        Intent {
            name: "sample1".into(),
            namespace: "default".into(),
            generation: i64::from(resource.generation),
            deleted: resource.lifecycle != Lifecycle::Live,
            wanted: template(name(resource.spec)),
            violations: vec![],
            crd_outdated: None,
            policy: Policy { auto_rollback: self.auto_rollback, ..model_policy() },
            requests: Requests {
                rollback_to: (resource.rollback != 0).then(|| name(resource.rollback).to_owned()),
                retry: asked(resource.retry),
                restart: asked(resource.restart),
            },
            ports: PerComponent { storage: 9005, schema: 9006 },
            old_images: vec![],
        }
    }

    /// Returns the facts that the controller observes.
    pub fn facts(&self, server: &ApiState) -> Facts {
        let status = self.status(server.status);
        let since = status
            .and_then(|status| status.rollout.as_ref()?.timers.ready_since.as_ref())
            .map_or(NOW, |time| time.0.as_second());
        let cluster = Cluster {
            now: NOW,
            fronts: PerComponent::from_fn(|component| front(server, component)),
            cells: PerColor::from_fn(|color| {
                PerComponent::from_fn(|component| {
                    cell(server.cell(component, color), component, color, since)
                })
            }),
            revisions: revisions(server),
            ..Cluster::default()
        };
        cluster.facts(status)
    }

    fn translate(&mut self, server: &ApiState, effect: Effect) -> InFlight {
        let groups = match effect {
            Effect::Wait => vec![],
            Effect::UpdateStatus(status) => vec![vec![Write::UpdateStatus(self.intern_status(*status))]],
            Effect::PatchResource(patch) => vec![vec![patch_write(&patch)]],
            Effect::Write(groups) => groups
                .iter()
                .map(|group| group.iter().map(|action| write_for(server, action)).collect())
                .collect(),
        };
        InFlight { groups }
    }
}

fn index(id: u32) -> usize {
    usize::try_from(id).unwrap()
}

/// Returns a hash that differs for most statuses.
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

fn check_decision(input: &PlanInput, plan: &Plan) -> Result<(), Violation> {
    match &plan.effect {
        Effect::Wait => invariants::at_rest(input, plan, false),
        Effect::UpdateStatus(status) => invariants::status_update(input, status),
        Effect::Write(groups) => {
            groups.iter().flatten().try_for_each(|action| invariants::action(input, action))
        }
        Effect::PatchResource(patch) => check_patch(input, patch),
    }
}

/// I24: the operator restores only a release that has served.
fn check_patch(input: &PlanInput, patch: &ResourcePatch) -> Result<(), Violation> {
    let record = |version: &str| input.status.and_then(|status| status.record(version));
    match &patch.restore {
        Some(version) if record(version).is_none_or(|record| record.activated_at.is_none()) => {
            Err(format!("I24: {version} is restored, which never served"))
        }
        _ => Ok(()),
    }
}

fn patch_write(patch: &ResourcePatch) -> Write {
    let removes = |key: &str| patch.remove.contains(&key);
    Write::PatchResource {
        restore: patch.restore.as_deref().map_or(0, number),
        rollback: removes(ROLLBACK_TO),
        retry: removes(RETRY),
        restart: removes(RESTART),
    }
}

fn write_for(server: &ApiState, action: &Action) -> Write {
    match action {
        Action::CreateFront(component) => Write::CreateFront(of(*component)),
        Action::Route(component, route) => Write::Route {
            front: of(*component),
            selects: route.color,
            release: number(&route.version),
            epoch: u8::try_from(route.epoch).unwrap(),
        },
        Action::Create(id, tagged) => {
            let (color, component, kind) = place(id);
            let (release, epoch) = (number(&tagged.version), u8::try_from(tagged.epoch).unwrap());
            Write::CreateObject { color, component, kind, release, epoch }
        }
        Action::RecordRevision { tagged, failed } => {
            let release = number(&tagged.version);
            let own = |record: &&super::state::Revision| !record.orphan;
            let last = server.revisions.iter().filter(own).map(|record| record.number).max().unwrap_or(0);
            let seen = Some(server.revisions[usize::from(release) - 1])
                .filter(|seen| seen.number != 0 && !seen.orphan);
            let raised = seen.is_none_or(|seen| failed.is_none() && seen.number < last.max(1));
            let number = if raised { last + 1 } else { 0 };
            Write::RecordRevision { release, failed: failed.is_some(), number, create: seen.is_none() }
        }
        Action::RaiseEpoch(id, epoch) => {
            let (color, component, kind) = place(id);
            Write::RaiseEpoch { color, component, kind, epoch: u8::try_from(*epoch).unwrap() }
        }
        Action::Delete(ObjectId::Revision(version)) => {
            Write::DeleteRevision(usize::from(number(version)) - 1)
        }
        Action::Delete(id) => {
            let (color, component, kind) = place(id);
            Write::DeleteObject { color, component, kind }
        }
        Action::Adopt(_)
        | Action::AdoptFront(..)
        | Action::AdoptUnstamped(..)
        | Action::ApplySetting(_)
        | Action::ApplyServiceAccount => {
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

/// Returns the color whose grace period begins with a status.
pub fn grace_begins(
    before: Option<&MetadataServicesStatus>,
    after: &MetadataServicesStatus,
) -> Option<Color> {
    let timer = |status: &MetadataServicesStatus| status.rollout.as_ref()?.timers.ready_since.clone();
    let begun = timer(after).filter(|since| since.0.as_second() == seconds(Age::Fresh))?;
    let new = before.and_then(timer) != Some(begun);
    after.rollout.as_ref()?.target.as_ref().filter(|_| new).map(|target| target.strategy)
}
