//! Scenarios in words.

use super::env::Break;
use super::search::{Search, Turn};
use super::state::{Cell, Life, Pod, State, Target, World, name};
use super::tables::Deed;
use super::times::Pass;
use api::names::{Color, Component};

const OPERATORS: [&str; 2] = ["operator A", "operator B"];

/// What happens.
pub fn turn(search: &Search, state: &State, turn: Turn) -> String {
    let operator = |actor: u8| OPERATORS[usize::from(actor)];
    match turn {
        Turn::Look(actor) => format!("{} reads everything and decides", operator(actor)),
        Turn::LookFirst(actor, half) => format!("{} begins to look: {half:?} first", operator(actor)),
        Turn::LookRest(actor) => format!("{} reads the rest and decides", operator(actor)),
        Turn::Write(actor, n) => {
            let refused = state.actors[usize::from(actor)].doomed & (1 << n) != 0;
            let words = deed(search, search.deed_of(state, actor, n));
            format!("{} writes: {words}{}", operator(actor), if refused { " (409)" } else { "" })
        }
        Turn::Crash(actor) => format!("{} crashes and starts again", operator(actor)),
        Turn::Ready(color) => format!("the pods on {color} that start become ready"),
        Turn::Slices => "EndpointSlices follow the front Services".into(),
        Turn::Collect => "the garbage collector catches up".into(),
        Turn::Pass(Pass::Waits) => "time passes: every wait but the deploy timeout is over".into(),
        Turn::Pass(Pass::Timeout) => "time passes: the deploy timeout is over".into(),
        Turn::Pass(Pass::Back) => "the API server's clock jumps back".into(),
        Turn::Break(component, color, kind) => {
            let words = match kind {
                Break::Fail => "cannot start",
                Break::Unready => "loses its readiness",
                Break::Restart => "restarts",
            };
            format!("the pod of {component} on {color} {words}")
        }
        Turn::Heal(color) => format!("the broken pods on {color} become ready"),
        Turn::Wipe => "the status is lost".into(),
        Turn::Remove(target) => format!("another hand deletes {}", object(target)),
        Turn::Drift(component, color) => {
            format!("another hand points the front Service of {component} to {color}")
        }
        Turn::Edit(release) => format!("the user edits the spec to release {}", name(release)),
        Turn::Rollback(release) => format!("the user annotates rollback-to={}", name(release)),
        Turn::Retry => "the user annotates retry".into(),
        Turn::Restart => "the user annotates restart".into(),
        Turn::Delete => "the user deletes the resource".into(),
        Turn::Leave => "the resource is gone".into(),
        Turn::Recreate => "the user creates the resource".into(),
    }
}

fn object(target: Target) -> String {
    match target {
        Target::Door(door) => format!("the front Service of {}", Component::ALL[door]),
        Target::Part(color, component, part) => {
            let kind = ["Deployment", "ConfigMap", "Service"][usize::from(part)];
            format!("the {kind} of {} on {}", Component::ALL[component], Color::ALL[color])
        }
        Target::Record(record) => {
            format!("the revision of {}", name(u8::try_from(record).unwrap() + 1))
        }
    }
}

fn deed(search: &Search, deed: Deed) -> String {
    match deed {
        Deed::Commit(status) => {
            let rollout = search.tables.status(status).and_then(|status| status.rollout.as_ref());
            rollout.map_or("a status".into(), |rollout| {
                let target =
                    rollout.target.as_ref().map(|side| format!(" {} on {}", side.version, side.strategy));
                format!("status {:?}{}, epoch {}", rollout.step, target.unwrap_or_default(), rollout.epoch)
            })
        }
        Deed::ResourcePatch { restore: 0, .. } => "the spec: an annotation is removed".into(),
        Deed::ResourcePatch { restore, .. } => format!("the spec: release {} is restored", name(restore)),
        Deed::CreateDoor(door) => format!("creates the front Service of {}", Component::ALL[door]),
        Deed::Point { door, selects, release, epoch } => format!(
            "points the front Service of {} to {} on {}, epoch {epoch}",
            Component::ALL[door],
            name(release),
            selects.map_or("none", Color::as_str)
        ),
        Deed::Create { color, component, part, release, epoch } => {
            format!(
                "creates {} for {}, epoch {epoch}",
                object(Target::Part(color, component, part)),
                name(release)
            )
        }
        Deed::Record { release, failed, .. } => {
            format!("records {} as {}", name(release), if failed { "failed" } else { "good" })
        }
        Deed::Stamp { color, component, part, epoch } => {
            format!("stamps {} with {epoch}", object(Target::Part(color, component, part)))
        }
        Deed::DeletePart { color, component, part } => {
            format!("deletes {}", object(Target::Part(color, component, part)))
        }
        Deed::DeleteRecord(record) => format!("deletes {}", object(Target::Record(record))),
    }
}

/// What there is then, in a line.
pub fn state(search: &Search, state: &State) -> String {
    world(search, &state.world)
}

/// What there is, in a line.
pub fn world(search: &Search, world: &World) -> String {
    let machine = search.tables.status(world.status).map_or("no status".to_owned(), |status| {
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
    let fronts = world.doors.map(|door| {
        let to = door.selects.map_or("none", Color::as_str);
        let kept = if door.orphan { " orphaned" } else { "" };
        if door.there { format!("{}/{to}/{}{kept}", name(door.release), door.epoch) } else { "-".into() }
    });
    let cells = world.cells.map(|color| color.map(|found| cell(&found)).join(" "));
    format!(
        "spec {}{}; {machine}; fronts {}; blue {}; green {}",
        name(world.resource.spec),
        if world.resource.life == Life::Leaves { ", being deleted" } else { "" },
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
    let parts = cell.parts.map(|part| if part.release == 0 { "-" } else { name(part.release) });
    let stray = if cell.stray == 0 { "" } else { "&" };
    format!("{}{pod}{stray}", parts.concat())
}
