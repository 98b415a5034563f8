//! A state of the model: the resource, its objects, and the operators within their reconciles. States are small and
//! can be hashed. Statuses and plans are numbers (`interner`), releases are the numbers 1 to 3.

use std::hash::{Hash, Hasher};

use api::names::{Color, Component};

/// The releases `a`, `b` and `c` as 1 to 3; 0 is none.
pub type Release = u8;

/// The age class of a time. All waits of a step are shorter than the deploy timeout, so three classes suffice. A
/// fourth one is for a clock that was set back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// In the future.
    Ahead,
    /// Too recent to end any wait.
    Fresh,
    /// Old enough to end each wait except the deploy timeout.
    Ripe,
    /// Older than the deploy timeout.
    Old,
}

/// The state of a Deployment's Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pod {
    /// There is no Pod.
    #[default]
    None,
    /// It starts and shows no problem.
    Starting,
    /// It is ready.
    Ready,
    /// It cannot start: a hard cause.
    Failing,
    /// It was ready and became unready.
    Unready,
}

/// The objects of one component on one color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The Deployment, the ConfigMap and the Service.
    pub objects: [ColorObject; 3],
    /// The Pod of the Deployment.
    pub pod: Pod,
    /// True if the Pod is older than the last decision to switch.
    pub older_than_switch: bool,
    /// True if the Pod changed its readiness since the grace period began.
    pub readiness_changed: bool,
    /// Number of restarts of the Pod.
    pub restarts: u8,
    /// Release of a Pod whose Deployment is gone; 0 if there is none.
    pub stray: Release,
}

/// An object of a color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ColorObject {
    /// The release of the object; 0 if it does not exist.
    pub release: Release,
    /// The epoch of the object.
    pub epoch: u8,
    /// True if the owner of the object is a deleted resource.
    pub orphan: bool,
}

/// Indices of `Cell::objects`.
pub const DEPLOYMENT: u8 = 0;
pub const CONFIG: u8 = 1;
pub const SERVICE: u8 = 2;

/// A front Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FrontService {
    pub there: bool,
    pub orphan: bool,
    pub selects: Option<Color>,
    pub release: Release,
    pub epoch: u8,
    pub switched: Option<Age>,
    /// The color whose Pods the EndpointSlices list.
    pub listed: Option<Color>,
}

/// A ControllerRevision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Its number; 0 if it does not exist.
    pub number: u8,
    pub failed: bool,
    pub orphan: bool,
}

/// The lifecycle of the resource.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Lifecycle {
    #[default]
    Absent,
    Live,
    /// The resource has a deletion timestamp and a finalizer.
    Terminating,
}

/// The resource without its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    pub lifecycle: Lifecycle,
    pub generation: u8,
    /// The release in the spec.
    pub spec: Release,
    /// The annotation `rollback-to`: 0 none, 1 to 3 a release, 4 an unknown release.
    pub rollback: u8,
    pub retry: bool,
    pub restart: bool,
}

/// The state of the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ApiState {
    pub resource: Resource,
    /// Number of the status; 0 is none.
    pub status: u32,
    pub fronts: [FrontService; 2],
    /// The cells by color, then component.
    pub cells: [[Cell; 2]; 2],
    pub revisions: [Revision; 3],
}

/// The progress of an operator in a reconcile. The default is between two reconciles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Progress {
    /// Number of the plan; 0 is none.
    pub plan: u32,
    /// Number of the first half of a read; 0 is none.
    pub first_read: u32,
    /// Bits of the writes that are finished, successful or not.
    pub done: u16,
    /// Bits of the writes that the API server will reject, because their input has changed.
    pub rejected: u16,
    /// True if a write was rejected. The reconcile then ends with its group.
    pub failed: bool,
    /// True if a foreign object used a name.
    pub name_taken: bool,
    /// True if the resource of the plan is deleted.
    pub orphaned: bool,
}

/// The events that may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Edits of the spec.
    pub edits: u8,
    /// Annotations: rollback, retry, restart.
    pub requests: u8,
    /// Pods that fail, become unready or restart.
    pub breaks: u8,
    /// Failed Pods that become ready.
    pub heals: u8,
    /// Losses of the status.
    pub status_losses: u8,
    /// Objects that another client deletes.
    pub external_deletes: u8,
    /// Front Services that another client changes.
    pub selector_changes: u8,
    /// Deploy timeouts that end.
    pub timeouts: u8,
    /// Deletions of the resource. A new one of the same name may follow each.
    pub deletes: u8,
    /// Number of times that the API server's clock is set back.
    pub clock_jumps: u8,
    /// Reconciles of the second operator, which may stall; [`UNBOUNDED`] for no limit. The first operator has none.
    pub reads: u8,
}

