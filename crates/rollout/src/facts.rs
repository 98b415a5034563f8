//! What the core knows of the cluster: small, comparable values, made from objects by `crate::observe`.

use api::names::{Color, Component, PerColor, PerComponent};

/// Everything `plan` is told about the objects of one resource.
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
    /// Names that the resource needs and objects of others hold, as `Kind name (held by ...)`.
    pub taken: Vec<String>,
    /// What the API server refused to do for this resource, and will refuse again until a person acts.
    pub refused: Option<String>,
    /// The API server's or the operator's own objection to restoring the template that a rollback names.
    pub restore_refused: Option<String>,
    /// What the API server did not take in this pass.
    pub deferred: Deferred,
}

impl Facts {
    /// Whether the record of a release says that it failed.
    pub fn is_marked(&self, version: &str) -> bool {
        self.revisions.iter().any(|known| known.version == version && known.failed.is_some())
    }
}

/// What waits for a later pass, since the API server did not take it in this one, while what is under way goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Deferred {
    /// Changes of the resource itself: requests, and the spec that is put back.
    pub requests: bool,
    /// Settings that follow the spec in place.
    pub settings: bool,
}

/// A front Service (design D2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Front {
    /// There is none.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It is there and ours.
    Present(FrontState),
}

/// What a front Service of ours says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FrontState {
    /// The color it selects; `None` for `strategy: none`.
    pub selects: Option<Color>,
    /// Whether the selector is exactly ours; a foreign key in it, or a missing one, makes it `false`.
    pub exact: bool,
    /// The release version stamped on it.
    pub version: Option<String>,
    /// The epoch stamped on it; 0 if there is none.
    pub epoch: i64,
    /// When it was last switched, seconds since 1970.
    pub switched_at: Option<i64>,
    /// Ready endpoints in its EndpointSlices, by the color of their pods.
    pub ready: PerColor<u32>,
    /// Endpoints, ready or not, of pods that belong to another color or to none, by color; see `unknown`.
    pub listed: PerColor<u32>,
    /// Endpoints that belong to no pod of the resource.
    pub unknown: u32,
}

/// Whether a decision can have had this number, in a status or on an object. One beyond is another hand's, and leaves too
/// little room for the next ones.
pub const fn is_epoch(number: i64) -> bool {
    0 <= number && number <= 1 << 52
}

/// The decision stamped on both front Services.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Route {
    /// The color to select; `None` selects nothing.
    pub color: Option<Color>,
    /// The release that serves there.
    pub version: String,
    /// Number of the decision.
    pub epoch: i64,
}

impl FrontState {
    /// Whether it carries exactly this decision.
    pub fn carries(&self, route: &Route) -> bool {
        self.routes_to(route) && self.epoch == route.epoch
    }

    /// Whether it selects the decision's side, whatever its epoch.
    pub fn routes_to(&self, route: &Route) -> bool {
        let version = (!route.version.is_empty()).then_some(route.version.as_str());
        self.exact && self.selects == route.color && self.version.as_deref() == version
    }

    /// Whether its EndpointSlices show ready endpoints of this color and nothing else.
    pub fn proves(&self, color: Color) -> bool {
        *self.ready.get(color) > 0 && *self.listed.get(color.other()) == 0 && self.unknown == 0
    }
}

impl Front {
    /// Its state, if it is there.
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
    /// The color's own Service.
    pub service: ObjectState,
    /// Whether a ReplicaSet with the color's selector is left.
    pub replica_sets: bool,
    /// Its pods.
    pub pods: Pods,
}

impl Workload {
    /// The tags of the Deployment, the Service and the ConfigMap; `None` for what is not there.
    pub fn tags(&self) -> [Option<&ReleaseRef>; 3] {
        [self.deployment.state().map(|state| &state.tag), self.service.tag(), self.config_map.tag()]
    }
}

/// A Deployment of ours.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum Deployment {
    /// There is none.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It is there.
    Present(DeploymentState),
}

/// What a Deployment says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct DeploymentState {
    /// The release it was created for.
    pub tag: ReleaseRef,
    /// `status.observedGeneration >= metadata.generation`: its counts speak of its present spec.
    pub observed: bool,
    /// `spec.replicas`.
    pub desired: i32,
    /// Pods of the present template.
    pub updated: i32,
    /// Pods ready.
    pub ready: i32,
    /// Pods available (ready for `minReadySeconds`).
    pub available: i32,
    /// Pods in all.
    pub replicas: i32,
    /// Field managers other than the operator that changed the pod template, sorted.
    pub drifted_by: Vec<String>,
    /// A hard failure that the Deployment itself reports.
    pub problem: Option<Problem>,
}

/// To which release, and to which decision, an object belongs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ReleaseRef {
    /// The release's version.
    pub version: String,
    /// The hash of its template.
    pub hash: String,
    /// The epoch of the decision that created the object.
    pub epoch: i64,
}

