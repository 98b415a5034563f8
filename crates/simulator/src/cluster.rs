//! The cluster of the simulator: the objects of one resource, and what controllers and nodes make of them.

use std::collections::HashMap;

use api::names::{Color, Component, PerColor, PerComponent};
use api::status::{MetadataServicesStatus, PodRestarts, restarted_before};
use rollout::facts::{
    Cause, Deployment, DeploymentState, Facts, Front, FrontState, ObjectId, ObjectState, Pods, Problem,
    ReleaseRef, Revision, Workload,
};

/// How pods of a template behave when they are created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// They become ready after so many seconds.
    Ready(i64),
    /// They show this problem and stay unready.
    Fails(Cause),
}

/// A pod, as far as the core can tell pods apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    pub name: String,
    pub version: String,
    pub created: i64,
    pub ready: bool,
    pub due: Option<i64>,
    pub changed: Option<i64>,
    pub restarts: i32,
    pub cause: Option<Cause>,
    pub disrupted: bool,
}

/// A Deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dep {
    pub tag: ReleaseRef,
    pub desired: i32,
    pub problem: Option<Cause>,
    pub drifted_by: Vec<String>,
    pub observed: bool,
}

/// The objects of one component on one color.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub deployment: Option<Dep>,
    pub terminating: bool,
    pub config: Option<ReleaseRef>,
    pub service: Option<ReleaseRef>,
    pub pods: Vec<Pod>,
    pub sets: bool,
}

/// A front Service and what its `EndpointSlices` list: (ready, listed) of each color.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Door {
    pub selects: Option<Color>,
    pub exact: bool,
    pub version: Option<String>,
    pub epoch: i64,
    pub switched_at: Option<i64>,
    pub slices: PerColor<(u32, u32)>,
}

/// Everything that is on the API server apart from the resource itself.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub now: i64,
    pub fronts: PerComponent<Option<Door>>,
    pub cells: PerColor<PerComponent<Cell>>,
    pub revisions: Vec<Revision>,
    pub boots: HashMap<(String, Component), Boot>,
    /// Whether `EndpointSlices` stand still.
    pub slices_held: bool,
    /// Whether what is deleted stays until [`Cluster::collect`].
    pub deletes_held: bool,
    /// Replicas that a new Deployment gets.
    pub replicas: i32,
    pub born: usize,
}

impl Cluster {
    pub fn cell(&self, component: Component, color: Color) -> &Cell {
        self.cells.get(color).get(component)
    }

    pub fn cell_mut(&mut self, component: Component, color: Color) -> &mut Cell {
        self.cells.get_mut(color).get_mut(component)
    }

    /// The `ReplicaSet` controller and kubelet: a new pod of a cell's Deployment.
    pub fn spawn(&mut self, component: Component, color: Color) {
        let Some(dep) = self.cell(component, color).deployment.clone() else { return };
        let boot = self.boots.get(&(dep.tag.hash.clone(), component)).copied().unwrap_or(Boot::Ready(3));
        self.born += 1;
        let name = format!("{component}-{color}-{}", self.born);
        let now = self.now;
        let mut pod = Pod {
            name,
            version: dep.tag.version.clone(),
            created: now,
            ready: false,
            due: None,
            changed: Some(now),
            restarts: 0,
            cause: None,
            disrupted: false,
        };
        match boot {
            Boot::Ready(after) => pod.due = Some(now + after),
            Boot::Fails(Cause::Quota | Cause::PodsRefused) => {
                let cell = self.cell_mut(component, color);
                cell.deployment.as_mut().unwrap().problem = boot_cause(boot);
                return;
            }
            Boot::Fails(Cause::ProgressDeadline) => {
                let cell = self.cell_mut(component, color);
                cell.deployment.as_mut().unwrap().problem = boot_cause(boot);
            }
            Boot::Fails(cause) => pod.cause = Some(cause),
        }
        self.cell_mut(component, color).pods.push(pod);
    }

