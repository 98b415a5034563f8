//! Writes, each with its precondition (design D15, D22): objects are created by POST, changed by patches that carry
//! the resourceVersion they were decided on, deleted by UID and resourceVersion. A write that fails ends there; it is
//! never sent again with newer preconditions.

use std::fmt::Debug;
use std::sync::Arc;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::apps::v1::{ControllerRevision, Deployment};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Scope;
use super::error::Error;
use crate::observe::derive::{Ownership, World, describe_foreign, ownership};
use crate::observe::settings;
use crate::observe::views::Meta;
use api::names::{self, Component, MANAGER, Owner};
use api::template::{ReleaseHash, ReleaseTemplate};
use api::{MetadataServices, MetadataServicesStatus};
use rollout::facts::{Extra, ObjectId, Setting};
use rollout::{Action, ResourcePatch};

/// Whether an object of ours lacks a label by which it is found: another hand took it away.
fn is_unlabelled<K: Resource>(there: &PartialObjectMeta<K>, wanted: &impl ResourceExt) -> bool {
    let has = |key: &str| there.labels().get(key) == wanted.labels().get(key);
    there.metadata.deletion_timestamp.is_none()
        && ![names::LABEL_APP, names::LABEL_MANAGED_BY].into_iter().all(has)
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is done.
    Done,
    /// The names are held by objects of others.
    Taken(Vec<String>),
    /// The API server does not accept the template that was to be restored.
    Unrestorable(String),
}

/// Writes for one resource, on what was read of it.
pub struct Writer<'a> {
    pub(super) scope: &'a Scope,
    /// The resource as it was read.
    pub resource: &'a MetadataServices,
    /// Its objects as they were read.
    pub world: &'a World,
    /// The resource as an owner.
    pub owner: Owner,
}

