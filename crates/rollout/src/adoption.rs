//! The adoption of objects that an earlier operator made (design D27).
//!
//! The release that receives traffic is adopted object by object: labels and annotations, never a template, a selector of
//! Pods or a size. The writes do not depend on each other, and a crash between two of them changes no later one. When
//! nothing is left to write, the objects look like those of a lost status, and recovery builds the status from them.
//!
//! Objects that cannot be adopted are left alone and named.

use api::names::{Color, Component, PerComponent};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord};
use jiff::Timestamp;

use crate::conditions;
use crate::facts::{
    Facts, Front, FrontState, Image, ObjectId, Predecessor, ReleaseRef, Route, UnstampedDeployment, Workload,
};
use crate::intent::Intent;
use crate::plan::{Action, EventNote, EventReason, Plan};

/// Seconds until an adoption that was refused is tried again: no watch shows objects without a stamp.
const TRY_AGAIN: i64 = 30;
/// The longest version that is taken over from an earlier operator.
const VERSION_MAX: usize = 63;

/// The plan that adopts what receives traffic; `None` if nothing is left to adopt.
pub(crate) fn plan(
    intent: &Intent,
    before: &MetadataServicesStatus,
    facts: &Facts,
    now: Timestamp,
) -> Option<Plan> {
    let found = facts.predecessor.as_ref()?;
    match adopt(intent, before, facts, found) {
        Ok(groups) => Plan::write(groups),
        Err(why) => Some(refuse(intent, before, "CannotAdopt", &why, now)),
    }
}

/// The plan that reports why objects are not adopted.
pub(crate) fn refuse(
    intent: &Intent,
    before: &MetadataServicesStatus,
    reason: &str,
    why: &str,
    now: Timestamp,
) -> Plan {
    let status = conditions::not_adopted(intent, before, reason, why, now);
    conditions::report(before, status, Plan::wait(TRY_AGAIN))
}

/// The writes that are left, or why the objects cannot be adopted.
fn adopt(
    intent: &Intent,
    before: &MetadataServicesStatus,
    facts: &Facts,
    found: &Predecessor,
) -> Result<Vec<Vec<Action>>, String> {
    let color = serving_color(before, facts, found).map_err(|why| {
        let all = found.obstacles.iter().map(|(_, obstacle)| obstacle.as_str());
        std::iter::once(why.as_str()).chain(all).collect::<Vec<_>>().join("; ")
    })?;
    let Some(color) = color else { return Ok(vec![]) };
    let on_color = |id: &ObjectId| match id {
        ObjectId::Front(_) => true,
        ObjectId::Deployment(_, on) | ObjectId::Service(_, on) | ObjectId::ConfigMap(_, on) => *on == color,
        ObjectId::Revision(_) | ObjectId::Extra(_) => false,
    };
    let obstacles = found.obstacles.iter().filter(|(id, _)| on_color(id)).map(|(_, why)| why.as_str());
    let obstacles: Vec<&str> = obstacles.collect();
    if !obstacles.is_empty() {
        return Err(format!(
            "objects of an earlier operator are left alone, since they cannot be adopted: {}",
            obstacles.join("; ")
        ));
    }
    let absent = facts.front.iter().filter(|(_, front)| **front == Front::Absent);
    let fronts: Vec<_> = absent.map(|(component, _)| Action::CreateFront(component)).collect();
    if !fronts.is_empty() {
        return Ok(vec![fronts]);
    }
    let tag = release(intent, before, facts, found, color);
    let route = Route {
        color: Some(color),
        version: tag.version.clone(),
        epoch: epoch(before, facts, color, &tag.version),
    };
    let mut fronts = vec![];
    for (component, front) in facts.front.iter() {
        let Some(state) = front.state() else { return Err("a front Service is being deleted".into()) };
        if *found.fronts.get(component) || !state.routes_to(&route) {
            keeps_traffic(facts, found, component, state, color)?;
            fronts.push(Action::AdoptFront(component, route.clone()));
        }
    }
    let adopt = |id: ObjectId| Action::AdoptUnstamped(id, tag.clone());
    let others = found.others.iter().filter(|id| on_color(id)).cloned().map(adopt).collect();
    let deployments = found.deployments.get(color).iter().filter(|(_, found)| found.is_some());
    let deployments = deployments.map(|(component, _)| adopt(ObjectId::Deployment(component, color)));
    // The Deployments come last: while one has no stamp, a crash leads back here.
    Ok(vec![fronts, others, deployments.collect()])
}

