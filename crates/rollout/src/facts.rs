//! The input about the cluster: small, comparable values that the operator's `observe` module makes from objects.

use api::names::{Color, Component, PerColor, PerComponent};

/// The objects of one resource, as [`crate::plan()`] sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Facts {
    /// The front Services.
    pub front: PerComponent<Front>,
    /// The workloads of both colors.
    pub colors: PerColor<PerComponent<Workload>>,
    /// The ControllerRevisions of the resource, by ascending `revision` number.
    pub revisions: Vec<Revision>,
    /// In-place settings that differ from the spec.
    pub stale: Vec<Setting>,
    /// Optional objects that the spec no longer asks for.
    pub surplus: Vec<Extra>,
    /// Objects of ours that lost their owner reference (deleted with `--cascade=orphan`, applied again).
    pub adoptable: Vec<ObjectId>,
    /// What an earlier operator left, if the status has no state machine and there is something.
    pub predecessor: Option<Predecessor>,
    /// Names that the resource needs and objects of other owners hold, as `Kind name (held by ...)`.
    pub taken: Vec<String>,
    /// The permanent rejection of a write: the API server repeats it until a person acts.
    pub refused: Option<String>,
    /// Why the template that a rollback names cannot be restored, by the API server or by the operator's own rules.
    pub restore_refused: Option<String>,
    /// The write classes that the API server rejected in this reconcile.
    pub deferred: Deferred,
}

impl Facts {
    /// Returns whether a color has a Deployment of this release.
    pub fn holds(&self, color: Color, version: &str) -> bool {
        self.colors.get(color).any(|workload| {
            workload.deployment.state().is_some_and(|deployment| deployment.tag.version == version)
        })
    }

    /// Returns the highest epoch on any object, and of `decided`, the epoch of a rejected status: its last decision may still
    /// land.
    pub fn highest_epoch(&self, decided: Option<i64>) -> i64 {
        let decided = decided.filter(|epoch| is_epoch(*epoch));
        let fronts = self.front.iter().filter_map(|(_, front)| Some(front.state()?.epoch));
        let objects = Color::ALL
            .into_iter()
            .flat_map(|color| self.colors.get(color).iter().flat_map(|(_, workload)| workload.tags()));
        let objects = objects.flatten().map(|tag| tag.epoch);
        fronts.chain(objects).chain(decided).max().unwrap_or(0).max(0)
    }

    /// Returns whether the ControllerRevision of a release says that it failed.
    pub fn is_marked(&self, version: &str) -> bool {
        self.revisions.iter().any(|known| known.version == version && known.failed.is_some())
    }
}

/// Objects of the resource that carry no stamp of this operator: an earlier operator made them (design D27).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Predecessor {
    /// Its Deployments.
    pub deployments: PerColor<PerComponent<Option<UnstampedDeployment>>>,
    /// True for each front Service without a stamp.
    pub fronts: PerComponent<bool>,
    /// Its color Services and ConfigMaps.
    pub others: Vec<ObjectId>,
    /// Objects that cannot be adopted: the object, the cause and the remedy.
    pub obstacles: Vec<(ObjectId, String)>,
}

/// A Deployment without a stamp.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct UnstampedDeployment {
    /// Its UID.
    pub uid: String,
    /// The image of the component's container.
    pub image: Image,
    /// True if all desired Pods are ready.
    pub is_complete: bool,
}

/// Rejected writes that wait for a later reconcile while the rollout continues (ADR 13).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deferred {
    /// Patches of the resource itself: requests, and the restored spec.
    pub requests: bool,
    /// Settings that follow the spec in place.
    pub settings: bool,
}

/// A front Service (design D2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Front {
    /// It does not exist.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It exists and is ours.
    Present(FrontState),
}

/// The state of a front Service of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrontState {
    /// The color it selects; `None` for `strategy: none`.
    pub selects: Option<Color>,
    /// True if the selector has exactly our keys.
    pub exact: bool,
    /// The release version in its annotations.
    pub version: Option<String>,
    /// The epoch in its annotations; 0 if there is none.
    pub epoch: i64,
    /// The time of its last switch, in seconds since 1970.
    pub switched_at: Option<i64>,
    /// Ready endpoints in its EndpointSlices, by the color of their Pods.
    pub ready: PerColor<u32>,
    /// Endpoints in its EndpointSlices, ready or not, by the color of their Pods.
    pub listed: PerColor<u32>,
    /// Endpoints that belong to no Pod of the resource.
    pub unknown: u32,
}

/// Returns whether `number` is a valid epoch, 0 to 2^52. The operator never writes a larger one.
pub const fn is_epoch(number: i64) -> bool {
    0 <= number && number <= 1 << 52
}

/// The decision that both front Services carry as selector and annotations.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The color to select; `None` selects nothing.
    pub color: Option<Color>,
    /// The release that receives traffic there.
    pub version: String,
    /// The epoch of the decision.
    pub epoch: i64,
}

impl FrontState {
    /// Returns whether it carries exactly this decision.
    pub fn carries(&self, route: &Route) -> bool {
        self.routes_to(route) && self.epoch == route.epoch
    }