    pub fn create_deployment(&mut self, component: Component, color: Color, tag: ReleaseRef) {
        let serving = self.cell(component, color.other()).deployment.as_ref().map_or(0, |dep| dep.desired);
        let desired = self.replicas.max(serving);
        let cell = self.cell_mut(component, color);
        assert!(cell.deployment.is_none(), "AlreadyExists: Deployment {component} {color}");
        cell.deployment = Some(Dep { tag, desired, problem: None, drifted_by: vec![], observed: true });
        cell.sets = true;
        for _ in 0..desired {
            self.spawn(component, color);
        }
    }

    /// Writes the number of a decision on an object of a color.
    pub fn stamp(&mut self, id: &ObjectId, epoch: i64) {
        let tag = match id {
            ObjectId::Deployment(component, color) => {
                self.cell_mut(*component, *color).deployment.as_mut().map(|dep| &mut dep.tag)
            }
            ObjectId::Service(component, color) => self.cell_mut(*component, *color).service.as_mut(),
            ObjectId::ConfigMap(component, color) => self.cell_mut(*component, *color).config.as_mut(),
            ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => None,
        };
        tag.expect("404: nothing to stamp").epoch = epoch;
    }

    pub fn delete_deployment(&mut self, component: Component, color: Color) {
        let held = self.deletes_held;
        let cell = self.cell_mut(component, color);
        cell.deployment = None;
        cell.terminating = false;
        if !held {
            cell.pods.clear();
            cell.sets = false;
        }
    }

    /// The garbage collector catches up.
    pub fn collect(&mut self) {
        for color in Color::ALL {
            for component in Component::ALL {
                let cell = self.cell_mut(component, color);
                if cell.deployment.is_none() {
                    cell.pods.clear();
                    cell.sets = false;
                }
            }
        }
    }

    /// When the next pod becomes ready by itself.
    pub fn next_event(&self) -> Option<i64> {
        let cells = Color::ALL
            .into_iter()
            .flat_map(|color| Component::ALL.into_iter().map(move |component| self.cell(component, color)));
        cells.flat_map(|cell| &cell.pods).filter_map(|pod| pod.due).min()
    }

    /// Nodes and the `EndpointSlice` controller do what is due.
    pub fn tick(&mut self) {
        let now = self.now;
        for color in Color::ALL {
            for component in Component::ALL {
                for pod in &mut self.cell_mut(component, color).pods {
                    if pod.due.is_some_and(|due| due <= now) {
                        pod.due = None;
                        pod.ready = true;
                        pod.cause = None;
                        pod.changed = Some(now);
                    }
                }
            }
        }
        if !self.slices_held {
            self.slice();
        }
    }

    fn slice(&mut self) {
        for component in Component::ALL {
            let counts = |color: Color, selects: Option<Color>| {
                let pods = &self.cells.get(color).get(component).pods;
                let listed = if selects == Some(color) { pods.len() } else { 0 };
                let ready = pods.iter().filter(|pod| pod.ready).count().min(listed);
                (u32::try_from(ready).unwrap(), u32::try_from(listed).unwrap())
            };
            let Some(selects) = self.fronts.get(component).as_ref().map(|door| door.selects) else {
                continue;
            };
            let slices = PerColor::from_fn(|color| counts(color, selects));
            self.fronts.get_mut(component).as_mut().unwrap().slices = slices;
        }
    }

    /// What the shell would tell the core.
    pub fn facts(&self, status: Option<&MetadataServicesStatus>) -> Facts {
        let rollout = status.and_then(|status| status.rollout.as_ref());
        let switched =
            rollout.and_then(|rollout| rollout.switched_at.as_ref()).map(|time| time.0.as_second());
        let baseline = rollout.map(|rollout| rollout.restarted_before.clone()).unwrap_or_default();
        let mut revisions = self.revisions.clone();
        revisions.sort_by_key(|revision| revision.number);
        Facts {
            front: PerComponent::from_fn(|component| front(self.fronts.get(component).as_ref())),
            colors: PerColor::from_fn(|color| {
                PerComponent::from_fn(|component| workload(self.cell(component, color), switched, &baseline))
            }),
            revisions,
            ..Facts::default()
        }
    }
}

