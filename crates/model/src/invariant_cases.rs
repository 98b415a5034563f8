//! Violates each invariant of `state_invariants` and `run_to_rest` by a change of a valid state, so that no check is
//! without effect.

use super::interner::Write;
use super::search::{Config, Search, Start};
use super::searches::BASE;
use super::state::{DEPLOYMENT, Revision, State};
use super::state_invariants::{check_state, rest_invariants, status_invariants, write_invariants};
use api::names::Color;
use api::status::{MetadataServicesStatus, RecordStatus, Step};
use simulator::invariants::Violation;
use simulator::message_templates::{matches_template, templates};

/// The start of a search, and its next write.
struct ModelCase {
    search: Search,
    state: State,
    write: Write,
}

/// The message template of an invariant in the source code, and a change that violates it.
type Case = (&'static str, fn(&mut ModelCase));

/// Templates that no change of a state can cause.
const EXEMPT: [(&str, &str); 4] = [
    ("I30, I37: reconciles repeat the same states; now {}", "needs a core that undoes its own writes"),
    ("I37: never comes to rest; now {}", "needs a core that never stops writing"),
    (" with all pods healed", "no invariant"),
    ("{violation}\\nwithout further events{how}, the end is {}", "no invariant"),
];

const WAIT: Write = Write::UpdateStatus(0);
const ROUTE: Write = Write::Route { front: 0, selects: Some(Color::Green), release: 2, epoch: 4 };
const CREATE: Write = Write::CreateObject { color: 1, component: 0, kind: DEPLOYMENT, release: 2, epoch: 3 };
const DELETE: Write = Write::DeleteObject { color: 0, component: 0, kind: DEPLOYMENT };
const RESTORE: Write = restore(1);

const fn restore(restore: u8) -> Write {
    Write::PatchResource { restore, rollback: true, retry: false, restart: false }
}

impl ModelCase {
    fn of(start: Start, write: Write) -> Self {
        let mut search = Search::new(Config { start, ..BASE });
        let state = search.start().unwrap();
        let write = if write == WAIT { Write::UpdateStatus(state.server.status) } else { write };
        Self { search, state, write }
    }

    /// Changes the persisted status.
    fn edit(&mut self, change: impl Fn(&mut MetadataServicesStatus)) {
        let mut status = self.search.interner.status(self.state.server.status).unwrap().clone();
        change(&mut status);
        self.state.server.status = self.search.interner.intern_status(status);
    }

    fn check_write(&mut self) -> Result<(), Violation> {
        write_invariants(&self.search, &self.state, 0, self.write)
    }

    fn check_status(&mut self) -> Result<(), Violation> {
        let Write::UpdateStatus(status) = self.write else { panic!("no status") };
        status_invariants(&self.search, &mut self.state, status)
    }

    fn check_state(&mut self) -> Result<(), Violation> {
        check_state(&self.search, &self.state)
    }

    fn check_rest(&mut self) -> Result<(), Violation> {
        rest_invariants(&self.search, &self.state.server)
    }

    fn check_end(&mut self) -> Result<(), Violation> {
        self.search.is_good_end(&self.state.server, false)
    }
}

/// Fails unless each change of a valid state violates its invariant.
fn violated(
    start: Start,
    write: Write,
    ask: fn(&mut ModelCase) -> Result<(), Violation>,
    cases: &[Case],
) -> Vec<&'static str> {
    assert_eq!(ask(&mut ModelCase::of(start, write)), Ok(()), "{start:?} {write:?}");
    for (template, change) in cases {
        let mut it = ModelCase::of(start, write);
        change(&mut it);
        let violation = ask(&mut it).expect_err(template);
        assert!(matches_template(&violation, template), "{violation}: expected {template}");
    }
    cases.iter().map(|(template, _)| *template).collect()
}

#[test]
fn every_state_invariant_is_violated_by_a_changed_state() {
    let violated = [writes(), statuses(), states(), rests(), ends(), unhealthy_ends()].concat();
    let known = [include_str!("state_invariants.rs"), include_str!("run_to_rest.rs")].map(templates).concat();
    assert!(known.len() > 25, "only {} templates: has their form changed?", known.len());
    let exempt = |template: &str| EXEMPT.iter().any(|(known, _)| *known == template);
    let missing: Vec<_> =
        known.iter().filter(|template| !violated.contains(template) && !exempt(template)).collect();
    assert!(missing.is_empty(), "no case violates {missing:#?}");
}

