//! Writes, each with its precondition (design D15, D22). Objects are created by POST, changed by patches with the
//! resourceVersion of the read, and deleted by UID and resourceVersion. A failed write is never sent again with newer
//! preconditions.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{ApiResource, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Shared;
use super::error::Error;
use crate::observe::ownership::{Owned, Ownership, describe_foreign, ownership};
use crate::observe::views::Meta;
use crate::observe::{ObservedResource, settings};
use api::names::{self, MANAGER};
use api::{MetadataServices, MetadataServicesStatus};
use rollout::facts::{Extra, ObjectId, Setting};
use rollout::{Action, ResourcePatch};

/// The outcome of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WriteOutcome {
    /// The API server stored it.
    Done,
    /// Foreign objects have the names.
    NamesTaken(Vec<String>),
    /// The API server rejected the template that was to be restored.
    TemplateRejected(String),
}

/// Writes to one resource and its objects, as they were read.
pub struct Writer<'a> {
    /// The parts of the controller.
    pub shared: &'a Shared,
    /// The resource with its objects.
    pub observed: &'a ObservedResource<'a>,
}

impl Writer<'_> {
    /// Replaces the status, if the resource is unchanged. Returns the resource as the API server stored it.
    pub async fn update_status(&self, status: &MetadataServicesStatus) -> Result<MetadataServices, Error> {
        let name = &self.observed.owner.name;
        let what = format!("writing the status of MetadataServices {name}");
        self.guard(&what)?;
        let mut object = self.observed.resource.clone();
        object.metadata.managed_fields = None;
        object.status = Some(status.clone());
        let api: Api<MetadataServices> = self.api();
        api.replace_status(name, &post_params(), &object)
            .await
            .map_err(|source| Error::change(what, format!("MetadataServices {name}"), source))
    }

    /// Changes the spec and the annotations of the resource in one patch.
    pub async fn patch_resource(&self, amend: &ResourcePatch) -> Result<WriteOutcome, Error> {
        let name = &self.observed.owner.name;
        let what = format!("patching MetadataServices {name}");
        self.guard(&what)?;
        let annotations: serde_json::Map<String, Value> =
            amend.remove.iter().map(|key| ((*key).to_owned(), Value::Null)).collect();
        let mut patch = json!({"metadata": {
            "resourceVersion": self.observed.resource.resource_version(), "annotations": annotations,
        }});
        if let Some(version) = &amend.restore
            && let Some(spec) = self.restored_spec(version)?
        {
            patch.as_object_mut().map(|patch| patch.insert("spec".into(), spec));
        }
        let api: Api<MetadataServices> = self.api();
        match api.patch(name, &patch_params(), &Patch::Merge(&patch)).await {
            Ok(_) => Ok(WriteOutcome::Done),
            Err(kube::Error::Api(status)) if status.code == 422 && amend.restore.is_some() => {
                Ok(WriteOutcome::TemplateRejected(status.message.clone()))
            }
            Err(source) => Err(Error::change(what, format!("MetadataServices {name}"), source)),
        }
    }

    /// Returns the patch of the spec that restores the template of a release; `None` if the spec is equal to it.
    fn restored_spec(&self, version: &str) -> Result<Option<Value>, Error> {
        let spec = &self.observed.resource.spec;
        let template = self
            .observed
            .template_of_version(version)
            .ok_or_else(|| Error::Stale(format!("the ControllerRevision of {version}")))?;
        let render = |error: serde_json::Error| Error::Render {
            object: format!("the spec of {version}"),
            reason: error.to_string(),
        };
        let before = serde_json::to_value(spec).map_err(render)?;
        let after = serde_json::to_value(template.restore_into(spec)).map_err(render)?;
        Ok(merge_patch(&before, &after))
    }

    /// Carries out the groups of actions in order. The actions of a group run in parallel; a failure does not cancel the
    /// others of its group.
    pub async fn write_objects(&self, groups: &[Vec<Action>]) -> Result<WriteOutcome, Error> {
        for group in groups {
            let results = futures::future::join_all(group.iter().map(|action| self.write(action))).await;
            let (mut taken, mut failed) = (vec![], vec![]);
            for result in results {
                match result {
                    Ok(WriteOutcome::Done) => {}
                    Ok(WriteOutcome::NamesTaken(names)) => taken.extend(names),
                    Ok(other @ WriteOutcome::TemplateRejected(_)) => return Ok(other),
                    Err(error) => failed.push(error),
                }
            }
            if let Some(error) = Error::most_severe(failed) {
                return Err(error);
            }
            if !taken.is_empty() {
                taken.sort();
                return Ok(WriteOutcome::NamesTaken(taken));
            }
        }
        Ok(WriteOutcome::Done)
    }

    async fn write(&self, action: &Action) -> Result<WriteOutcome, Error> {
        match action {
            Action::CreateFront(component) => self.create(self.new_front(*component)).await,
            Action::Route(component, route) => self.set_traffic(*component, route).await,
            Action::Create(id, tagged) => self.create_object(id, tagged).await,
            Action::Adopt(id) => self.adopt(id).await,
            Action::AdoptFront(component, route) => self.adopt_front(*component, route).await,
            Action::AdoptUnstamped(id, tagged) => self.adopt_unstamped(id, tagged).await,
            Action::RaiseEpoch(id, epoch) => self.raise_epoch(id, *epoch).await,
            Action::RecordRevision { tagged, failed } => self.write_revision(tagged, failed.as_deref()).await,
            Action::Delete(id) => self.delete(id).await,
            Action::ApplySetting(setting) => self.apply_setting(*setting).await,
            Action::ApplyServiceAccount => self.apply_setting(Setting::ACCOUNT).await,
        }
    }

    /// Rejects a write unless this replica certainly leads.
    fn guard(&self, what: &str) -> Result<(), Error> {
        if self.shared.leadership.may_write() { Ok(()) } else { Err(Error::NotLeading(what.to_owned())) }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.shared.client.clone(), &self.observed.owner.namespace)
    }

    /// Returns the API of a kind that decodes only metadata.
    fn metadata_api(&self, kind: &ApiResource) -> Api<PartialObjectMeta> {
        Api::namespaced_with(self.shared.client.clone(), &self.observed.owner.namespace, kind)
    }

    /// Creates an object. If the name is in use, reads the existing object and judges its ownership.
    pub(super) async fn create<K>(&self, object: K) -> Result<WriteOutcome, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Debug
            + Serialize
            + DeserializeOwned,
    {
        let kind = ApiResource::erase::<K>(&());
        let name = object.object_name();
        let described = format!("{} {name}", kind.kind);
        let what = format!("creating {described}");
        self.guard(&what)?;
        match self.api::<K>().create(&post_params(), &object).await {
            Ok(_) => Ok(WriteOutcome::Done),
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => {
                let existing = self.metadata_api(&kind).get_opt(name).await;
                let existing = existing.map_err(|source| Error::read(&kind.kind, name, source))?;
                match existing {
                    Some(existing) if !self.is_ours(&existing) => {
                        Ok(WriteOutcome::NamesTaken(vec![describe_foreign(
                            &kind.kind,
                            &existing,
                            &self.observed.owner,
                        )]))
                    }
                    Some(existing) if lacks_label(&existing, &object) => {
                        self.restore_labels(&kind, &existing, &object).await
                    }
                    _ => Err(Error::Stale(described)),
                }
            }
            Err(source) => Err(Error::write(what, source)),
        }
    }

    /// Returns whether the operator made an object for the resource.
    fn is_ours(&self, object: &impl Meta) -> bool {
        matches!(ownership(object, &self.observed.owner), Ownership::Ours | Ownership::Adoptable)
    }

    /// Restores the labels by which the operator finds an object. The next read shows the rest of the object.
    async fn restore_labels(
        &self,
        kind: &ApiResource,
        existing: &impl Meta,
        wanted: &impl Meta,
    ) -> Result<WriteOutcome, Error> {
        let patch = json!({"metadata": {
            "resourceVersion": existing.object_meta().resource_version, "labels": wanted.object_meta().labels,
        }});
        self.patch_kind(kind, existing.object_name(), &patch).await
    }

    /// Applies a merge patch that contains its resourceVersion.
    pub(super) async fn patch<K>(&self, name: &str, patch: &Value) -> Result<WriteOutcome, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        self.patch_kind(&ApiResource::erase::<K>(&()), name, patch).await
    }

    pub(super) async fn patch_kind(
        &self,
        kind: &ApiResource,
        name: &str,
        patch: &Value,
    ) -> Result<WriteOutcome, Error> {
        let object = format!("{} {name}", kind.kind);
        let what = format!("patching {object}");
        self.guard(&what)?;
        self.metadata_api(kind)
            .patch(name, &patch_params(), &Patch::Merge(patch))
            .await
            .map(|_| WriteOutcome::Done)
            .map_err(|source| Error::change(what, object, source))
    }

    async fn delete(&self, id: &ObjectId) -> Result<WriteOutcome, Error> {
        let (kind, meta) = self.located(id)?;
        let name = meta.name.as_deref().unwrap_or_default();
        let what = format!("deleting {} {name}", kind.kind);
        self.guard(&what)?;
        let preconditions =
            Preconditions { uid: meta.uid.clone(), resource_version: meta.resource_version.clone() };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        match self.metadata_api(&kind).delete(name, &params).await {
            Ok(_) => Ok(WriteOutcome::Done),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(WriteOutcome::Done),
            Err(source) => Err(Error::write(what, source)),
        }
    }

    async fn adopt(&self, id: &ObjectId) -> Result<WriteOutcome, Error> {
        let (kind, meta) = self.located(id)?;
        let mut owners = meta.owner_references.clone().unwrap_or_default();
        owners.push(self.observed.owner.reference());
        self.patch_metadata(&kind, meta, "ownerReferences", json!(owners)).await
    }

    async fn raise_epoch(&self, id: &ObjectId, epoch: i64) -> Result<WriteOutcome, Error> {
        let (kind, meta) = self.located(id)?;
        self.patch_metadata(&kind, meta, "annotations", json!({names::EPOCH: epoch.to_string()})).await
    }

    /// Patches a field of the metadata of an object.
    async fn patch_metadata(
        &self,
        kind: &ApiResource,
        meta: &ObjectMeta,
        field: &str,
        value: Value,
    ) -> Result<WriteOutcome, Error> {
        let patch = json!({"metadata": {"resourceVersion": meta.resource_version, field: value}});
        self.patch_kind(kind, meta.name.as_deref().unwrap_or_default(), &patch).await
    }

    /// Returns the kind and the metadata of an object as it was read.
    fn located(&self, id: &ObjectId) -> Result<(ApiResource, &ObjectMeta), Error> {
        let (observed, name) = (self.observed, &self.observed.owner.name);
        match id {
            ObjectId::Front(component) => locate(&observed.services, &names::front(name, *component)),
            ObjectId::Deployment(component, color) => {
                locate(&observed.deployments, &names::workload(name, *component, *color))
            }
            ObjectId::Service(component, color) => {
                locate(&observed.services, &names::workload(name, *component, *color))
            }
            ObjectId::ConfigMap(component, color) => {
                locate(&observed.config_maps, &names::config(name, *component, *color))
            }
            ObjectId::Revision(version) => locate(&observed.revisions, &names::revision(name, version)),
            ObjectId::Extra(Extra::DisruptionBudget(component)) => {
                locate(&observed.budgets, &names::front(name, *component))
            }
            // The core adopts an orphaned account before it deletes a surplus one.
            ObjectId::Extra(Extra::ServiceAccount) => settings::orphaned_account(observed)
                .or_else(|| settings::surplus_account(observed))
                .map(kind_and_meta)
                .ok_or_else(|| Error::Stale("the ServiceAccount".into())),
        }
    }
}