fn boot_cause(boot: Boot) -> Option<Cause> {
    match boot {
        Boot::Fails(cause) => Some(cause),
        Boot::Ready(_) => None,
    }
}

fn front(door: Option<&Door>) -> Front {
    door.map_or(Front::Absent, |door| {
        Front::Present(FrontState {
            selects: door.selects,
            exact: door.exact,
            version: door.version.clone(),
            epoch: door.epoch,
            switched_at: door.switched_at,
            ready: PerColor::from_fn(|color| door.slices.get(color).0),
            listed: PerColor::from_fn(|color| door.slices.get(color).1),
            unknown: 0,
        })
    })
}

fn workload(cell: &Cell, switched: Option<i64>, baseline: &[PodRestarts]) -> Workload {
    let piece = |tag: &Option<ReleaseRef>| tag.clone().map_or(ObjectState::Absent, ObjectState::Present);
    let count = |f: &dyn Fn(&&Pod) -> bool| i32::try_from(cell.pods.iter().filter(f).count()).unwrap();
    let deployment = match &cell.deployment {
        None => Deployment::Absent,
        Some(_) if cell.terminating => Deployment::Terminating,
        Some(dep) => Deployment::Present(DeploymentState {
            tag: dep.tag.clone(),
            observed: dep.observed,
            desired: dep.desired,
            updated: count(&|pod| pod.version == dep.tag.version),
            ready: count(&|pod| pod.ready && pod.version == dep.tag.version),
            available: count(&|pod| pod.ready && pod.version == dep.tag.version),
            replicas: count(&|pod| pod.version == dep.tag.version),
            drifted_by: dep.drifted_by.clone(),
            problem: dep.problem.map(|cause| Problem { cause, pod: None, said: format!("{cause:?}") }),
        }),
    };
    Workload {
        pods: pods(cell, switched, baseline),
        deployment,
        config_map: piece(&cell.config),
        service: piece(&cell.service),
        replica_sets: cell.sets,
    }
}

fn pods(cell: &Cell, switched: Option<i64>, baseline: &[PodRestarts]) -> Pods {
    let release = cell.deployment.as_ref().map(|dep| dep.tag.version.as_str());
    let mut sum = Pods::default();
    for pod in &cell.pods {
        sum.alive += 1;
        sum.ready += u32::from(pod.ready);
        sum.last_transition = sum.last_transition.max(pod.changed);
        if release != Some(pod.version.as_str()) {
            sum.strays.push(pod.name.clone());
            sum.foreign.push(pod.name.clone());
        }
        if pod.restarts > 0 {
            sum.restarts.push((pod.name.clone(), pod.restarts));
        }
        if !pod.ready {
            let cause = pod.cause.unwrap_or(Cause::NotReady);
            let problem = Problem { cause, pod: Some(pod.name.clone()), said: format!("{cause:?}") };
            if sum.problem.as_ref().is_none_or(|known| cause < known.cause) {
                sum.problem = Some(problem);
            }
        }
        if pod.disrupted || switched.is_none_or(|at| pod.created >= at) {
            continue;
        }
        if !pod.ready {
            sum.unready_since_switch.push(pod.name.clone());
        }
        let before = restarted_before(baseline, &pod.name);
        if pod.restarts > before && sum.restarted_since_switch.is_none() {
            let said = "restarted after the switch: exit code 1".to_owned();
            sum.restarted_since_switch =
                Some(Problem { cause: Cause::Crash, pod: Some(pod.name.clone()), said });
        }
    }
    sum
}
