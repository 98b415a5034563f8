//! Queries of the simulator's state, for assertions.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{Sim, cluster_state};
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

    pub fn stored_status(&self) -> &MetadataServicesStatus {
        self.status.as_ref().expect("there is a status")
    }

    /// Returns the active release as `release on color`, from the status.
    pub fn active(&self) -> String {
        let side = self.status.as_ref().and_then(MetadataServicesStatus::active);
        side.map_or_else(|| "none".to_owned(), |side| format!("{} on {}", side.version, side.strategy))
    }

    /// Returns the release that both front Services select, or `split` if they differ.
    pub fn traffic(&self) -> String {
        let says = |component| {
            let front = self.cluster.fronts.get(component).as_ref();
            front.and_then(|front| Some(format!("{} on {}", front.version.clone()?, front.selects?)))
        };
        match (says(Component::Storage), says(Component::Schema)) {
            (None, None) => "none".into(),
            (Some(storage), Some(schema)) if storage == schema => storage,
            _ => "split".into(),
        }
    }

    pub fn record_of(&self, version: &str) -> &ReleaseRecord {
        self.stored_status().record(version).unwrap_or_else(|| panic!("no record of {version}"))
    }

    /// Returns the release history as `a:Superseded b:Active`.
    pub fn history(&self) -> String {
        let word = |record: &ReleaseRecord| format!("{}:{:?}", record.version, record.status);
        self.stored_status().release_history.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    pub fn failed(&self, version: &str) -> bool {
        self.record_of(version).status == RecordStatus::Failed
    }

    pub fn condition(&self, kind: &str) -> &Condition {
        let found = self.stored_status().conditions.iter().find(|condition| condition.type_ == kind);
        found.unwrap_or_else(|| panic!("no condition {kind}"))
    }

    /// Returns a condition as `True/Reason`.
    pub fn condition_state(&self, kind: &str) -> String {
        let condition = self.condition(kind);
        format!("{}/{}", condition.status, condition.reason)
    }

    pub fn phase(&self) -> &str {
        self.stored_status().phase.as_deref().unwrap_or("none")
    }

    pub fn write_count(&self) -> usize {
        self.writes.values().sum()
    }

    pub fn wrote(&self, kind: &str) -> usize {
        self.writes.get(kind).copied().unwrap_or(0)
    }

    pub fn event_count(&self, what: EventReason) -> usize {
        self.notes.iter().filter(|note| note.reason == what).count()
    }

    /// Returns the number of Events.
    pub fn event_total(&self) -> usize {
        self.notes.len()
    }

    pub fn has_objects(&self, color: Color) -> bool {
        self.cluster.cells.get(color).any(|cell| *cell != cluster_state::Cell::default())
    }

    pub fn trace_text(&self) -> String {
        let tail: Vec<_> = self.trace.iter().rev().take(40).rev().cloned().collect();
        let history = self.status.as_ref().map(|_| self.history());
        format!("step {}, {history:?}\n{}", self.step_name(), tail.join("\n"))
    }
}
