//! The output of the plugin. Pure: resource in, text out.

use std::fmt::Write as _;

use kube::ResourceExt;

use api::status::{ComponentStatus, ReleaseRecord, Side};
use api::{MetadataServices, MetadataServicesStatus};

/// Renders the active and the pending release, problems that need an action, and the history.
pub(super) fn status(resource: &MetadataServices) -> String {
    let name = resource.name_any();
    let namespace = resource.namespace().unwrap_or_default();
    let Some(status) = &resource.status else {
        return format!("{name} in {namespace}: the operator has not reconciled it yet\n");
    };
    let mut text = format!("{name} in {namespace}: {}\n", status.phase.as_deref().unwrap_or("unknown"));
    let mut row = |title: &str, value: &str| {
        let _ = writeln!(text, "  {title:<13} {value}");
    };
    row("active", &active(status));
    if let Some(pending) = pending(status) {
        row("pending", &pending);
    }
    for (kind, title) in [("Progressing", "progress"), ("Stalled", "action needed"), ("Drifted", "drifted")] {
        if let Some(said) = status.condition(kind).filter(|condition| condition.status == "True") {
            row(title, &format!("{}: {}", said.reason, said.message));
        }
    }
    let applied = status.condition("SpecApplied");
    if let Some(why) = applied.filter(|condition| condition.reason == "Paused") {
        row("paused", &why.message);
    }
    if let Some(endpoints) = &status.endpoints {
        row("addresses", &format!("{} and {}", endpoints.storage, endpoints.schema));
    }
    if let Some(back) = &status.last_rollback {
        let trigger = back.trigger.to_lowercase();
        row(
            "last rollback",
            &format!("{trigger}, {} -> {} at {} ({})", back.from, back.to, back.time.0, back.reason),
        );
    }
    text.push('\n');
    text.push_str(&history(resource));
    text
}

fn active(status: &MetadataServicesStatus) -> String {
    let Some(active) = status.active() else { return "none yet".into() };
    let ready = |part: &Option<ComponentStatus>| {
        part.as_ref().map_or_else(|| "?".into(), |part| format!("{}/{}", part.ready_replicas, part.replicas))
    };
    let pods = format!("storage {} ready, schema {} ready", ready(&status.storage), ready(&status.schema));
    format!("{}; {pods}", release(status, &active))
}

fn pending(status: &MetadataServicesStatus) -> Option<String> {
    let side = Side { strategy: status.pending_strategy?, version: status.pending_release_version.clone()? };
    Some(release(status, &side))
}

fn release(status: &MetadataServicesStatus, side: &Side) -> String {
    let tags = status.record(&side.version).map_or_else(String::new, |record| {
        format!(" (storage {}, schema {})", record.storage_tag, record.schema_tag)
    });
    format!("{} on {}{tags}", side.version, side.strategy)
}

/// Renders the history as a table, oldest first.
pub(super) fn history(resource: &MetadataServices) -> String {
    let records = resource.status.as_ref().map_or(&[][..], |status| &status.release_history);
    if records.is_empty() {
        return "No release yet.\n".into();
    }
    let head = ["VERSION", "STATUS", "COLOR", "STORAGE", "SCHEMA", "TRIGGER", "ACTIVE SINCE", "NOTE"];
    let rows = records.iter().map(cells);
    let table: Vec<_> = std::iter::once(head.map(str::to_owned)).chain(rows).collect();
    let widths: Vec<usize> = (0..head.len())
        .map(|column| {
            table.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    table.iter().fold(String::new(), |mut text, row| {
        let line: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        let _ = writeln!(text, "{}", line.join("  ").trim_end());
        text
    })
}

fn cells(record: &ReleaseRecord) -> [String; 8] {
    let since = record.activated_at.as_ref().map_or_else(|| "never".into(), |time| time.0.to_string());
    [
        record.version.clone(),
        record.status.as_str().to_owned(),
        record.strategy.to_string(),
        record.storage_tag.clone(),
        record.schema_tag.clone(),
        record.trigger.as_str().to_owned(),
        since,
        record.reason.clone().unwrap_or_default(),
    ]
}

/// Renders one line of a wait.
pub(super) fn line(resource: &MetadataServices) -> String {
    let Some(status) = &resource.status else { return "waiting for the operator\n".into() };
    let phase = status.deployment_phase.as_deref().or(status.phase.as_deref()).unwrap_or("unknown");
    let active =
        status.active().map_or_else(|| "no active release".into(), |active| release(status, &active));
    let said = status.condition("Progressing");
    let said = said.map_or_else(String::new, |said| format!(": {}", said.message));
    match pending(status) {
        Some(pending) => format!("{phase} {active} -> {pending}{said}\n"),
        None => format!("{phase} {active}{said}\n"),
    }
}