impl Writer<'_> {
    /// Replaces the status, if the resource is still as it was read; answers the resource as it is then.
    pub async fn status(&self, status: &MetadataServicesStatus) -> Result<MetadataServices, Error> {
        let what = format!("writing the status of MetadataServices {}", self.owner.name);
        self.guard(&what)?;
        let mut object = self.resource.clone();
        object.metadata.managed_fields = None;
        object.status = Some(status.clone());
        let api: Api<MetadataServices> = self.api();
        api.replace_status(&self.owner.name, &post(), &object)
            .await
            .map_err(|source| Error::change(what, format!("MetadataServices {}", self.owner.name), source))
    }

    /// Changes the resource's spec and annotations in one patch.
    pub async fn amend(&self, amend: &ResourcePatch) -> Result<Written, Error> {
        let what = format!("changing MetadataServices {}", self.owner.name);
        self.guard(&what)?;
        let annotations: serde_json::Map<String, Value> =
            amend.remove.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let mut patch = json!({"metadata": {
            "resourceVersion": self.resource.resource_version(), "annotations": annotations,
        }});
        if let Some(version) = &amend.restore
            && let Some(spec) = self.restored(version)?
        {
            patch.as_object_mut().map(|patch| patch.insert("spec".into(), spec));
        }
        let api: Api<MetadataServices> = self.api();
        let answer = api.patch(&self.owner.name, &patching(), &Patch::Merge(&patch)).await;
        match answer {
            Ok(_) => Ok(Written::Done),
            Err(kube::Error::Api(status)) if status.code == 422 && amend.restore.is_some() => {
                Ok(Written::Unrestorable(status.message.clone()))
            }
            Err(source) => Err(Error::change(what, format!("MetadataServices {}", self.owner.name), source)),
        }
    }

    /// The change of the spec that restores a recorded template; `None` if the spec is that already.
    fn restored(&self, version: &str) -> Result<Option<Value>, Error> {
        let template = template_of(self.resource, self.world, version)
            .ok_or_else(|| Error::Moved(format!("the ControllerRevision of {version}")))?;
        let render = |error: serde_json::Error| Error::Render {
            object: format!("the spec of {version}"),
            reason: error.to_string(),
        };
        let before = serde_json::to_value(&self.resource.spec).map_err(render)?;
        let after = serde_json::to_value(template.restore_into(&self.resource.spec)).map_err(render)?;
        Ok(merge_patch(&before, &after))
    }

    /// Carries out actions, group after group; those of a group side by side. All of a group are awaited: one that
    /// fails does not cut off its siblings.
    pub async fn act(&self, groups: &[Vec<Action>]) -> Result<Written, Error> {
        for group in groups {
            let answers = futures::future::join_all(group.iter().map(|action| self.one(action))).await;
            let (mut taken, mut failed) = (vec![], vec![]);
            for answer in answers {
                match answer {
                    Ok(Written::Done) => {}
                    Ok(Written::Taken(names)) => taken.extend(names),
                    Ok(other @ Written::Unrestorable(_)) => return Ok(other),
                    Err(error) => failed.push(error),
                }
            }
            if let Some(worst) = Error::worst(failed) {
                return Err(worst);
            }
            if !taken.is_empty() {
                taken.sort();
                return Ok(Written::Taken(taken));
            }
        }
        Ok(Written::Done)
    }

    async fn one(&self, action: &Action) -> Result<Written, Error> {
        match action {
            Action::CreateFront(component) => self.create(self.new_front(*component)).await,
            Action::Route(component, route) => {
                let seen = seen(&self.world.services, &names::front(&self.owner.name, *component))?;
                let patch = self.point(seen, *component, route);
                self.patch::<Service>(seen.object_name(), &patch).await
            }
            Action::Create(id, tagged) => self.create_part(id, tagged).await,
            Action::Adopt(id) => self.adopt(id).await,
            Action::RaiseEpoch(id, epoch) => self.stamp(id, *epoch).await,
            Action::RecordRevision { tagged, failed } => self.record(tagged, failed.as_deref()).await,
            Action::Delete(id) => self.delete(id).await,
            Action::ApplySetting(setting) => self.settle(*setting).await,
            Action::ApplyServiceAccount => self.settle(Setting::ACCOUNT).await,
        }
    }

    /// A write starts only while this instance leads for sure.
    pub(super) fn guard(&self, what: &str) -> Result<(), Error> {
        if self.scope.leadership.may_write() { Ok(()) } else { Err(Error::NotLeading(what.to_owned())) }
    }

    pub(super) fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.scope.client.clone(), &self.owner.namespace)
    }

    /// Creates an object; one that is there already is looked at to learn whose it is.
    pub(super) async fn create<K>(&self, object: K) -> Result<Written, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let kind = K::kind(&());
        let name = object.name_any();
        let what = format!("creating {kind} {name}");
        self.guard(&what)?;
        match self.api::<K>().create(&post(), &object).await {
            Ok(_) => Ok(Written::Done),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let api: Api<PartialObjectMeta<K>> = self.api();
                let there = api.get_opt(&name).await.map_err(|source| Error::read(&kind, &name, source))?;
                match there {
                    Some(there) if ownership(&there, &self.owner) == Ownership::Foreign => {
                        Ok(Written::Taken(vec![describe_foreign(&kind, &there)]))
                    }
                    Some(there) if is_unlabelled(&there, &object) => self.label(&there, &object).await,
                    _ => Err(Error::Moved(format!("{kind} {name}"))),
                }
            }
            Err(source) => Err(Error::write(what, source)),
        }
    }

    /// Puts back the labels by which an object of ours is found. What it is otherwise, the next look shows.
    async fn label<K>(&self, there: &PartialObjectMeta<K>, wanted: &K) -> Result<Written, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let patch = json!({"metadata": {
            "resourceVersion": there.metadata.resource_version, "labels": wanted.meta().labels,
        }});
        self.patch::<K>(&there.name_any(), &patch).await
    }

    /// Applies a merge patch that carries its own resourceVersion.
    pub(super) async fn patch<K>(&self, name: &str, patch: &Value) -> Result<Written, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let object = format!("{} {name}", K::kind(&()));
        let what = format!("patching {object}");
        self.guard(&what)?;
        // The answer is not looked at: metadata is the least of it.
        let api: Api<PartialObjectMeta<K>> = self.api();
        api.patch(name, &patching(), &Patch::Merge(patch))
            .await
            .map(|_| Written::Done)
            .map_err(|source| Error::change(what, object, source))
    }

    async fn delete_seen<K, T: Meta>(&self, seen: &T) -> Result<Written, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let name = seen.object_name();
        let what = format!("deleting {} {name}", K::kind(&()));
        self.guard(&what)?;
        let meta = seen.object_meta();
        let preconditions =
            Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.api::<K>().delete(name, &params).await {
            Ok(_) => Ok(Written::Done),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Done),
            Err(source) => Err(Error::write(what, source)),
        }
    }

    async fn delete(&self, id: &ObjectId) -> Result<Written, Error> {
        let name = self.name_of(id);
        match id {
            ObjectId::Deployment(..) => {
                self.delete_seen::<Deployment, _>(seen(&self.world.deployments, &name)?).await
            }
            ObjectId::Service(..) | ObjectId::Front(_) => {
                self.delete_seen::<Service, _>(seen(&self.world.services, &name)?).await
            }
            ObjectId::ConfigMap(..) => {
                self.delete_seen::<ConfigMap, _>(seen(&self.world.config_maps, &name)?).await
            }
            ObjectId::Revision(_) => {
                self.delete_seen::<ControllerRevision, _>(seen(&self.world.revisions, &name)?).await
            }
            ObjectId::Extra(Extra::ServiceAccount) => {
                self.delete_seen::<ServiceAccount, _>(seen(&self.world.accounts, &name)?).await
            }
            ObjectId::Extra(Extra::DisruptionBudget(_)) => {
                self.delete_seen::<PodDisruptionBudget, _>(seen(&self.world.budgets, &name)?).await
            }
        }
    }

    async fn adopt(&self, id: &ObjectId) -> Result<Written, Error> {
        self.change(id, |meta| {
            let mut owners = meta.owner_references.clone().unwrap_or_default();
            owners.push(self.owner.reference());
            ("ownerReferences", json!(owners))
        })
        .await
    }

    async fn stamp(&self, id: &ObjectId, epoch: i64) -> Result<Written, Error> {
        self.change(id, |_| ("annotations", json!({names::EPOCH: epoch.to_string()}))).await
    }

    /// Changes a field of the metadata of an object as it was read.
    async fn change(
        &self,
        id: &ObjectId,
        to: impl Fn(&ObjectMeta) -> (&str, Value),
    ) -> Result<Written, Error> {
        let name = self.name_of(id);
        match id {
            ObjectId::Deployment(..) => {
                self.change_seen::<Deployment, _>(seen(&self.world.deployments, &name)?, to).await
            }
            ObjectId::Service(..) | ObjectId::Front(_) => {
                self.change_seen::<Service, _>(seen(&self.world.services, &name)?, to).await
            }
            ObjectId::ConfigMap(..) => {
                self.change_seen::<ConfigMap, _>(seen(&self.world.config_maps, &name)?, to).await
            }
            ObjectId::Revision(_) => {
                self.change_seen::<ControllerRevision, _>(seen(&self.world.revisions, &name)?, to).await
            }
            ObjectId::Extra(Extra::ServiceAccount) => {
                let orphan = settings::orphaned_account(self.world, &self.owner);
                let orphan = orphan.ok_or_else(|| Error::Moved("the ServiceAccount".into()))?;
                self.change_seen::<ServiceAccount, _>(orphan, to).await
            }
            ObjectId::Extra(Extra::DisruptionBudget(_)) => {
                self.change_seen::<PodDisruptionBudget, _>(seen(&self.world.budgets, &name)?, to).await
            }
        }
    }

    async fn change_seen<K, T: Meta>(
        &self,
        seen: &T,
        to: impl Fn(&ObjectMeta) -> (&str, Value),
    ) -> Result<Written, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned,
    {
        let meta = seen.object_meta();
        let (field, value) = to(meta);
        let patch = json!({"metadata": {"resourceVersion": meta.resource_version, field: value}});
        self.patch::<K>(seen.object_name(), &patch).await
    }

    /// The object of ours that was read under a name.
    pub(super) fn ours<'w, T: Meta>(&self, objects: &'w [Arc<T>], name: &str) -> Option<&'w T> {
        let found = objects.iter().map(AsRef::as_ref).find(|object| object.object_name() == name);
        found.filter(|object| ownership(*object, &self.owner) == Ownership::Ours)
    }

    /// The name of an object.
    pub(super) fn name_of(&self, id: &ObjectId) -> String {
        let name = &self.owner.name;
        match id {
            ObjectId::Front(component) | ObjectId::Extra(Extra::DisruptionBudget(component)) => {
                names::front(name, *component)
            }
            ObjectId::Deployment(component, color) | ObjectId::Service(component, color) => {
                names::workload(name, *component, *color)
            }
            ObjectId::ConfigMap(component, color) => names::config(name, *component, *color),
            ObjectId::Revision(version) => names::revision(name, version),
            ObjectId::Extra(Extra::ServiceAccount) => {
                settings::surplus_account(self.world, &self.owner, &self.resource.spec).unwrap_or_default()
            }
        }
    }

    /// The template of a release: from the spec if it describes it, else from its ControllerRevision.
    pub(super) fn template(&self, hash: &str) -> Result<(ReleaseTemplate, ReleaseHash), Error> {
        let known = template_by(self.resource, self.world, hash);
        let template = known.ok_or_else(|| Error::Moved(format!("the template {hash}")))?;
        let hash = template.hash();
        Ok((template, hash))
    }

    /// Settings of a component's spec.
    pub(super) fn part(&self, component: Component) -> &api::ComponentSpec {
        self.resource.spec.component(component)
    }
}

