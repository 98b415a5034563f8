//! The cluster of the simulator: the objects of one resource, and the work of controllers and nodes on them.

use std::collections::{BTreeMap, HashMap};

use api::names::{Color, Component, PerColor, PerComponent};
use api::status::{MetadataServicesStatus, PodRestarts, restarted_before};
use rollout::facts::{
    Cause, Deployment, DeploymentState, Facts, Front, FrontState, ObjectId, ObjectState, Pods, Problem,
    ReleaseRef, Revision, Workload,
};

/// Behavior of the Pods of a template after their creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Startup {
    /// The Pods become ready after this number of seconds.
    Ready(i64),
    /// The Pods show this problem and stay unready.
    Fails(Cause),
}

/// A Pod, with the fields that the core can see.
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

/// A Deployment as the API server stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDeployment {
    pub tag: ReleaseRef,
    pub desired: i32,
    pub problem: Option<Cause>,
    pub drifted_by: Vec<String>,
    pub observed: bool,
    /// The image that it ran when the operator adopted it; `None` for a Deployment of the operator.
    pub adopted: Option<String>,
}

/// The objects of one component on one color.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    pub deployment: Option<StoredDeployment>,
    pub terminating: bool,
    pub config: Option<ReleaseRef>,
    pub service: Option<ReleaseRef>,
    pub pods: Vec<Pod>,
    pub sets: bool,
}

/// A front Service, and the numbers of ready and listed endpoints in its `EndpointSlices` by color.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontService {
    pub selects: Option<Color>,
    pub exact: bool,
    pub version: Option<String>,
    pub epoch: i64,
    pub switched_at: Option<i64>,
    pub slices: PerColor<(u32, u32)>,
}

/// The objects on the API server, without the resource itself.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    pub now: i64,
    pub fronts: PerComponent<Option<FrontService>>,
    pub cells: PerColor<PerComponent<Cell>>,
    pub revisions: Vec<Revision>,
    pub startups: HashMap<(String, Component), Startup>,
    /// True if the `EndpointSlice` controller does nothing.
    pub slices_frozen: bool,
    /// True if Pods and ReplicaSets of a deleted Deployment stay until [`Cluster::collect`].
    pub deletions_delayed: bool,
    /// Number of replicas of a new Deployment.
    pub replicas: i32,
    pub pods_created: usize,
    /// Objects that an earlier operator made and that are not adopted, with the image of a Deployment.
    pub unstamped: BTreeMap<ObjectId, String>,
}

impl Cluster {
    pub fn cell(&self, component: Component, color: Color) -> &Cell {
        self.cells.get(color).get(component)
    }

    pub fn cell_mut(&mut self, component: Component, color: Color) -> &mut Cell {
        self.cells.get_mut(color).get_mut(component)
    }

    /// Creates a Pod for the Deployment of a cell, as the `ReplicaSet` controller and the kubelet do.
    pub fn create_pod(&mut self, component: Component, color: Color) {
        let Some(deployment) = self.cell(component, color).deployment.clone() else { return };
        let startup = self
            .startups
            .get(&(deployment.tag.hash.clone(), component))
            .copied()
            .unwrap_or(Startup::Ready(3));
        self.pods_created += 1;
        let name = format!("{component}-{color}-{}", self.pods_created);
        let now = self.now;
        let mut pod = Pod {
            name,
            version: deployment.tag.version.clone(),
            created: now,
            ready: false,
            due: None,
            changed: Some(now),
            restarts: 0,
            cause: None,
            disrupted: false,
        };
        match startup {
            Startup::Ready(after) => pod.due = Some(now + after),
            Startup::Fails(Cause::Quota | Cause::PodsRefused) => {
                let cell = self.cell_mut(component, color);
                cell.deployment.as_mut().unwrap().problem = startup_cause(startup);
                return;
            }
            Startup::Fails(Cause::ProgressDeadline) => {
                let cell = self.cell_mut(component, color);
                cell.deployment.as_mut().unwrap().problem = startup_cause(startup);
            }
            Startup::Fails(cause) => {
                pod.cause = Some(cause);
                pod.restarts = i32::from(cause == Cause::Crash);
            }
        }
        self.cell_mut(component, color).pods.push(pod);
    }

    pub fn create_deployment(&mut self, component: Component, color: Color, tag: ReleaseRef) {
        let active_replicas = self
            .cell(component, color.other())
            .deployment
            .as_ref()
            .map_or(0, |deployment| deployment.desired);
        let desired = self.replicas.max(active_replicas);
        let cell = self.cell_mut(component, color);
        assert!(cell.deployment.is_none(), "AlreadyExists: Deployment {component} {color}");
        cell.deployment = Some(StoredDeployment {
            tag,
            desired,
            problem: None,
            drifted_by: vec![],
            observed: true,
            adopted: None,
        });
        cell.sets = true;
        for _ in 0..desired {
            self.create_pod(component, color);
        }
    }