/// Presence of a ConfigMap or Service of a color.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum ObjectState {
    /// There is none.
    #[default]
    Absent,
    /// It is being deleted.
    Terminating,
    /// It is there and belongs to this release.
    Present(ReleaseRef),
}

impl ObjectState {
    /// Its tag, if it is there.
    pub const fn tag(&self) -> Option<&ReleaseRef> {
        match self {
            Self::Present(tag) => Some(tag),
            Self::Absent | Self::Terminating => None,
        }
    }
}

impl Deployment {
    /// Its state, if it is there and not terminating.
    pub const fn state(&self) -> Option<&DeploymentState> {
        match self {
            Self::Present(state) => Some(state),
            Self::Absent | Self::Terminating => None,
        }
    }
}

/// The pods that one component's selector on one color matches. Terminating pods count for nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pods {
    /// Pods that are not terminating.
    pub alive: u32,
    /// Of these, the ready ones.
    pub ready: u32,
    /// Of these, pods that do not belong to the color's Deployment and its release.
    pub strays: Vec<String>,
    /// Pods that no ReplicaSet of the color controls: another hand's.
    pub foreign: Vec<String>,
    /// The latest time at which a pod changed its readiness, seconds since 1970.
    pub last_transition: Option<i64>,
    /// The worst problem of a pod, if there is one.
    pub problem: Option<Problem>,
    /// Pods that were there at the switch, have no disruption, and are unready now.
    pub unready_since_switch: Vec<String>,
    /// A pod that was there at the switch and has restarted since, with what was said.
    pub restarted_since_switch: Option<Problem>,
    /// Restart counts above zero, by pod name.
    pub restarts: Vec<(String, i32)>,
}

/// Why a component does not become, or stay, ready.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Problem {
    /// The kind of problem.
    pub cause: Cause,
    /// The pod that shows it, if one does.
    pub pod: Option<String>,
    /// What kubelet, the scheduler or a controller said.
    pub said: String,
}

/// Kinds of problems, worst first.
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
    /// ReplicaSet cannot create pods: quota.
    Quota,
    /// ReplicaSet cannot create pods: admission, or anything else.
    PodsRefused,
    /// The Deployment's own progress deadline has passed.
    ProgressDeadline,
    /// No node takes the pod; may pass, so it counts for the timeout only.
    Unschedulable,
    /// It runs but is not ready; counts for the timeout only.
    NotReady,
}

impl Cause {
    /// Whether it starts the failing clock (design D9); the others only count at the deploy timeout.
    pub const fn is_hard(self) -> bool {
        !matches!(self, Self::Unschedulable | Self::NotReady)
    }

    /// One word for conditions, events and records.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::InvalidImage => "InvalidImageName",
            Self::ImagePull => "ImagePullFailed",
            Self::ContainerConfig => "ContainerConfigError",
            Self::ContainerStart => "ContainerStartError",
            Self::Crash => "CrashLoop",
            Self::Quota => "QuotaExceeded",
            Self::PodsRefused => "PodsRefused",
            Self::ProgressDeadline => "ProgressDeadlineExceeded",
            Self::Unschedulable => "Unschedulable",
            Self::NotReady => "NotReady",
        }
    }

    /// What a person can do about it.
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
            Self::ProgressDeadline => "see the pods' events with kubectl describe pod",
            Self::Unschedulable => "add capacity or relax nodeSelector, tolerations, affinity or resources",
            Self::NotReady => "check the readinessProbe and the pod's log",
        }
    }
}

/// A ControllerRevision of ours: the durable record of a release (design D6).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Revision {
    /// The release's version.
    pub version: String,
    /// The hash of its template, as recomputed from its data; empty if it has a flaw.
    pub hash: String,
    /// Why the release cannot be restored from it.
    pub flaw: Option<String>,
    /// Its `revision` number.
    pub number: i64,
    /// Why it failed, if its outcome is Failed.
    pub failed: Option<String>,
    /// The images' tags and names.
    pub images: PerComponent<Image>,
    /// Created at, seconds since 1970.
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

/// A setting that follows the spec in place and never restarts a pod (design D3).
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
    /// The ServiceAccount of the pods.
    pub const ACCOUNT: Self = Self::Extra(Extra::ServiceAccount);
}

/// Optional objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Extra {
    /// The ServiceAccount of the pods.
    ServiceAccount,
    /// The PodDisruptionBudget of a component; follows the active color.
    DisruptionBudget(Component),
}

/// An object of ours, by kind and place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectId {
    /// A front Service.
    Front(Component),
    /// A color's Deployment.
    Deployment(Component, Color),
    /// A color's Service.
    Service(Component, Color),
    /// A color's ConfigMap.
    ConfigMap(Component, Color),
    /// The ControllerRevision of a version.
    Revision(String),
    /// An optional object.
    Extra(Extra),
}
