//! The `ServiceAccount` of the pods. It follows the spec in place.

use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::json;

use super::{Strings, common_labels, last_applied, meta, settings_digest};
use api::names::{self, Owner};
use api::spec::ServiceAccountSpec;

/// Returns the name of the `ServiceAccount` of the Pods; `None` means the default one of the namespace.
pub fn service_account_name(name: &str, spec: &ServiceAccountSpec) -> Option<String> {
    let created = spec.create.unwrap_or(false).then(|| name.to_owned());
    spec.name.clone().or(created)
}

/// Renders the `ServiceAccount`; `None` if the spec does not ask for one.
pub fn service_account(owner: &Owner, spec: &ServiceAccountSpec) -> Option<ServiceAccount> {
    let name = service_account_name(&owner.name, spec).filter(|_| spec.create.unwrap_or(false))?;
    let mut annotations = spec.annotations.clone();
    let digest = settings_digest(&json!({"annotations": spec.annotations}));
    annotations.insert(names::APPLIED_SETTINGS.into(), digest);
    annotations.extend(last_applied::keys(&spec.annotations, &Strings::new()));
    Some(ServiceAccount {
        metadata: meta(owner, name, common_labels(&owner.name), annotations),
        ..ServiceAccount::default()
    })
}
