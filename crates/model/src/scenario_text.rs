//! Scenarios as text.

use super::ages::TimeStep;
use super::environment::Break;
use super::interner::Write;
use super::search::{Event, Search};
use super::state::{ApiState, Cell, Lifecycle, Pod, State, Target, name};
use api::names::{Color, Component};

const OPERATORS: [&str; 2] = ["operator A", "operator B"];

/// Describes an event.
pub fn event(search: &Search, state: &State, event: Event) -> String {
    let name_of = |operator: u8| OPERATORS[usize::from(operator)];
    match event {
        Event::Read(operator) => format!("{} reads everything and decides", name_of(operator)),
        Event::ReadFirst(operator, first) => {
            format!("{} starts a split read with {first:?}", name_of(operator))
        }
        Event::ReadRest(operator) => format!("{} reads the rest and decides", name_of(operator)),
        Event::Write(operator, n) => {
            let rejected = state.operators[usize::from(operator)].rejected & (1 << n) != 0;
            let write = write_text(search, search.write_of(state, operator, n));
            format!("{} writes: {write}{}", name_of(operator), if rejected { " (409)" } else { "" })
        }
        Event::Crash(operator) => format!("{} crashes and restarts", name_of(operator)),
        Event::PodsReady(color) => format!("the starting Pods on {color} become ready"),
        Event::UpdateSlices => "EndpointSlices follow the front Services".into(),
        Event::CollectGarbage => "the garbage collector runs".into(),
        Event::TimePasses(TimeStep::Waits) => "time passes: all waits except the deploy timeout end".into(),
        Event::TimePasses(TimeStep::Timeout) => "time passes: the deploy timeout ends".into(),
        Event::TimePasses(TimeStep::ClockBack) => "the API server's clock is set back".into(),
        Event::BreakPod(component, color, kind) => {
            let fault = match kind {
                Break::Fail => "cannot start",
                Break::Unready => "becomes unready",
                Break::Restart => "restarts",
            };
            format!("the Pod of {component} on {color} {fault}")
        }
        Event::HealPods(color) => format!("the failed Pods on {color} become ready"),
        Event::LoseStatus => "the status is lost".into(),
        Event::DeleteExternally(target) => format!("another client deletes {}", object(target)),
        Event::ChangeSelector(component, color) => {
            format!("another client changes the selector of {component} to {color}")
        }
        Event::Edit(release) => format!("the user edits the spec to release {}", name(release)),
        Event::Rollback(release) => format!("the user annotates rollback-to={}", name(release)),
        Event::Retry => "the user annotates retry".into(),
        Event::Restart => "the user annotates restart".into(),
        Event::Delete => "the user deletes the resource".into(),
        Event::RemoveResource => "the resource is deleted".into(),
        Event::Recreate => "the user creates the resource".into(),
    }
}

fn object(target: Target) -> String {
    match target {
        Target::Front(front) => format!("the front Service of {}", Component::ALL[front]),
        Target::Object(color, component, kind) => {
            let kind = ["Deployment", "ConfigMap", "Service"][usize::from(kind)];
            format!("the {kind} of {} on {}", Component::ALL[component], Color::ALL[color])
        }
        Target::Revision(index) => {
            format!("the revision of {}", name(u8::try_from(index).unwrap() + 1))
        }
    }
}

fn write_text(search: &Search, write: Write) -> String {
    match write {
        Write::UpdateStatus(status) => {
            let rollout = search.interner.status(status).and_then(|status| status.rollout.as_ref());
            rollout.map_or("a status".into(), |rollout| {
                let target =
                    rollout.target.as_ref().map(|side| format!(" {} on {}", side.version, side.strategy));
                format!("status {:?}{}, epoch {}", rollout.step, target.unwrap_or_default(), rollout.epoch)
            })
        }
        Write::PatchResource { restore: 0, .. } => "removes an annotation".into(),
        Write::PatchResource { restore, .. } => format!("restores release {} in the spec", name(restore)),
        Write::CreateFront(front) => format!("creates the front Service of {}", Component::ALL[front]),
        Write::Route { front, selects, release, epoch } => format!(
            "routes the front Service of {} to {} on {}, epoch {epoch}",
            Component::ALL[front],
            name(release),
            selects.map_or("none", Color::as_str)
        ),
        Write::CreateObject { color, component, kind, release, epoch } => {
            format!(
                "creates {} for {}, epoch {epoch}",
                object(Target::Object(color, component, kind)),
                name(release)
            )
        }
        Write::RecordRevision { release, failed, .. } => {
            format!("records {} as {}", name(release), if failed { "failed" } else { "good" })
        }
        Write::RaiseEpoch { color, component, kind, epoch } => {
            format!("raises the epoch of {} to {epoch}", object(Target::Object(color, component, kind)))
        }
        Write::DeleteObject { color, component, kind } => {
            format!("deletes {}", object(Target::Object(color, component, kind)))
        }
        Write::DeleteRevision(index) => format!("deletes {}", object(Target::Revision(index))),
    }
}

/// Describes a state in one line.
pub fn state(search: &Search, state: &State) -> String {
    server(search, &state.server)
}

/// Describes the API server in one line.
pub fn server(search: &Search, server: &ApiState) -> String {
    let machine = search.interner.status(server.status).map_or("no status".to_owned(), |status| {
        let history: Vec<_> = status
            .release_history
            .iter()
            .map(|record| format!("{}:{:?}", record.version, record.status))
            .collect();
        let active =
            status.active().map_or("none".into(), |side| format!("{} on {}", side.version, side.strategy));
        let (step, epoch) =
            status.rollout.as_ref().map_or((None, 0), |found| (Some(found.step), found.epoch));
        format!("{step:?} epoch {epoch} active {active} [{}]", history.join(" "))
    });
    let fronts = server.fronts.map(|front| {
        let to = front.selects.map_or("none", Color::as_str);
        let kept = if front.orphan { " orphaned" } else { "" };
        if front.there { format!("{}/{to}/{}{kept}", name(front.release), front.epoch) } else { "-".into() }
    });
    let cells = server.cells.map(|color| color.map(|found| cell(&found)).join(" "));
    format!(
        "spec {}{}; {machine}; fronts {}; blue {}; green {}",
        name(server.resource.spec),
        if server.resource.lifecycle == Lifecycle::Terminating { ", being deleted" } else { "" },
        fronts.join(" "),
        cells[0],
        cells[1]
    )
}

fn cell(cell: &Cell) -> String {
    let pod = match cell.pod {
        Pod::None => "",
        Pod::Starting => "~",
        Pod::Ready => "+",
        Pod::Failing => "!",
        Pod::Unready => "?",
    };
    let objects = cell.objects.map(|kind| if kind.release == 0 { "-" } else { name(kind.release) });
    let stray = if cell.stray == 0 { "" } else { "&" };
    format!("{}{pod}{stray}", objects.concat())
}