    /// Returns whether it selects the color and release of this decision, under any epoch.
    pub fn routes_to(&self, route: &Route) -> bool {
        let version = (!route.version.is_empty()).then_some(route.version.as_str());
        self.exact && self.selects == route.color && self.version.as_deref() == version
    }

    /// Returns whether its EndpointSlices list ready endpoints of this color and no other endpoints.
    pub fn proves(&self, color: Color) -> bool {
        *self.ready.get(color) > 0 && *self.listed.get(color.other()) == 0 && self.unknown == 0
    }
}

impl Front {
    /// Its state, if it exists and is not terminating.
    pub const fn state(&self) -> Option<&FrontState> {
        match self {
            Self::Present(state) => Some(state),
            Self::Absent | Self::Terminating => None,
        }
    }
}

/// The objects of one component on one color.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Workload {
    /// The Deployment.
    pub deployment: Deployment,
    /// The ConfigMap.
    pub config_map: ObjectState,
    /// The color Service.
    pub service: ObjectState,
    /// True if a ReplicaSet with the color's selector exists.
    pub replica_sets: bool,
    /// Its Pods.
    pub pods: Pods,
}

impl Workload {
    /// The releases of the Deployment, the Service and the ConfigMap; `None` for an absent object.
    pub fn tags(&self) -> [Option<&ReleaseRef>; 3] {
        [self.deployment.state().map(|state| &state.tag), self.service.tag(), self.config_map.tag()]
    }
}

/// A Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deployment {
    /// It does not exist.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It exists.
    Present(DeploymentState),
}

/// The state of a Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeploymentState {
    /// The release that it was created for.
    pub tag: ReleaseRef,
    /// True if `status.observedGeneration >= metadata.generation`: its counts describe its current spec.
    pub observed: bool,
    /// `spec.replicas`.
    pub desired: i32,
    /// Pods of the current template.
    pub updated: i32,
    /// Pods ready.
    pub ready: i32,
    /// Pods available (ready for `minReadySeconds`).
    pub available: i32,
    /// Pods in all.
    pub replicas: i32,
    /// The image of a Deployment that an earlier operator made and this one adopted; `None` for any other.
    pub adopted: Option<String>,
    /// Field managers other than the operator that changed the pod template, sorted.
    pub drifted_by: Vec<String>,
    /// A hard failure in the conditions of the Deployment.
    pub problem: Option<Problem>,
}

/// A release and the epoch of the decision that deploys it; on an object, the release that it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReleaseRef {
    /// The release's version.
    pub version: String,
    /// The hash of its template.
    pub hash: String,
    /// The epoch of the decision.
    pub epoch: i64,
}

/// The presence of a ConfigMap or Service of a color.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// It does not exist.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It exists and belongs to this release.
    Present(ReleaseRef),
}

impl ObjectState {
    /// Its release, if it exists.
    pub const fn tag(&self) -> Option<&ReleaseRef> {
        match self {
            Self::Present(tag) => Some(tag),
            Self::Absent | Self::Terminating => None,
        }
    }
}

impl Deployment {
    /// Its state, if it exists and is not terminating.
    pub const fn state(&self) -> Option<&DeploymentState> {
        match self {
            Self::Present(state) => Some(state),
            Self::Absent | Self::Terminating => None,
        }
    }
}

/// The Pods that the selector of one component on one color matches. Terminating Pods do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pods {
    /// Number of Pods.
    pub alive: u32,
    /// Number of ready Pods.
    pub ready: u32,
    /// Number of Pods in which the component's own container runs.
    pub running: u32,
    /// Pods that do not belong to the Deployment of this color and its release.
    pub strays: Vec<String>,
    /// Pods that no ReplicaSet of the color controls.
    pub foreign: Vec<String>,
    /// The last time at which a Pod changed its readiness, in seconds since 1970.
    pub last_transition: Option<i64>,
    /// The most severe problem of a Pod.
    pub problem: Option<Problem>,
    /// Pods that existed at the switch, have no disruption, and are unready now.
    pub unready_since_switch: Vec<String>,
    /// A Pod that existed at the switch and whose component's container has restarted since.
    pub restarted_since_switch: Option<Problem>,
    /// Restart counts of the component's container above zero, by Pod name.
    pub restarts: Vec<(String, i32)>,
}

/// A problem that keeps a component from becoming or staying ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The cause.
    pub cause: Cause,
    /// The Pod that shows it; `None` for a problem of the Deployment.
    pub pod: Option<String>,
    /// The text of kubelet, the scheduler or a controller.
    pub said: String,
}

