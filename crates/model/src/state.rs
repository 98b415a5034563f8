//! What a state of the model is: the resource, the objects, and the operators in the middle of their passes. Small and
//! hashable: statuses and plans are numbers of a table (`tables`), releases are numbers 1 to 3.

use std::hash::{Hash, Hasher};

use api::names::{Color, Component};

/// The releases `a`, `b`, `c`; 0 is none.
pub type Release = u8;

/// How long ago something was. Waits of a step are shorter than the deploy timeout, so three classes suffice; a fourth
/// is for a server whose clock went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Age {
    /// In the future.
    Ahead,
    /// Just now: no wait is over.
    Fresh,
    /// Long enough for every wait but the deploy timeout.
    Ripe,
    /// Longer than the deploy timeout.
    Old,
}

/// What a pod of a Deployment does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Pod {
    /// There is none.
    #[default]
    None,
    /// It starts, and nothing is known against it.
    Starting,
    /// It is ready.
    Ready,
    /// It cannot start: a hard failure.
    Failing,
    /// It was ready and is not any more.
    Unready,
}

/// The objects of one component on one color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Cell {
    /// The Deployment, the ConfigMap and the Service.
    pub parts: [Part; 3],
    /// The Deployment's pod.
    pub pod: Pod,
    /// The pod is older than the last decision to switch.
    pub settled: bool,
    /// The pod changed its readiness since the grace period began.
    pub flapped: bool,
    /// Restarts of the pod.
    pub restarts: u8,
    /// A pod whose Deployment is gone, not yet collected.
    pub stray: Release,
}

/// An object of a color.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Part {
    /// The release it belongs to; 0 if it does not exist.
    pub release: Release,
    /// The epoch it was created in.
    pub epoch: u8,
    /// Its owner is a resource that is gone.
    pub orphan: bool,
}

/// Indices of `Cell::parts`.
pub const DEPLOYMENT: u8 = 0;
pub const CONFIG: u8 = 1;
pub const SERVICE: u8 = 2;

/// A front Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Door {
    pub there: bool,
    pub orphan: bool,
    pub selects: Option<Color>,
    pub release: Release,
    pub epoch: u8,
    pub switched: Option<Age>,
    /// The color whose pods its EndpointSlices list.
    pub listed: Option<Color>,
}

/// A ControllerRevision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// Its number; 0 if it does not exist.
    pub number: u8,
    pub failed: bool,
    pub orphan: bool,
}

/// Whether the resource is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Life {
    #[default]
    Gone,
    Lives,
    /// It is being deleted, and is there for as long as something keeps it.
    Leaves,
}

/// The resource, without its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Resource {
    pub life: Life,
    pub generation: u8,
    /// The release that the spec describes.
    pub spec: Release,
    /// `rollback-to`: 0 none, 1 to 3 a release, 4 an unknown one.
    pub rollback: u8,
    pub retry: bool,
    pub restart: bool,
}

/// Everything on the API server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct World {
    pub resource: Resource,
    /// Number of the status; 0 is none.
    pub status: u32,
    pub doors: [Door; 2],
    /// By color, then component.
    pub cells: [[Cell; 2]; 2],
    pub records: [Record; 3],
}

/// An operator in a pass: what it decided and how far it got. The default: between two passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Actor {
    /// Number of the plan; 0 is none.
    pub plan: u32,
    /// Number of a first look that is not complete; 0 is none.
    pub look: u32,
    /// Which of the plan's writes are over, whichever way.
    pub done: u16,
    /// Which of them the API server will refuse: what they were decided on has changed.
    pub doomed: u16,
    /// A write was refused: the pass ends with its group.
    pub failed: bool,
    /// A name was held by others.
    pub taken: bool,
    /// The resource that it serves is gone.
    pub bereft: bool,
}

/// What the environment may still do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// Edits of the spec.
    pub edits: u8,
    /// Annotations: rollback, retry, restart.
    pub asks: u8,
    /// Pods that fail, lose readiness or restart.
    pub breaks: u8,
    /// Broken pods that become ready.
    pub heals: u8,
    /// Losses of the status.
    pub losses: u8,
    /// Objects deleted by another hand.
    pub hands: u8,
    /// Front Services pointed elsewhere by another hand.
    pub drifts: u8,
    /// Deploy timeouts that pass.
    pub timeouts: u8,
    /// Deletions of the resource; each may be followed by a new one of the same name.
    pub deletes: u8,
    /// Jumps back of the API server's clock.
    pub jumps: u8,
    /// Passes of the second operator: it is the one that stalls. The first has no bound; [`UNBOUNDED`] for the second.
    pub looks: u8,
}

/// So many passes are as many as it likes.
pub const UNBOUNDED: u8 = u8::MAX;

/// What the laws remember.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any may go with any")]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Ghost {
    /// Selector changes of each front Service in this rollout, but for those that mend what another hand did.
    pub moves: [u8; 2],
    /// Another hand has been at the objects.
    pub tampered: bool,
    /// The status was lost in this rollout.
    pub lost: bool,
    /// It was lost so that a mark may have come too late for the one that was rebuilt.
    pub unmarked: bool,
    /// Prune was entered out of a dead end: proof and delay are waived, until EndpointSlices follow.
    pub waived: bool,
    /// The highest epoch that was ever decided for this resource since its status was lost.
    pub epoch: u8,
}

/// A state of the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct State {
    pub world: World,
    pub actors: [Actor; 2],
    pub budget: Budget,
    pub ghost: Ghost,
}

/// An object that a write needs or changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    Door(usize),
    Part(usize, usize, u8),
    Record(usize),
}

impl World {
    pub fn cell(&self, component: Component, color: Color) -> &Cell {
        &self.cells[at(color)][of(component)]
    }

    pub fn cell_mut(&mut self, component: Component, color: Color) -> &mut Cell {
        &mut self.cells[at(color)][of(component)]
    }

    /// Both places of a color.
    pub fn color_mut(&mut self, color: Color) -> &mut [Cell; 2] {
        &mut self.cells[at(color)]
    }
}

impl Cell {
    /// The release of the Deployment, if it is the resource's own.
    pub fn deployed(&self) -> Option<Release> {
        let part = self.parts[0];
        (part.release != 0 && !part.orphan).then_some(part.release)
    }

    /// The Deployment goes; its pod stays until it is collected, if collection lags.
    pub fn lose_deployment(&mut self, lag: bool) {
        if self.pod != Pod::None && lag {
            self.stray = self.parts[0].release;
        }
        self.parts[0] = Part::default();
        self.pod = Pod::None;
        (self.settled, self.flapped, self.restarts) = (false, false, 0);
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

/// The name of a release.
pub fn name(release: Release) -> &'static str {
    ["none", "a", "b", "c", "z"][usize::from(release)]
}

/// The release of a name, 0 if it is none of the model's.
pub fn number(name: &str) -> Release {
    match name {
        "a" => 1,
        "b" => 2,
        "c" => 3,
        _ => 0,
    }
}

/// 64 bits of a state: two multiply-and-fold rounds a word. With 10^7 states, two of them collide with a probability of
/// 3 in a million.
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
        #[allow(clippy::cast_possible_truncation)] // both halves are used
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
