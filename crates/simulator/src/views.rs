//! What tests ask the simulator.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Sim, cluster};
use api::names::{Color, Component};
use api::status::{MetadataServicesStatus, RecordStatus, ReleaseRecord, Step};
use rollout::EventReason;

impl Sim {
    pub fn step(&self) -> Option<Step> {
        Some(self.status.as_ref()?.rollout.as_ref()?.step)
    }

    pub fn step_name(&self) -> String {
        self.step().map_or_else(|| "none".to_owned(), |step| format!("{step:?}"))
    }

    pub fn known(&self) -> &MetadataServicesStatus {
        self.status.as_ref().expect("there is a status")
    }

    /// `release on color` of what the status calls active.
    pub fn active(&self) -> String {
        let side = self.status.as_ref().and_then(MetadataServicesStatus::active);
        side.map_or_else(|| "none".to_owned(), |side| format!("{} on {}", side.version, side.strategy))
    }

    /// What both front Services send traffic to; `torn` if they differ.
    pub fn traffic(&self) -> String {
        let says = |component| {
            let door = self.cluster.fronts.get(component).as_ref();
            door.and_then(|door| Some(format!("{} on {}", door.version.clone()?, door.selects?)))
        };
        match (says(Component::Storage), says(Component::Schema)) {
            (None, None) => "none".into(),
            (Some(storage), Some(schema)) if storage == schema => storage,
            _ => "torn".into(),
        }
    }

    pub fn record_of(&self, version: &str) -> &ReleaseRecord {
        self.known().record(version).unwrap_or_else(|| panic!("no record of {version}"))
    }

    /// The history as `a:Superseded b:Active`.
    pub fn history(&self) -> String {
        let word = |record: &ReleaseRecord| format!("{}:{:?}", record.version, record.status);
        self.known().release_history.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    pub fn failed(&self, version: &str) -> bool {
        self.record_of(version).status == RecordStatus::Failed
    }

    pub fn condition(&self, kind: &str) -> &Condition {
        let found = self.known().conditions.iter().find(|condition| condition.type_ == kind);
        found.unwrap_or_else(|| panic!("no condition {kind}"))
    }

    /// `True/Reason` of a condition.
    pub fn says(&self, kind: &str) -> String {
        let condition = self.condition(kind);
        format!("{}/{}", condition.status, condition.reason)
    }

    pub fn phase(&self) -> &str {
        self.known().phase.as_deref().unwrap_or("none")
    }

    pub fn total(&self) -> usize {
        self.writes.values().sum()
    }

    pub fn wrote(&self, kind: &str) -> usize {
        self.writes.get(kind).copied().unwrap_or(0)
    }

    pub fn told(&self, what: EventReason) -> usize {
        self.notes.iter().filter(|note| note.what == what).count()
    }

    /// How many Events were told.
    pub fn events(&self) -> usize {
        self.notes.len()
    }

    pub fn has_objects(&self, color: Color) -> bool {
        self.cluster.cells.get(color).any(|cell| *cell != cluster::Cell::default())
    }

    pub fn story(&self) -> String {
        let tail: Vec<_> = self.trace.iter().rev().take(40).rev().cloned().collect();
        let history = self.status.as_ref().map(|_| self.history());
        format!("step {}, {history:?}\n{}", self.step_name(), tail.join("\n"))
    }
}