/// The color that receives traffic: by both front Services, else by the earlier status, else the only complete one, else
/// the only one with a Deployment. `None` if there is no Deployment and no traffic either.
fn serving_color(
    before: &MetadataServicesStatus,
    facts: &Facts,
    found: &Predecessor,
) -> Result<Option<Color>, String> {
    let holds = |color: &Color| holds(facts, found, *color);
    let complete = |color: &Color| {
        let of = found.deployments.get(*color);
        of.all(|one| one.as_ref().is_some_and(|one| one.is_complete))
    };
    let selects = |component| facts.front.get(component).state().and_then(|state| state.selects);
    let selected = selects(Component::Storage).filter(|color| selects(Component::Schema) == Some(*color));
    let only = |is: &dyn Fn(&Color) -> bool| {
        let mut all = Color::ALL.into_iter().filter(is);
        all.next().filter(|_| all.next().is_none())
    };
    // A release of this operator has the traffic: recovery goes on with it, and the rest is left over.
    let own = |color: &Color| {
        let made = |workload: &Workload| workload.deployment.state().is_some_and(|one| one.adopted.is_none());
        facts.colors.get(*color).any(made)
    };
    if selected.as_ref().is_some_and(own) {
        return Ok(None);
    }
    let ways = [selected, before.active_strategy, only(&complete), only(&holds)];
    if let Some(color) = ways.into_iter().flatten().find(holds) {
        return Ok(Some(color));
    }
    let any_traffic = facts.front.any(|front| front.state().is_some_and(is_listed));
    if Color::ALL.iter().any(holds) {
        let text = "both colors have Deployments of an earlier operator, and neither the front Services nor \
            status.activeStrategy tell which one receives traffic. Remedy: delete the Deployments of the color that clients \
            do not use";
        return Err(text.into());
    }
    if any_traffic {
        let text = "the front Services of an earlier operator send traffic to Pods of other Deployments, so they are left \
            alone. Remedy: give this resource another name, or delete the front Services when clients no longer use them";
        return Err(text.into());
    }
    Ok(None)
}

/// Returns whether a color has a Deployment of an earlier operator, adopted or not.
fn holds(facts: &Facts, found: &Predecessor, color: Color) -> bool {
    let adopted = |workload: &Workload| workload.deployment.state().is_some_and(|one| one.adopted.is_some());
    found.deployments.get(color).any(Option::is_some) || facts.colors.get(color).any(adopted)
}

/// The epoch of the adoption: the one on a front Service that is adopted already, if no front Service has a later one; else
/// the next one. A crash in between therefore changes no number, and no number decreases.
fn epoch(before: &MetadataServicesStatus, facts: &Facts, color: Color, version: &str) -> i64 {
    let fronts = || facts.front.iter().filter_map(|(_, front)| front.state());
    let latest = fronts().map(|state| state.epoch).max().unwrap_or(0);
    let is_adopted = |state: &FrontState| {
        state.epoch == latest && state.selects == Some(color) && state.version.as_deref() == Some(version)
    };
    if latest > 0 && fronts().any(is_adopted) {
        return latest;
    }
    facts.highest_epoch(before.rollout.as_ref().map(|one| one.epoch)) + 1
}

fn is_listed(state: &FrontState) -> bool {
    Color::ALL.iter().any(|color| *state.listed.get(*color) > 0) || state.unknown > 0
}

/// Refuses to change the selector of a Service that has traffic while no Pod of the color is ready, or while the traffic goes
/// to Pods that no Deployment of the earlier operator made.
fn keeps_traffic(
    facts: &Facts,
    found: &Predecessor,
    component: Component,
    state: &FrontState,
    color: Color,
) -> Result<(), String> {
    let same = state.exact && state.selects == Some(color);
    let known = state.selects.is_none_or(|selected| holds(facts, found, selected));
    let ready = facts.colors.get(color).get(component).pods.ready > 0;
    if same || (known && ready) || !is_listed(state) {
        return Ok(());
    }
    Err(format!(
        "the front Service of {component} sends traffic to other Pods than those of the Deployment on {color}, or no \
         {component} Pod on {color} is ready. Remedy: make the Deployment on {color} ready, and select its Pods with the \
         front Service"
    ))
}

