//! Violates each invariant of `simulator::invariants` by a change of a valid decision or its input, so that no check
//! is without effect.

mod status_cases;
mod write_cases;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use api::names::Color;
use api::status::{MetadataServicesStatus, Rollout, Step};
use rollout::facts::{Deployment, DeploymentState, Facts, Front, FrontState, Revision, Workload};
use rollout::intent::Intent;
use rollout::{Action, Effect, Plan, ReleaseRef, plan};
use simulator::Sim;
use simulator::invariants::{self, Violation};
use simulator::message_templates::{matches_template, templates};
use simulator::plan_input::PlanInput;

/// A decision and its input.
struct Decision {
    intent: Intent,
    status: Option<MetadataServicesStatus>,
    facts: Facts,
    now: Timestamp,
    made: Plan,
}

/// The message template of an invariant in the source code, and a change that violates it.
type Case = (&'static str, fn(&mut Decision));

impl Decision {
    fn of(sim: &Sim) -> Self {
        let (intent, status, facts, now) = (sim.intent.clone(), sim.status.clone(), sim.facts(), sim.now());
        let made = plan(&intent, status.as_ref(), &facts, now);
        Self { intent, status, facts, now, made }
    }

    fn check(&self) -> Result<(), Violation> {
        let (intent, status, facts, now) = (&self.intent, self.status.as_ref(), &self.facts, self.now);
        let input = PlanInput { intent, status, facts, now, externally_changed: false, status_edited: false };
        match &self.made.effect {
            Effect::Wait => invariants::at_rest(&input, &self.made, false),
            Effect::UpdateStatus(new) => invariants::status_update(&input, new),
            Effect::Write(groups) => invariants::action(&input, &groups[0][0]),
            Effect::PatchResource(patch) => panic!("no invariant covers {patch:?}"),
        }
    }

    fn status_from(&mut self) -> &mut MetadataServicesStatus {
        self.status.as_mut().unwrap()
    }

    fn rollout_from(&mut self) -> &mut Rollout {
        self.status_from().rollout.as_mut().unwrap()
    }

    fn status_to(&mut self) -> &mut MetadataServicesStatus {
        let Effect::UpdateStatus(new) = &mut self.made.effect else { panic!("no status") };
        new
    }

    fn rollout_to(&mut self) -> &mut Rollout {
        self.status_to().rollout.as_mut().unwrap()
    }

    fn enter(&mut self, step: Step) {
        self.rollout_to().step = step;
        self.status_to().deployment_phase = step.phase().map(str::to_owned);
    }

    fn records(&mut self) -> &mut Vec<api::status::ReleaseRecord> {
        &mut self.status_to().release_history
    }

    fn condition(&mut self, kind: &str) -> &mut k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition {
        self.status_to().conditions.iter_mut().find(|found| found.type_ == kind).unwrap()
    }

    fn action(&mut self) -> &mut Action {
        let Effect::Write(groups) = &mut self.made.effect else { panic!("no action") };
        &mut groups[0][0]
    }

    fn tagged(&mut self) -> &mut ReleaseRef {
        match self.action() {
            Action::Create(_, tagged) | Action::RecordRevision { tagged, .. } => tagged,
            other => panic!("{other:?} has no release"),
        }
    }

    fn route(&mut self) -> &mut rollout::facts::Route {
        let Action::Route(_, route) = self.action() else { panic!("no route") };
        route
    }

    fn front(&mut self) -> &mut FrontState {
        let Front::Present(front) = &mut self.facts.front.storage else { panic!("no front Service") };
        front
    }

    fn storage(&mut self, color: Color) -> &mut Workload {
        &mut self.facts.colors.get_mut(color).storage
    }

    fn deployment(&mut self, color: Color) -> &mut DeploymentState {
        let Deployment::Present(found) = &mut self.storage(color).deployment else { panic!("no Deployment") };
        found
    }

    /// Sets the start of the step to now.
    fn begin(&mut self) {
        self.rollout_from().since = Time(self.now);
    }

    fn know(&mut self, version: &str, failed: Option<&str>) {
        let known = self.facts.revisions[0].clone();
        let (version, failed) = (version.to_owned(), failed.map(str::to_owned));
        self.facts.revisions.retain(|known| known.version != version);
        self.facts.revisions.push(Revision {
            hash: format!("{version}-hash"),
            version,
            failed,
            number: 99,
            ..known
        });
    }
}

// === Inputs ===

/// Runs until the next effect meets the condition, and returns the decision.
fn before(sim: &Sim, is: impl Fn(Option<Step>, &Effect) -> bool) -> Decision {
    for writes in 0..100 {
        let mut sim = sim.clone();
        assert!(sim.stop_before(writes), "there is no such move\n{}", sim.trace_text());
        let decision = Decision::of(&sim);
        if is(sim.step(), &decision.made.effect) {
            return decision;
        }
    }
    panic!("there is no such move")
}

fn step_of(next: &Effect) -> Option<Step> {
    let Effect::UpdateStatus(new) = next else { return None };
    Some(new.rollout.as_ref()?.step)
}

/// Returns the decision to enter a step.
fn into(sim: &Sim, step: Step) -> Decision {
    before(sim, |from, next| from != Some(step) && step_of(next) == Some(step))
}

/// Returns the decision whose first write meets the condition.
fn doing(sim: &Sim, is: impl Fn(&Action) -> bool) -> Decision {
    before(sim, |_, next| matches!(next, Effect::Write(groups) if is(&groups[0][0])))
}

/// Returns a resource with `a` active on blue and `b` in the spec.
fn upgrade() -> Sim {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim
}

/// Fails unless each change of the valid decision violates its invariant.
fn violated(input: impl Fn() -> Decision, cases: &[Case]) -> Vec<&'static str> {
    let good = input();
    assert_eq!(good.check(), Ok(()), "{:?}", good.made);
    for (template, change) in cases {
        let mut decision = good.copy();
        change(&mut decision);
        let violation = decision.check().expect_err(template);
        assert!(matches_template(&violation, template), "{violation}: expected {template}");
    }
    cases.iter().map(|(template, _)| *template).collect()
}

impl Decision {
    fn copy(&self) -> Self {
        let (intent, status, facts) = (self.intent.clone(), self.status.clone(), self.facts.clone());
        Self { intent, status, facts, now: self.now, made: self.made.clone() }
    }
}

#[test]
fn every_decision_invariant_is_violated_by_a_changed_input() {
    let violated = [
        status_cases::recoveries(),
        status_cases::transitions(),
        status_cases::switches(),
        status_cases::prune_entries(),
        status_cases::histories(),
        status_cases::public_fields(),
        status_cases::full(),
        write_cases::persisted(),
        write_cases::creates(),
        write_cases::deletes(),
        write_cases::routes(),
        write_cases::revisions(),
        write_cases::epochs(),
        write_cases::rests(),
    ]
    .concat();
    let mut known = templates(include_str!("../../../../simulator/src/invariants.rs"));
    known.extend(templates(include_str!("../../../../simulator/src/public_status.rs")));
    assert!(known.len() > 70, "only {} templates: has their form changed?", known.len());
    let missing: Vec<_> = known.iter().filter(|template| !violated.contains(template)).collect();
    assert!(missing.is_empty(), "no case violates {missing:#?}");
}
