//! The objects of an earlier operator, and their adoption (design D27, D28).

use super::cluster_state::{Cell, Cluster, FrontService, Pod, StoredDeployment};
use super::invariants::{Violation, require};
use super::plan_input::{PlanInput, front};
use super::{START, Sim};
use api::names::{Color, Component, PerColor, PerComponent};
use rollout::Action;
use rollout::facts::{Image, ObjectId, Predecessor, ReleaseRef, UnstampedDeployment};

impl Cluster {
    /// Returns a cell without the objects of an earlier operator, which count as absent.
    pub(super) fn stamped_cell(&self, component: Component, color: Color) -> Cell {
        let mut cell = self.cell(component, color).clone();
        let hidden = |id| self.unstamped.contains_key(&id);
        cell.deployment = cell.deployment.filter(|_| !hidden(ObjectId::Deployment(component, color)));
        cell.service = cell.service.filter(|_| !hidden(ObjectId::Service(component, color)));
        cell.config = cell.config.filter(|_| !hidden(ObjectId::ConfigMap(component, color)));
        cell
    }

    /// Returns what an earlier operator left, if anything.
    pub(super) fn predecessor(&self) -> Option<Predecessor> {
        if self.unstamped.is_empty() {
            return None;
        }
        let deployment = |component, color| {
            let id = ObjectId::Deployment(component, color);
            let image = self.unstamped.get(&id)?;
            let cell = self.cell(component, color);
            let desired = cell.deployment.as_ref()?.desired;
            let ready = cell.pods.iter().filter(|pod| pod.ready).count();
            Some(UnstampedDeployment {
                uid: format!("{component}-{color}-uid"),
                image: Image::parse(image),
                is_complete: i32::try_from(ready) == Ok(desired),
            })
        };
        let others =
            self.unstamped.keys().filter(|id| matches!(id, ObjectId::Service(..) | ObjectId::ConfigMap(..)));
        Some(Predecessor {
            deployments: PerColor::from_fn(|color| PerComponent::from_fn(|of| deployment(of, color))),
            fronts: PerComponent::from_fn(|of| self.unstamped.contains_key(&ObjectId::Front(of))),
            others: others.cloned().collect(),
            obstacles: vec![],
        })
    }

    /// Adopts an object of an earlier operator for a release. Its Pods stay, and belong to the release then.
    pub fn adopt(&mut self, id: &ObjectId, tag: ReleaseRef) {
        let image = self.unstamped.remove(id).expect("422: the object carries a stamp");
        match id {
            ObjectId::Deployment(component, color) => {
                let cell = self.cell_mut(*component, *color);
                for pod in &mut cell.pods {
                    pod.version.clone_from(&tag.version);
                }
                let deployment = cell.deployment.as_mut().expect("404: no Deployment");
                (deployment.tag, deployment.adopted) = (tag, Some(image));
            }
            ObjectId::Service(component, color) => self.cell_mut(*component, *color).service = Some(tag),
            ObjectId::ConfigMap(component, color) => self.cell_mut(*component, *color).config = Some(tag),
            ObjectId::Front(_) | ObjectId::Revision(_) | ObjectId::Extra(_) => {
                panic!("no object to adopt: {id:?}")
            }
        }
    }
}

impl Sim {
    /// Adds the objects of a release with this image tag on a color, as an earlier operator leaves them: Deployment, color
    /// Service and ConfigMap of each component, with ready Pods.
    pub fn add_predecessor(&mut self, tag: &str, color: Color) {
        for component in Component::ALL {
            let ids = [
                ObjectId::Deployment(component, color),
                ObjectId::Service(component, color),
                ObjectId::ConfigMap(component, color),
            ];
            let image = format!("r/{component}:{tag}");
            self.cluster.unstamped.extend(ids.map(|id| (id, image.clone())));
            let replicas = self.cluster.replicas;
            let pod = |number: i32| Pod {
                name: format!("{component}-{color}-earlier-{number}"),
                version: String::new(),
                created: START - 3600,
                ready: true,
                due: None,
                changed: Some(START - 3500),
                restarts: 0,
                cause: None,
                disrupted: false,
            };
            *self.cluster.cell_mut(component, color) = Cell {
                deployment: Some(StoredDeployment {
                    tag: ReleaseRef::default(),
                    desired: replicas,
                    problem: None,
                    drifted_by: vec![],
                    observed: true,
                    adopted: None,
                }),
                config: Some(ReleaseRef::default()),
                service: Some(ReleaseRef::default()),
                pods: (0..replicas).map(pod).collect(),
                sets: true,
                ..Cell::default()
            };
        }
        self.cluster.tick();
    }

    /// Adds the front Services of an earlier operator, which select a color.
    pub fn add_predecessor_fronts(&mut self, storage: Option<Color>, schema: Option<Color>) {
        for (component, selects) in [(Component::Storage, storage), (Component::Schema, schema)] {
            self.cluster.unstamped.insert(ObjectId::Front(component), String::new());
            *self.cluster.fronts.get_mut(component) =
                Some(FrontService { selects, exact: selects.is_some(), ..FrontService::default() });
        }
        self.cluster.tick();
    }
}

/// I46: an object without a stamp is only adopted, and a front Service with traffic is adopted only if it keeps it.
pub fn adopted(input: &PlanInput, action: &Action) -> Result<(), Violation> {
    let Some(found) = &input.facts.predecessor else {
        return Err(format!("I46: {action:?} without an earlier operator"));
    };
    match action {
        Action::AdoptUnstamped(ObjectId::Deployment(component, color), _) => {
            let there = found.deployments.get(*color).get(*component).is_some();
            require!(there, "I46: {action:?} of an object with a stamp");
        }
        Action::AdoptUnstamped(id, _) => {
            require!(found.others.contains(id), "I46: {action:?} of a stamped object");
        }
        Action::AdoptFront(component, to) => {
            let (Some(seen), Some(color)) = (front(input, *component), to.color) else {
                return Err(format!("I46: {action:?} without a Service or a color"));
            };
            let has_traffic = Color::ALL.iter().any(|color| *seen.listed.get(*color) > 0) || seen.unknown > 0;
            let ready = input.facts.colors.get(color).get(*component).pods.ready > 0;
            require!(
                ready || !has_traffic || seen.selects == Some(color),
                "I46: {component} loses its traffic"
            );
        }
        _ => {}
    }
    Ok(())
}