/// No limit on the reconciles of the second operator.
pub const UNBOUNDED: u8 = u8::MAX;

/// The history that the invariants depend on. The operator never reads it.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any may go with any")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct History {
    /// Selector changes of each front Service in this rollout, without repairs of external changes.
    pub selector_changes: [u8; 2],
    /// True if another client changed objects.
    pub externally_changed: bool,
    /// True if the status was lost in this rollout.
    pub status_lost: bool,
    /// True if a Failed mark may have come too late for a recovery.
    pub mark_may_be_late: bool,
    /// True if Prune resolved a deadlock. Proof and delay are then waived until the EndpointSlices follow.
    pub proof_waived: bool,
    /// The highest epoch of this resource since the last loss of its status.
    pub epoch: u8,
}

/// A state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub server: ApiState,
    pub operators: [Progress; 2],
    pub budget: Budget,
    pub history: History,
}

/// An object that a write needs or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Front(usize),
    Object(usize, usize, u8),
    Revision(usize),
}

impl ApiState {
    pub fn cell(&self, component: Component, color: Color) -> &Cell {
        &self.cells[at(color)][of(component)]
    }

    pub fn cell_mut(&mut self, component: Component, color: Color) -> &mut Cell {
        &mut self.cells[at(color)][of(component)]
    }

    /// Returns both cells of a color.
    pub fn color_mut(&mut self, color: Color) -> &mut [Cell; 2] {
        &mut self.cells[at(color)]
    }
}

impl Cell {
    /// Returns the release of the Deployment, if the resource owns it.
    pub fn deployed(&self) -> Option<Release> {
        let kind = self.objects[0];
        (kind.release != 0 && !kind.orphan).then_some(kind.release)
    }

    /// Deletes the Deployment. With `pods_linger`, its Pod stays until the garbage collector runs.
    pub fn lose_deployment(&mut self, pods_linger: bool) {
        if self.pod != Pod::None && pods_linger {
            self.stray = self.objects[0].release;
        }
        self.objects[0] = ColorObject::default();
        self.pod = Pod::None;
        (self.older_than_switch, self.readiness_changed, self.restarts) = (false, false, 0);
    }
}

pub const fn at(color: Color) -> usize {
    match color {
        Color::Blue => 0,
        Color::Green => 1,
    }
}

pub const fn of(component: Component) -> usize {
    match component {
        Component::Storage => 0,
        Component::Schema => 1,
    }
}

/// Returns the name of a release.
pub fn name(release: Release) -> &'static str {
    ["none", "a", "b", "c", "z"][usize::from(release)]
}

/// Returns the release of a name; 0 if it is unknown.
pub fn number(name: &str) -> Release {
    match name {
        "a" => 1,
        "b" => 2,
        "c" => 3,
        _ => 0,
    }
}

/// Returns a 64-bit fingerprint by two multiply-and-fold rounds per word. With 10^7 states, two of them collide with
/// a probability of 3 in a million.
pub fn fingerprint(value: &impl Hash) -> u64 {
    let mut hasher = Folder { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 };
    value.hash(&mut hasher);
    hasher.finish()
}

struct Folder {
    low: u64,
    high: u64,
}

impl Folder {
    fn fold(a: u64, b: u64) -> u64 {
        let product = u128::from(a) * u128::from(b);
        #[allow(clippy::cast_possible_truncation)] // both first_reads are used
        let folded = (product as u64) ^ ((product >> 64) as u64);
        folded
    }
}

impl Hasher for Folder {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.write_u64(u64::from_ne_bytes(value.to_ne_bytes()));
    }

    fn write_u64(&mut self, value: u64) {
        self.low = Self::fold(self.low ^ value, 0xa076_1d64_78bd_642f);
        self.high = Self::fold(self.high ^ value.rotate_left(32), 0xe703_7ed1_a0b4_28db);
    }

    fn finish(&self) -> u64 {
        Self::fold(self.low ^ 0x8ebc_6af0_9c88_c6e3, self.high ^ 0x5899_65cc_7537_4cc3)
    }
}
