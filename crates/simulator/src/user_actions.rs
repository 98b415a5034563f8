//! Actions of users and of other clients.

use super::cluster_state::Startup;
use super::{Sim, hash, template};
use api::names::{Color, Component};
use api::status::MetadataServicesStatus;
use rollout::facts::{Cause, ObjectId, ReleaseRef};

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

    /// Sets the startup behavior of the Pods of a template, for one component.
    pub fn set_startup(&mut self, name: &str, component: Component, startup: Startup) {
        self.cluster.startups.insert((hash(name), component), startup);
    }

    /// Makes the storage Pods of a template show a problem after their creation.
    pub fn fail_startup(&mut self, name: &str, cause: Cause) {
        self.set_startup(name, Component::Storage, Startup::Fails(cause));
    }
}

impl Sim {
    /// Deletes an object as another client does.
    pub fn delete_externally(&mut self, id: &ObjectId) {
        self.externally_changed = true;
        match id {
            ObjectId::Front(component) => *self.cluster.fronts.get_mut(*component) = None,
            other => self.delete(other),
        }
        self.cluster.tick();
    }

    /// Changes the selector of a front Service as another client does.
    pub fn change_selector(&mut self, component: Component, selects: Option<Color>) {
        self.externally_changed = true;
        self.cluster.fronts.get_mut(component).as_mut().unwrap().selects = selects;
        self.cluster.tick();
    }

    /// Lets the create of a canceled attempt arrive late, if the name is free on the inactive color. `kind` is 0 for
    /// the Deployment, 1 for the Service and 2 for the ConfigMap.
    pub fn late_create(&mut self, component: Component, kind: usize, version: &str) {
        let Some(status) = &self.status else { return };
        let (Some(active), Some(rollout)) = (status.active_strategy, &status.rollout) else { return };
        let (color, epoch) = (active.other(), rollout.epoch - 1);
        let tag = ReleaseRef { version: version.into(), hash: hash(version), epoch };
        let cell = self.cluster.cell_mut(component, color);
        match kind {
            0 if cell.deployment.is_none() => self.cluster.create_deployment(component, color, tag),
            1 => drop(cell.service.get_or_insert(tag)),
            2 => drop(cell.config.get_or_insert(tag)),
            _ => {}
        }
        self.cluster.tick();
    }

    /// Deletes the status, as a restore from backup or `kubectl replace --subresource=status` does.
    pub fn lose_status(&mut self) {
        self.status = None;
        self.checks.status_lost = true;
        self.checks.forget_epoch();
    }

    /// Writes the status as another client does.
    pub fn replace_status(&mut self, status: MetadataServicesStatus) {
        self.lose_status();
        self.status = Some(status);
        self.status_edited = true;
    }

    /// Deletes the status and all owner references, as a restore from backup does.
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
