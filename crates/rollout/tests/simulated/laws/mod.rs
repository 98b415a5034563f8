//! Each law is broken by a change of a good scene, so that none is a law that nothing breaks.

mod statuses;
mod writes;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use api::names::Color;
use api::status::{MetadataServicesStatus, Rollout, Step};
use rollout::facts::{Deployment, DeploymentState, Facts, Front, FrontState, Revision, Workload};
use rollout::intent::Intent;
use rollout::{Action, Effect, Plan, ReleaseRef, plan};
use simulator::Sim;
use simulator::laws::{self, Judgement};
use simulator::scene::Scene;
use simulator::templates::{says, words};

/// A decision, and what it was taken on.
struct Taken {
    intent: Intent,
    status: Option<MetadataServicesStatus>,
    facts: Facts,
    now: Timestamp,
    made: Plan,
}

/// The words of a law as they stand in the code, and what breaks it.
type Case = (&'static str, fn(&mut Taken));

impl Taken {
    fn of(sim: &Sim) -> Self {
        let (intent, status, facts, now) = (sim.intent.clone(), sim.status.clone(), sim.facts(), sim.now());
        let made = plan(&intent, status.as_ref(), &facts, now);
        Self { intent, status, facts, now, made }
    }

    fn judged(&self) -> Judgement {
        let (intent, status, facts, now) = (&self.intent, self.status.as_ref(), &self.facts, self.now);
        let scene = Scene { intent, status, facts, now, tampered: false, edited: false };
        match &self.made.effect {
            Effect::Wait => laws::rest(&scene, &self.made, false),
            Effect::UpdateStatus(new) => laws::commit(&scene, new),
            Effect::Write(groups) => laws::action(&scene, &groups[0][0]),
            Effect::PatchResource(amend) => panic!("no law is asked of {amend:?}"),
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
            other => panic!("{other:?} has no tag"),
        }
    }

    fn pointed(&mut self) -> &mut rollout::facts::Route {
        let Action::Route(_, route) = self.action() else { panic!("nothing is pointed") };
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

    /// The step began just now.
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

// === Scenes ===

/// What is decided when the next move is such a one.
fn before(sim: &Sim, is: impl Fn(Option<Step>, &Effect) -> bool) -> Taken {
    for writes in 0..100 {
        let mut sim = sim.clone();
        assert!(sim.stop_before(writes), "there is no such move\n{}", sim.story());
        let taken = Taken::of(&sim);
        if is(sim.step(), &taken.made.effect) {
            return taken;
        }
    }
    panic!("there is no such move")
}

fn step_of(next: &Effect) -> Option<Step> {
    let Effect::UpdateStatus(new) = next else { return None };
    Some(new.rollout.as_ref()?.step)
}

/// The decision to enter a step.
fn into(sim: &Sim, step: Step) -> Taken {
    before(sim, |from, next| from != Some(step) && step_of(next) == Some(step))
}

/// The decision to do such a thing first.
fn doing(sim: &Sim, is: impl Fn(&Action) -> bool) -> Taken {
    before(sim, |_, next| matches!(next, Effect::Write(groups) if is(&groups[0][0])))
}

/// `b` is wanted after `a`, which serves on blue.
fn upgrade() -> Sim {
    let mut sim = Sim::stable();
    sim.edit("b");
    sim
}

/// Fails unless each change of a good scene breaks the law it is for.
fn broken(scene: impl Fn() -> Taken, cases: &[Case]) -> Vec<&'static str> {
    let good = scene();
    assert_eq!(good.judged(), Ok(()), "{:?}", good.made);
    for (law, change) in cases {
        let mut taken = good.copy();
        change(&mut taken);
        let words = taken.judged().expect_err(law);
        assert!(says(&words, law), "{words}, where {law} was to break");
    }
    cases.iter().map(|(law, _)| *law).collect()
}

impl Taken {
    fn copy(&self) -> Self {
        let (intent, status, facts) = (self.intent.clone(), self.status.clone(), self.facts.clone());
        Self { intent, status, facts, now: self.now, made: self.made.clone() }
    }
}

#[test]
fn every_law_is_broken_by_a_change_of_a_good_scene() {
    let broken = [
        statuses::begun(),
        statuses::edges(),
        statuses::switches(),
        statuses::ways_to_prune(),
        statuses::histories(),
        statuses::what_people_read(),
        statuses::full(),
        writes::machines(),
        writes::creates(),
        writes::deletes(),
        writes::points(),
        writes::records(),
        writes::stamps(),
        writes::rests(),
    ]
    .concat();
    let laws = words(include_str!("../../../../simulator/src/laws.rs"));
    assert!(laws.len() > 70, "only {} laws: has their form changed?", laws.len());
    let missing: Vec<_> = laws.iter().filter(|law| !broken.contains(law)).collect();
    assert!(missing.is_empty(), "no case breaks {missing:#?}");
}
