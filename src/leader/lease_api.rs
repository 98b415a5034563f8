//! Requests for the Lease.

use std::{fmt, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, PostParams},
};
use serde_json::json;
use tokio::time::timeout;

use super::{Settings, protocol::Record};

/// A failed request for the lease. The texts name the remedy.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("another client wrote the lease first")]
    Conflict,
    #[error("the lease is held by {0:?}")]
    Taken(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    #[error("the API server stored no change")]
    Unchanged,
    #[error(
        "{message}; grant get, create and update on leases.coordination.k8s.io in namespace {namespace} to the operator's \
         ServiceAccount (Role e6-operator-leader-election-role and its RoleBinding)"
    )]
    Forbidden { namespace: String, message: String },
    #[error(
        "namespace {namespace} does not exist: create it (kubectl create namespace {namespace}) or choose another with \
         --leader-elect-namespace"
    )]
    NoNamespace { namespace: String },
    #[error("{0}")]
    Other(Box<kube::Error>),
}

impl Failure {
    /// Returns whether the failure lasts until a user acts.
    pub(super) fn needs_user(&self) -> bool {
        match self {
            Self::Forbidden { .. } | Self::NoNamespace { .. } => true,
            Self::Conflict | Self::Taken(_) | Self::Timeout(_) | Self::Unchanged | Self::Other(_) => false,
        }
    }
}

/// The Lease as the API server stored it. It is untyped: a PUT keeps the fields of other clients, and an unparsable time
/// (the year 10000) does not make the whole object unreadable.
#[derive(Clone, Debug)]
pub(super) struct Stored(DynamicObject);

impl Stored {
    pub(super) fn record(&self) -> Record {
        Record::from_spec(self.0.data.get("spec"))
    }

    pub(super) fn version(&self) -> Option<&str> {
        self.0.metadata.resource_version.as_deref()
    }
}

/// The Lease of this election. Every request has a deadline and none is repeated.
#[derive(Clone, Debug)]
pub(super) struct LeaseApi {
    api: Api<DynamicObject>,
    resource: ApiResource,
    namespace: String,
    name: String,
    deadline: Duration,
}

impl fmt::Display for LeaseApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl LeaseApi {
    pub(super) fn new(client: Client, settings: &Settings) -> Self {
        let resource = ApiResource::erase::<Lease>(&());
        Self {
            api: Api::namespaced_with(client, &settings.namespace, &resource),
            resource,
            namespace: settings.namespace.clone(),
            name: settings.name.clone(),
            deadline: settings.timings.request,
        }
    }

    /// Reads the lease; `None` if it does not exist.
    pub(super) async fn read(&self) -> Result<Option<Stored>, Failure> {
        let read = self.bounded(self.api.get_opt(&self.name)).await?;
        Ok(read.map(Stored))
    }

    /// Replaces `over` if it is still the stored lease. If `over` is `None`, creates the lease if there is still none.
    pub(super) async fn write(&self, over: Option<Stored>, record: Record) -> Result<Stored, Failure> {
        let params = PostParams { field_manager: Some("e6-operator".to_owned()), ..PostParams::default() };
        let Some(Stored(mut lease)) = over else {
            let spec = json!({ "spec": record.into_spec() });
            let lease = DynamicObject::new(&self.name, &self.resource).within(&self.namespace).data(spec);
            return self.bounded(self.api.create(&params, &lease)).await.map(Stored).map_err(|failure| {
                match failure {
                    Failure::Other(error) if is_not_found(&error) => {
                        Failure::NoNamespace { namespace: self.namespace.clone() }
                    }
                    other => other,
                }
            });
        };
        let before = lease.metadata.resource_version.clone();
        // The API server keeps its managed fields if the request has none.
        lease.metadata.managed_fields = None;
        if let Some(data) = lease.data.as_object_mut() {
            data.insert("spec".to_owned(), record.into_spec());
        }
        let after = self.bounded(self.api.replace(&self.name, &params, &lease)).await?;
        // A write that changed nothing is invisible to other replicas, so it must not count as a renewal.
        if after.metadata.resource_version == before { Err(Failure::Unchanged) } else { Ok(Stored(after)) }
    }

    async fn bounded<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
        match timeout(self.deadline, request).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Conflict),
            Ok(Err(kube::Error::Api(status))) if status.code == 403 => {
                Err(Failure::Forbidden { namespace: self.namespace.clone(), message: status.message.clone() })
            }
            Ok(Err(error)) => Err(Failure::Other(Box::new(error))),
            Err(_) => Err(Failure::Timeout(self.deadline)),
        }
    }
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