/// The adopted release. It has the template of the spec if the image tags are those that run, else none.
///
/// The same objects give the same release also after a part of them was adopted.
fn release(
    intent: &Intent,
    before: &MetadataServicesStatus,
    facts: &Facts,
    found: &Predecessor,
    color: Color,
) -> ReleaseRef {
    let running = found.deployments.get(color);
    let stamped = |component| {
        let state = facts.colors.get(color).get(component).deployment.state()?;
        state.adopted.as_ref().map(|_| &state.tag)
    };
    if let Some(tag) = Component::ALL.into_iter().find_map(stamped) {
        return tag.clone();
    }
    let tag = |component: Component| Some(running.get(component).as_ref()?.image.tag.as_str());
    let same = |component: Component| tag(component) == Some(&intent.wanted.images.get(component).tag);
    let readable = intent.violations.is_empty() && intent.crd_outdated.is_none();
    let is_of_spec = readable && Component::ALL.into_iter().all(same);
    let hash = if is_of_spec { intent.wanted.hash.clone() } else { String::new() };
    let version = version(before, facts, running, &hash);
    let epoch = epoch(before, facts, color, &version);
    ReleaseRef { version, hash, epoch }
}

/// The version of the earlier operator, if no recorded release has it; else one that the UID of a Deployment gives.
fn version(
    before: &MetadataServicesStatus,
    facts: &Facts,
    running: &PerComponent<Option<UnstampedDeployment>>,
    hash: &str,
) -> String {
    let taken = |version: &str| {
        facts.revisions.iter().any(|revision| revision.version == version && revision.hash != hash)
    };
    let known = before.active_release_version.clone();
    if let Some(known) = known.filter(|one| !one.is_empty() && one.len() <= VERSION_MAX && !taken(one)) {
        return known;
    }
    let uid = running.iter().find_map(|(_, one)| Some(one.as_ref()?.uid.clone())).unwrap_or_default();
    format!("adopted-{}", uid.get(..8).unwrap_or(&uid))
}

/// The images of an adopted color; `None` if neither Deployment is adopted.
pub(crate) fn images(color: &PerComponent<Workload>) -> Option<PerComponent<Image>> {
    let image = |component| color.get(component).deployment.state()?.adopted.as_deref().map(Image::parse);
    let found = PerComponent::from_fn(image);
    found.any(Option::is_some).then(|| PerComponent::from_fn(|of| found.get(of).clone().unwrap_or_default()))
}

/// Keeps the records of an earlier operator for display. They have no template, so they are no rollback targets.
pub(crate) fn keep_history(history: &mut Vec<ReleaseRecord>, before: &MetadataServicesStatus) {
    if before.rollout.is_some() {
        return;
    }
    let known: Vec<String> = history.iter().map(|record| record.version.clone()).collect();
    let mut seen = std::collections::HashSet::new();
    let mut earlier: Vec<ReleaseRecord> = before
        .release_history
        .iter()
        .filter(|record| record.hash.is_empty() && !record.version.is_empty())
        .filter(|record| !known.contains(&record.version) && seen.insert(record.version.clone()))
        .cloned()
        .collect();
    for record in &mut earlier {
        if record.status != RecordStatus::Failed {
            record.status = RecordStatus::Superseded;
            record.activated_at.get_or_insert_with(|| record.timestamp.clone());
        }
    }
    earlier.append(history);
    *history = earlier;
}

/// The Event of an adoption, which names the objects that stay behind. `None` if nothing was adopted.
pub(crate) fn event(
    before: &MetadataServicesStatus,
    status: &MetadataServicesStatus,
    facts: &Facts,
) -> Option<EventNote> {
    let side = status.active().filter(|_| before.rollout.is_none())?;
    images(facts.colors.get(side.strategy))?;
    let whole = status.record(&side.version).is_some_and(|record| !record.hash.is_empty());
    let kind = if whole {
        "it runs the images of the spec"
    } else {
        "its template is unknown, so it is no rollback target after the next release"
    };
    let mut left: Vec<String> = vec![];
    if let Some(found) = &facts.predecessor {
        let other = side.strategy.other();
        let deployments = found.deployments.get(other).iter().filter(|(_, one)| one.is_some());
        left.extend(deployments.map(|(component, _)| format!("the {component} Deployment of {other}")));
        left.extend(found.others.iter().filter_map(|id| match id {
            ObjectId::Service(component, color) => Some(format!("the {component} Service of {color}")),
            ObjectId::ConfigMap(component, color) => Some(format!("the {component} ConfigMap of {color}")),
            _ => None,
        }));
    }
    let left = if left.is_empty() {
        String::new()
    } else {
        format!(". Left alone: {}. Delete them before the next release if nothing uses them", left.join(", "))
    };
    let text = format!(
        "adopted {} on {} from an earlier operator without a change to its Pods; {kind}{left}",
        side.version, side.strategy
    );
    Some(EventNote::new(EventReason::Adopted, text))
}