/// Causes of problems, most severe first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// The image's name cannot be parsed.
    InvalidImage,
    /// The image cannot be pulled.
    ImagePull,
    /// A ConfigMap, Secret or key that the container refers to is missing.
    ContainerConfig,
    /// The container cannot be created or started.
    ContainerStart,
    /// The container starts and exits, again and again.
    Crash,
    /// The ReplicaSet cannot create Pods because of a quota.
    Quota,
    /// The ReplicaSet cannot create Pods because of admission or another rejection.
    PodsRefused,
    /// A container that an admission webhook added fails. Not the release's fault, so this counts at the deploy timeout
    /// only.
    Sidecar,
    /// No node fits the Pod. A node may come, so this counts at the deploy timeout only.
    Unschedulable,
    /// It runs but is not ready. Counts at the deploy timeout only.
    NotReady,
    /// The progress deadline of the Deployment has passed. Counts at the deploy timeout only: that is the limit that the
    /// user sets for a release. Its message names no cause, so every other problem is more precise.
    ProgressDeadline,
}

impl Cause {
    /// Returns whether the cause starts the failing timer (design D9). Others count at the deploy timeout only.
    pub const fn is_hard(self) -> bool {
        !matches!(self, Self::Sidecar | Self::Unschedulable | Self::NotReady | Self::ProgressDeadline)
    }

    /// The reason in conditions, Events and records.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InvalidImage => "InvalidImageName",
            Self::ImagePull => "ImagePullFailed",
            Self::ContainerConfig => "ContainerConfigError",
            Self::ContainerStart => "ContainerStartError",
            Self::Crash => "CrashLoop",
            Self::Quota => "QuotaExceeded",
            Self::PodsRefused => "PodsRefused",
            Self::Sidecar => "SidecarFailed",
            Self::ProgressDeadline => "ProgressDeadlineExceeded",
            Self::Unschedulable => "Unschedulable",
            Self::NotReady => "NotReady",
        }
    }

    /// Returns the remedy of the failure as an imperative, without a period.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::InvalidImage => "correct imageRepository, imageTag or imageDigest in the spec",
            Self::ImagePull => {
                "check that the tag exists in the registry and that imagePullSecrets may read it"
            }
            Self::ContainerConfig => {
                "create the ConfigMap, Secret or key it names, or correct env, envFrom or extraVolumes"
            }
            Self::ContainerStart => "check command, args, securityContext and volume mounts",
            Self::Crash => {
                "read its log with kubectl logs --previous; if the pod is gone, retry with \
                 spec.rollout.autoRollback.enabled: false, which keeps it"
            }
            Self::Quota => {
                "raise the namespace's ResourceQuota or lower the resources: a release needs twice the capacity while it rolls out"
            }
            Self::PodsRefused => "see the message: a policy, LimitRange or ServiceAccount refuses the pods",
            Self::Sidecar => {
                "check the webhook that adds this container to the pods, and the container's log with kubectl logs -c"
            }
            Self::ProgressDeadline => "see the pods' events with kubectl describe pod",
            Self::Unschedulable => "add capacity or relax nodeSelector, tolerations, affinity or resources",
            Self::NotReady => "check the readinessProbe and the pod's log",
        }
    }
}

/// A ControllerRevision of ours: the durable copy of a release (design D6, ADR 19).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The release's version.
    pub version: String,
    /// The hash of its template, computed from its data; empty if the data has a flaw.
    pub hash: String,
    /// Why the release cannot be restored from it.
    pub flaw: Option<String>,
    /// Its `revision` number.
    pub number: i64,
    /// Why the release failed, if its outcome is Failed.
    pub failed: Option<String>,
    /// The images' tags and names.
    pub images: PerComponent<Image>,
    /// Its creation time, in seconds since 1970.
    pub created: i64,
}

/// An image as the history shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Image {
    /// The tag.
    pub tag: String,
    /// The whole reference.
    pub reference: String,
}

impl Image {
    /// Splits a reference such as `registry:5000/path/name:tag@sha256:...`. The tag is empty if it has none.
    pub fn parse(reference: &str) -> Self {
        let named = reference.split('@').next().unwrap_or_default();
        let last = named.rsplit('/').next().unwrap_or_default();
        let tag = last.split_once(':').map(|(_, tag)| tag).unwrap_or_default();
        Self { tag: tag.to_owned(), reference: reference.to_owned() }
    }
}

/// A setting that follows the spec in place and never restarts a Pod (design D3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Setting {
    /// Replicas, `minReadySeconds`, `progressDeadlineSeconds` of a Deployment.
    Scale(Component, Color),
    /// Type, port, labels and annotations of a front Service.
    Front(Component),
    /// An optional object that is missing or differs.
    Extra(Extra),
}

impl Setting {
    /// The ServiceAccount of the Pods.
    pub const ACCOUNT: Self = Self::Extra(Extra::ServiceAccount);
}

/// Optional objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extra {
    /// The ServiceAccount of the Pods.
    ServiceAccount,
    /// The PodDisruptionBudget of a component; follows the active color.
    DisruptionBudget(Component),
}

/// An object of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A front Service.
    Front(Component),
    /// The Deployment of a component on a color.
    Deployment(Component, Color),
    /// The color Service of a component.
    Service(Component, Color),
    /// The ConfigMap of a component on a color.
    ConfigMap(Component, Color),
    /// The ControllerRevision of a version.
    Revision(String),
    /// An optional object.
    Extra(Extra),
}