/// Finds an object by name.
fn locate<'a, T>(objects: &Owned<'a, T>, name: &str) -> Result<(ApiResource, &'a ObjectMeta), Error>
where
    T: Resource<DynamicType = ()>,
{
    find(objects, name).map(kind_and_meta)
}

fn kind_and_meta<T: Resource<DynamicType = ()>>(object: &T) -> (ApiResource, &ObjectMeta) {
    (ApiResource::erase::<T>(&()), object.meta())
}

/// Finds an object by name. An object that is missing now changed after the decision.
pub(super) fn find<'a, T: Meta>(objects: &Owned<'a, T>, name: &str) -> Result<&'a T, Error> {
    let found = objects.find(name).map(|found| found.object);
    found.ok_or_else(|| Error::Stale(format!("object {name}")))
}

/// Returns whether an object lacks a label by which the operator finds it. Another client removed the label.
fn lacks_label(existing: &impl Meta, wanted: &impl Meta) -> bool {
    let has = |key: &str| existing.label(key) == wanted.label(key);
    !existing.is_terminating() && ![names::LABEL_APP, names::LABEL_MANAGED_BY].into_iter().all(has)
}

fn post_params() -> PostParams {
    PostParams { dry_run: false, field_manager: Some(MANAGER.into()) }
}

fn patch_params() -> PatchParams {
    PatchParams { field_manager: Some(MANAGER.into()), ..PatchParams::default() }
}

/// Returns the JSON merge patch (RFC 7396) from `before` to `after`; `None` if they are equal. Neither contains fields that
/// this version does not know, so the patch leaves such fields of the live object alone.
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
}