    /// Writes an epoch on an object of a color.
    pub fn raise_epoch(&mut self, id: &ObjectId, epoch: i64) {
        let tag = match id {
            ObjectId::Deployment(component, color) => {
                self.cell_mut(*component, *color).deployment.as_mut().map(|deployment| &mut deployment.tag)
            }
            ObjectId::Service(component, color) => self.cell_mut(*component, *color).service.as_mut(),
            ObjectId::ConfigMap(component, color) => self.cell_mut(*component, *color).config.as_mut(),
            ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => None,
        };
        tag.expect("404: no object to write the epoch on").epoch = epoch;
    }

    pub fn delete_deployment(&mut self, component: Component, color: Color) {
        let held = self.deletions_delayed;
        let cell = self.cell_mut(component, color);
        cell.deployment = None;
        cell.terminating = false;
        if !held {
            cell.pods.clear();
            cell.sets = false;
        }
    }

    /// Deletes Pods and ReplicaSets without a Deployment, as the garbage collector does.
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

    /// Returns the time of the next Pod that becomes ready by itself.
    pub fn next_event(&self) -> Option<i64> {
        let cells = Color::ALL
            .into_iter()
            .flat_map(|color| Component::ALL.into_iter().map(move |component| self.cell(component, color)));
        cells.flat_map(|cell| &cell.pods).filter_map(|pod| pod.due).min()
    }

    /// Does the due work of nodes and of the `EndpointSlice` controller.
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
        if !self.slices_frozen {
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
            let Some(selects) = self.fronts.get(component).as_ref().map(|front| front.selects) else {
                continue;
            };
            let slices = PerColor::from_fn(|color| counts(color, selects));
            self.fronts.get_mut(component).as_mut().unwrap().slices = slices;
        }
    }

    /// Returns the facts that the controller observes.
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
                PerComponent::from_fn(|component| {
                    workload(&self.stamped_cell(component, color), switched, &baseline)
                })
            }),
            revisions,
            predecessor: self.predecessor().filter(|_| rollout.is_none()),
            ..Facts::default()
        }
    }
}

fn startup_cause(startup: Startup) -> Option<Cause> {
    match startup {
        Startup::Fails(cause) => Some(cause),
        Startup::Ready(_) => None,
    }
}

fn front(front: Option<&FrontService>) -> Front {
    front.map_or(Front::Absent, |front| {
        Front::Present(FrontState {
            selects: front.selects,
            exact: front.exact,
            version: front.version.clone(),
            epoch: front.epoch,
            switched_at: front.switched_at,
            ready: PerColor::from_fn(|color| front.slices.get(color).0),
            listed: PerColor::from_fn(|color| front.slices.get(color).1),
            unknown: 0,
        })
    })
}

fn workload(cell: &Cell, switched: Option<i64>, baseline: &[PodRestarts]) -> Workload {
    let object = |tag: &Option<ReleaseRef>| tag.clone().map_or(ObjectState::Absent, ObjectState::Present);
    let count = |f: &dyn Fn(&&Pod) -> bool| i32::try_from(cell.pods.iter().filter(f).count()).unwrap();
    let deployment = match &cell.deployment {
        None => Deployment::Absent,
        Some(_) if cell.terminating => Deployment::Terminating,
        Some(deployment) => Deployment::Present(DeploymentState {
            tag: deployment.tag.clone(),
            observed: deployment.observed,
            desired: deployment.desired,
            updated: count(&|pod| pod.version == deployment.tag.version),
            ready: count(&|pod| pod.ready && pod.version == deployment.tag.version),
            available: count(&|pod| pod.ready && pod.version == deployment.tag.version),
            replicas: count(&|pod| pod.version == deployment.tag.version),
            adopted: deployment.adopted.clone(),
            drifted_by: deployment.drifted_by.clone(),
            problem: deployment.problem.map(|cause| Problem { cause, pod: None, said: format!("{cause:?}") }),
        }),
    };
    Workload {
        pods: pods(cell, switched, baseline),
        deployment,
        config_map: object(&cell.config),
        service: object(&cell.service),
        replica_sets: cell.sets,
    }
}

fn pods(cell: &Cell, switched: Option<i64>, baseline: &[PodRestarts]) -> Pods {
    let release = cell.deployment.as_ref().map(|deployment| deployment.tag.version.as_str());
    let mut sum = Pods::default();
    for pod in &cell.pods {
        sum.alive += 1;
        sum.ready += u32::from(pod.ready);
        sum.running += u32::from(pod.cause.is_none());
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