fn writes() -> Vec<&'static str> {
    [
        violated(
            Start::At(Step::Switching),
            ROUTE,
            ModelCase::check_write,
            &[
                ("I28: {write:?} for a deleted resource, on an object of its successor", |it| {
                    it.state.operators[0].orphaned = true;
                }),
                ("I13: the epoch of a front Service falls from {} to {epoch}", |it| {
                    it.state.server.fronts[0].epoch = 9;
                }),
                ("I1, I10: a front Service is routed to {} on {color}, which is missing", |it| {
                    it.state.server.cells[1][1].objects[0].release = 3;
                }),
            ],
        ),
        violated(
            Start::At(Step::Deploying),
            CREATE,
            ModelCase::check_write,
            &[("I4: {write:?} while the front Services differ", |it| it.state.server.fronts[0].release = 3)],
        ),
        violated(
            Start::At(Step::Deploying),
            RESTORE,
            ModelCase::check_write,
            &[("I24: {} never served", |it| {
                it.write = restore(2);
            })],
        ),
        violated(
            Start::At(Step::Prune),
            DELETE,
            ModelCase::check_write,
            &[
                ("I3, I9: a {what} on {color} is deleted, which a front Service selects", |it| {
                    it.state.server.fronts[0].selects = Some(Color::Blue);
                }),
                ("I4: a {what} is deleted while the front Services differ", |it| {
                    it.state.server.fronts[0].release = 1;
                }),
                ("I9: a {what} on {color} is deleted while EndpointSlices list its pods", |it| {
                    it.state.server.fronts[0].listed = Some(Color::Blue);
                }),
            ],
        ),
    ]
    .concat()
}

fn statuses() -> Vec<&'static str> {
    violated(
        Start::At(Step::Deploying),
        WAIT,
        ModelCase::check_status,
        &[
            ("the status to write does not exist", |it| it.write = Write::UpdateStatus(0)),
            ("I13: epoch {epoch} is persisted after {}", |it| it.state.history.epoch = 9),
            ("I18: {} is marked Failed and starts without a request", |it| {
                it.state.server.status = 0;
                it.state.server.revisions[1] = Revision { number: 2, failed: true, orphan: false };
            }),
        ],
    )
}

fn states() -> Vec<&'static str> {
    violated(
        Start::At(Step::Watching),
        WAIT,
        ModelCase::check_state,
        &[
            ("I1: a front Service selects {} on {color}, which is missing", |it| {
                it.state.server.fronts[0].release = 3;
            }),
            ("I4: the front Services differ in {step:?}", |it| {
                let front = &mut it.state.server.fronts[0];
                (front.selects, front.release) = (Some(Color::Blue), 1);
            }),
            ("I5: the selectors changed {:?} times in one rollout", |it| {
                it.state.history.selector_changes = [3, 0];
            }),
        ],
    )
}

fn rests() -> Vec<&'static str> {
    violated(
        Start::Upgraded,
        WAIT,
        ModelCase::check_rest,
        &[
            ("rest without a status", |it| it.state.server.status = 0),
            ("rest in Stable without an active release", |it| {
                it.edit(|status| status.active_strategy = None);
            }),
            ("I15: {} Active records in Stable", |it| {
                it.edit(|status| status.release_history[1].status = RecordStatus::Superseded);
            }),
            ("I16: a front Service does not select the active release", |it| {
                it.state.server.fronts[0].selects = None;
            }),
            ("I33: the revision of {version} has no record", |it| it.state.server.revisions[2].number = 3),
            ("I18: {version} failed and has no Failed mark at rest", |it| {
                it.edit(|status| status.release_history[0].status = RecordStatus::Failed);
            }),
        ],
    )
}

fn ends() -> Vec<&'static str> {
    violated(
        Start::Stable,
        WAIT,
        ModelCase::check_end,
        &[
            ("I37: ends without a status", |it| it.state.server.status = 0),
            ("I37: ends without a rollout in the status", |it| it.edit(|status| status.rollout = None)),
            ("I24: a request remains without an answer", |it| it.state.server.resource.retry = true),
            ("I26, I37: rests on an unwanted release although the wanted one is not blocked", |it| {
                it.state.server.resource.spec = 3;
            }),
            ("I37: stays in {step:?} without a permitted reason", |it| {
                it.edit(|status| status.rollout.as_mut().unwrap().step = Step::Prune);
            }),
        ],
    )
}

fn unhealthy_ends() -> Vec<&'static str> {
    let healed = |it: &mut ModelCase| it.search.is_good_end(&it.state.server, true);
    violated(
        Start::Stable,
        WAIT,
        healed,
        &[("I37: stays in {:?} although all Pods are healthy", |it| {
            it.edit(|status| status.rollout.as_mut().unwrap().step = Step::Watching);
        })],
    )
}
