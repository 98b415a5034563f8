//! The objects of a state as objects of the simulated cluster, from which the facts follow.

use super::ages::{NOW, seconds};
use super::state::{ApiState, CONFIG, Cell, ColorObject, DEPLOYMENT, FrontService, Pod, SERVICE, name, of};
use api::names::{Color, Component, PerColor};
use rollout::facts::{Cause, ReleaseRef, Revision};
use simulator::cluster_state;
use simulator::{hash, template};

pub fn front(server: &ApiState, component: Component) -> Option<cluster_state::FrontService> {
    let front: &FrontService = &server.fronts[of(component)];
    (front.there && !front.orphan).then(|| cluster_state::FrontService {
        selects: front.selects,
        exact: true,
        version: (front.release != 0).then(|| name(front.release).to_owned()),
        epoch: i64::from(front.epoch),
        switched_at: front.switched.map(seconds),
        slices: PerColor::from_fn(|color| {
            let cell = server.cell(component, color);
            let listed = if front.listed == Some(color) { pods(cell) } else { 0 };
            let ready = u32::from(cell.pod == Pod::Ready) + u32::from(cell.stray != 0);
            (ready.min(listed), listed)
        }),
    })
}

fn pods(cell: &Cell) -> u32 {
    u32::from(cell.pod != Pod::None) + u32::from(cell.stray != 0)
}

fn tag(kind: ColorObject) -> Option<ReleaseRef> {
    (kind.release != 0 && !kind.orphan).then(|| ReleaseRef {
        version: name(kind.release).into(),
        hash: hash(name(kind.release)),
        epoch: i64::from(kind.epoch),
    })
}

pub fn cell(cell: &Cell, component: Component, color: Color, ready_since: i64) -> cluster_state::Cell {
    let deployment = tag(cell.objects[usize::from(DEPLOYMENT)]);
    let release = name(cell.objects[usize::from(DEPLOYMENT)].release);
    let pod = |name: String, version: String, ready| cluster_state::Pod {
        name,
        version,
        created: if cell.older_than_switch { 0 } else { NOW + 100_000 },
        ready,
        due: None,
        changed: cell.readiness_changed.then_some(ready_since + 1),
        restarts: i32::from(cell.restarts),
        cause: (cell.pod == Pod::Failing).then_some(Cause::Crash),
        disrupted: false,
    };
    let mut pods = vec![];
    if cell.pod != Pod::None {
        pods.push(pod(format!("{component}-{color}-{release}"), release.into(), cell.pod == Pod::Ready));
    }
    if cell.stray != 0 {
        let stray = format!("{component}-{color}-{}-stray", name(cell.stray));
        let mut pod = pod(stray.clone(), stray, true);
        (pod.created, pod.restarts, pod.changed) = (NOW + 100_000, 0, None);
        pods.push(pod);
    }
    cluster_state::Cell {
        deployment: deployment.map(|tag| cluster_state::StoredDeployment {
            adopted: None,
            tag,
            desired: 1,
            problem: None,
            drifted_by: vec![],
            observed: true,
        }),
        terminating: false,
        config: tag(cell.objects[usize::from(CONFIG)]),
        service: tag(cell.objects[usize::from(SERVICE)]),
        sets: !pods.is_empty(),
        pods,
    }
}

pub fn revisions(server: &ApiState) -> Vec<Revision> {
    let known =
        server.revisions.iter().enumerate().filter(|(_, record)| record.number != 0 && !record.orphan);
    let mut revisions: Vec<_> = known
        .map(|(at, record)| {
            let version = name(u8::try_from(at).unwrap() + 1);
            Revision {
                version: version.into(),
                hash: hash(version),
                flaw: None,
                number: i64::from(record.number),
                failed: record.failed.then(|| "failed".to_owned()),
                images: template(version).images,
                created: NOW - 5_000,
            }
        })
        .collect();
    revisions.sort_by(|a, b| (a.number, &a.version).cmp(&(b.number, &b.version)));
    revisions
}