/// The object that was read under a name.
pub(super) fn seen<'w, T: Meta>(objects: &'w [Arc<T>], name: &str) -> Result<&'w T, Error> {
    let found = objects.iter().find(|object| object.object_name() == name);
    found.map(AsRef::as_ref).ok_or_else(|| Error::Moved(format!("object {name}")))
}

/// The template of a recorded release: by the hash that the history knows, never by a name alone. It is the spec's if
/// that describes it, else it is in a ControllerRevision.
pub fn template_of(resource: &MetadataServices, world: &World, version: &str) -> Option<ReleaseTemplate> {
    let record = resource.status.as_ref()?.record(version)?;
    template_by(resource, world, &record.hash)
}

fn template_by(resource: &MetadataServices, world: &World, hash: &str) -> Option<ReleaseTemplate> {
    let of_spec = ReleaseTemplate::of(&resource.spec);
    if of_spec.hash().as_str() == hash {
        return Some(of_spec);
    }
    let recorded = world.revisions.iter().find(|revision| revision.hash == hash)?;
    recorded.template.as_deref().cloned()
}

fn post() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(MANAGER.into()) }
}

fn patching() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// The JSON merge patch (RFC 7386) that turns `before` into `after`; `None` if they are equal. Fields of the live
/// object that this version does not know are in neither, and stay.
fn merge_patch(before: &Value, after: &Value) -> Option<Value> {
    match (before, after) {
        _ if before == after => None,
        (Value::Object(before), Value::Object(after)) => {
            let removed =
                before.keys().filter(|key| !after.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let changed = after.iter().filter_map(|(key, value)| {
                let patch = merge_patch(before.get(key).unwrap_or(&Value::Null), value)?;
                Some((key.clone(), patch))
            });
            Some(Value::Object(removed.chain(changed).collect()))
        }
        _ => Some(after.clone()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_merge_patch_removes_changes_and_adds() {
        let before = json!({"a": 1, "b": {"x": 1, "y": [1]}, "c": 3});
        let after = json!({"a": 1, "b": {"x": 2, "y": [1]}, "d": {"n": 1}});
        assert_eq!(merge_patch(&before, &after), Some(json!({"b": {"x": 2}, "c": null, "d": {"n": 1}})));
        assert_eq!(merge_patch(&before, &before), None);
    }

    /// A rollback to what the spec describes already needs no record; one that is gone must not be waited for.
    #[test]
    fn what_the_spec_describes_is_restored_without_its_record() {
        let spec = json!({"storage": {"imageTag": "1"}, "schema": {"imageTag": "1"}});
        let template = ReleaseTemplate::of(&serde_json::from_value(spec.clone()).unwrap());
        let record = |version: &str, hash: &str| {
            json!({"version": version, "hash": hash, "strategy": "blue", "storageTag": "1", "schemaTag": "1",
                "timestamp": "2026-09-21T14:13:20Z", "status": "Active"})
        };
        let history = json!([record("v1", template.hash().as_str()), record("v2", ""), record("v3", "abc")]);
        let resource: MetadataServices = serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": spec, "status": {"releaseHistory": history}}),
        )
        .unwrap();
        assert_eq!(template_of(&resource, &World::default(), "v1"), Some(template));
        for unknown in ["v2", "v3", "v4"] {
            assert_eq!(template_of(&resource, &World::default(), unknown), None);
        }
    }
}
