//! What others do: the user, nodes and controllers, another hand, and misfortune.

use super::cluster::{Boot, Pod};
use super::{Sim, hash, template};
use api::names::{Color, Component};
use api::status::MetadataServicesStatus;
use rollout::facts::{Cause, ObjectId, ReleaseRef};

// === The user ===

impl Sim {
    /// Changes the release template in the spec.
    pub fn edit(&mut self, name: &str) {
        let wanted = template(name);
        self.templates.insert(wanted.hash.clone(), wanted.clone());
        self.intent.wanted = wanted;
        self.intent.generation += 1;
    }

    pub fn rollback_to(&mut self, version: &str) {
        self.intent.requests.rollback_to = Some(version.into());
    }

    pub fn retry(&mut self, value: &str) {
        self.intent.requests.retry = Some(value.into());
    }

    pub fn restart(&mut self, value: &str) {
        self.intent.requests.restart = Some(value.into());
    }

    pub fn pause(&mut self, paused: bool) {
        self.intent.policy.paused = paused;
        self.intent.generation += 1;
    }

    /// Pods of this template boot so, in one component.
    pub fn boots(&mut self, name: &str, component: Component, boot: Boot) {
        self.cluster.boots.insert((hash(name), component), boot);
    }

    /// Pods of this template's storage show a problem when they are created.
    pub fn breaks(&mut self, name: &str, cause: Cause) {
        self.boots(name, Component::Storage, Boot::Fails(cause));
    }
}

// === Nodes and controllers ===

impl Sim {
    fn pods(&mut self, component: Component, color: Color) -> &mut Vec<Pod> {
        &mut self.cluster.cell_mut(component, color).pods
    }

    /// A pod loses readiness until [`Sim::recover`].
    pub fn unready(&mut self, component: Component, color: Color, index: usize) {
        let now = self.cluster.now;
        let pod = &mut self.pods(component, color)[index];
        (pod.ready, pod.due, pod.changed) = (false, None, Some(now));
        self.cluster.tick();
    }

    /// All pods of a component lose readiness.
    pub fn all_unready(&mut self, component: Component, color: Color) {
        for index in 0..self.pods(component, color).len() {
            self.unready(component, color, index);
        }
    }

    /// Pods that are not ready become ready, and stay well.
    pub fn recover(&mut self, component: Component, color: Color) {
        let now = self.cluster.now;
        for pod in self.pods(component, color).iter_mut().filter(|pod| !pod.ready) {
            (pod.ready, pod.due, pod.changed, pod.cause) = (true, None, Some(now), None);
        }
        let cell = self.cluster.cell_mut(component, color);
        if let Some(dep) = &mut cell.deployment {
            dep.problem = None;
            let missing = usize::try_from(dep.desired).unwrap().saturating_sub(cell.pods.len());
            let tag = dep.tag.hash.clone();
            self.cluster.boots.insert((tag, component), Boot::Ready(0));
            for _ in 0..missing {
                self.cluster.spawn(component, color);
            }
        }
        self.cluster.tick();
    }

    /// Pods show this problem.
    pub fn suffer(&mut self, component: Component, color: Color, cause: Option<Cause>) {
        for pod in self.pods(component, color).iter_mut().filter(|pod| !pod.ready) {
            pod.cause = cause;
        }
    }

    /// A container ends and is started again at once.
    pub fn restart_pod(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color)[index].restarts += 1;
    }

    /// A drain: the pod gets the `DisruptionTarget` condition and loses readiness.
    pub fn evict(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color)[index].disrupted = true;
        self.unready(component, color, index);
    }

    /// A pod is deleted; its `ReplicaSet` makes another.
    pub fn replace_pod(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color).remove(index);
        self.cluster.spawn(component, color);
        self.cluster.tick();
    }

    /// An autoscaler adds a pod.
    pub fn scale_up(&mut self, component: Component, color: Color) {
        self.cluster.cell_mut(component, color).deployment.as_mut().unwrap().desired += 1;
        self.cluster.spawn(component, color);
    }
}

// === Another hand, and misfortune ===

impl Sim {
    /// Deletes an object by hand.
    pub fn remove(&mut self, id: &ObjectId) {
        self.tampered = true;
        match id {
            ObjectId::Front(component) => *self.cluster.fronts.get_mut(*component) = None,
            other => self.delete(other),
        }
        self.cluster.tick();
    }

    /// Points a front Service elsewhere by hand.
    pub fn drift(&mut self, component: Component, selects: Option<Color>) {
        self.tampered = true;
        self.cluster.fronts.get_mut(component).as_mut().unwrap().selects = selects;
        self.cluster.tick();
    }

    /// The create of an attempt that was given up lands after all, if the name is free on the color that does not serve:
    /// of the Deployment (0), the Service (1) or the ConfigMap (2).
    pub fn late_create(&mut self, component: Component, piece: usize, version: &str) {
        let Some(status) = &self.status else { return };
        let (Some(serves), Some(rollout)) = (status.active_strategy, &status.rollout) else { return };
        let (color, epoch) = (serves.other(), rollout.epoch - 1);
        let tag = ReleaseRef { version: version.into(), hash: hash(version), epoch };
        let cell = self.cluster.cell_mut(component, color);
        match piece {
            0 if cell.deployment.is_none() => self.cluster.create_deployment(component, color, tag),
            1 => drop(cell.service.get_or_insert(tag)),
            2 => drop(cell.config.get_or_insert(tag)),
            _ => {}
        }
        self.cluster.tick();
    }

    /// The status is lost: a restore from backup, or `kubectl replace --subresource=status`.
    pub fn lose_status(&mut self) {
        self.status = None;
        self.memory.lost = true;
        self.memory.forget_epoch();
    }

    /// Another hand writes the status.
    pub fn edit_status(&mut self, status: MetadataServicesStatus) {
        self.lose_status();
        self.status = Some(status);
        self.edited = true;
    }

    /// A restore from backup: every object is there without an owner, the status is not.
    pub fn orphan(&mut self) {
        self.lose_status();
        for component in Component::ALL {
            if self.cluster.fronts.get(component).is_some() {
                self.adoptable.push(ObjectId::Front(component));
            }
            for color in Color::ALL {
                if self.cluster.cell(component, color).deployment.is_some() {
                    self.adoptable.push(ObjectId::Deployment(component, color));
                    self.adoptable.push(ObjectId::Service(component, color));
                    self.adoptable.push(ObjectId::ConfigMap(component, color));
                }
            }
        }
        let revisions = self.cluster.revisions.iter();
        let revisions: Vec<_> = revisions.map(|known| ObjectId::Revision(known.version.clone())).collect();
        self.adoptable.extend(revisions);
        self.adoptable.sort();
    }
}
