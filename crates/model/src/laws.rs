//! Each law of `world` and `drain` is broken by a change of a good state, so that none is a law that nothing breaks.

use super::search::{Config, Search, Start};
use super::state::{DEPLOYMENT, Record, State};
use super::tables::Deed;
use super::tests::BASE;
use super::world::{check, committed, landed, rested};
use api::names::Color;
use api::status::{MetadataServicesStatus, RecordStatus, Step};
use simulator::laws::Judgement;
use simulator::templates::{says, words};

/// Where a search begins, and a write that comes next.
struct Good {
    search: Search,
    state: State,
    deed: Deed,
}

/// The words of a law as they stand in the code, and what breaks it.
type Case = (&'static str, fn(&mut Good));

/// What no change of a state breaks.
const EXEMPT: [(&str, &str); 4] = [
    ("I30, I37: goes in circles; now {}", "takes a core that undoes what it did"),
    ("I37: never comes to rest; now {}", "takes a core that does ever new things"),
    (" with all pods healed", "is no law"),
    ("{law}\\nleft alone{how}, it ends as {}", "is no law"),
];

const WAIT: Deed = Deed::Commit(0);
const POINT: Deed = Deed::Point { door: 0, selects: Some(Color::Green), release: 2, epoch: 4 };
const CREATE: Deed = Deed::Create { color: 1, component: 0, part: DEPLOYMENT, release: 2, epoch: 3 };
const DELETE: Deed = Deed::DeletePart { color: 0, component: 0, part: DEPLOYMENT };
const RESTORE: Deed = restore(1);

const fn restore(restore: u8) -> Deed {
    Deed::ResourcePatch { restore, rollback: true, retry: false, restart: false }
}

impl Good {
    fn of(start: Start, deed: Deed) -> Self {
        let mut search = Search::new(Config { start, ..BASE });
        let state = search.start().unwrap();
        let deed = if deed == WAIT { Deed::Commit(state.world.status) } else { deed };
        Self { search, state, deed }
    }

    /// Changes the status that is persisted.
    fn edit(&mut self, change: impl Fn(&mut MetadataServicesStatus)) {
        let mut status = self.search.tables.status(self.state.world.status).unwrap().clone();
        change(&mut status);
        self.state.world.status = self.search.tables.intern_status(status);
    }

    fn lands(&mut self) -> Judgement {
        landed(&self.search, &self.state, 0, self.deed)
    }

    fn is_committed(&mut self) -> Judgement {
        let Deed::Commit(status) = self.deed else { panic!("no status") };
        committed(&self.search, &mut self.state, status)
    }

    fn holds(&mut self) -> Judgement {
        check(&self.search, &self.state)
    }

    fn rests(&mut self) -> Judgement {
        rested(&self.search, &self.state.world)
    }

    fn ends(&mut self) -> Judgement {
        self.search.is_good_end(&self.state.world, false)
    }
}

/// Fails unless each change of a good state breaks the law it is for.
fn broken(start: Start, deed: Deed, ask: fn(&mut Good) -> Judgement, cases: &[Case]) -> Vec<&'static str> {
    assert_eq!(ask(&mut Good::of(start, deed)), Ok(()), "{start:?} {deed:?}");
    for (law, change) in cases {
        let mut it = Good::of(start, deed);
        change(&mut it);
        let words = ask(&mut it).expect_err(law);
        assert!(says(&words, law), "{words}, where {law} was to break");
    }
    cases.iter().map(|(law, _)| *law).collect()
}

#[test]
fn every_law_of_the_world_is_broken_by_a_change_of_a_good_state() {
    let broken = [writes(), statuses(), states(), rests(), ends(), unhealthy_ends()].concat();
    let laws = [include_str!("world.rs"), include_str!("drain.rs")].map(words).concat();
    assert!(laws.len() > 25, "only {} laws: has their form changed?", laws.len());
    let exempt = |law: &str| EXEMPT.iter().any(|(words, _)| *words == law);
    let missing: Vec<_> = laws.iter().filter(|law| !broken.contains(law) && !exempt(law)).collect();
    assert!(missing.is_empty(), "no case breaks {missing:#?}");
}

fn writes() -> Vec<&'static str> {
    [
        broken(
            Start::At(Step::Switching),
            POINT,
            Good::lands,
            &[
                ("I28: {deed:?} for a resource that is gone, on an object of its successor", |it| {
                    it.state.actors[0].bereft = true;
                }),
                ("I13: the stamp of a front Service goes from {} to {epoch}", |it| {
                    it.state.world.doors[0].epoch = 9;
                }),
                ("I1, I10: a front Service is pointed to {} on {color}, which is not there", |it| {
                    it.state.world.cells[1][1].parts[0].release = 3;
                }),
            ],
        ),
        broken(
            Start::At(Step::Deploying),
            CREATE,
            Good::lands,
            &[("I4: {deed:?} while the front Services differ", |it| it.state.world.doors[0].release = 3)],
        ),
        broken(
            Start::At(Step::Deploying),
            RESTORE,
            Good::lands,
            &[("I24: {} never served", |it| {
                it.deed = restore(2);
            })],
        ),
        broken(
            Start::At(Step::Prune),
            DELETE,
            Good::lands,
            &[
                ("I3, I9: a {what} on {color} is deleted, which a front Service selects", |it| {
                    it.state.world.doors[0].selects = Some(Color::Blue);
                }),
                ("I4: a {what} is deleted while the front Services differ", |it| {
                    it.state.world.doors[0].release = 1;
                }),
                ("I9: a {what} on {color} is deleted while EndpointSlices list its pods", |it| {
                    it.state.world.doors[0].listed = Some(Color::Blue);
                }),
            ],
        ),
    ]
    .concat()
}

fn statuses() -> Vec<&'static str> {
    broken(
        Start::At(Step::Deploying),
        WAIT,
        Good::is_committed,
        &[
            ("a status that is none", |it| it.deed = Deed::Commit(0)),
            ("I13: epoch {epoch} is persisted after {}", |it| it.state.ghost.epoch = 9),
            ("I18: {} is marked as failed and tried unasked", |it| {
                it.state.world.status = 0;
                it.state.world.records[1] = Record { number: 2, failed: true, orphan: false };
            }),
        ],
    )
}

fn states() -> Vec<&'static str> {
    broken(
        Start::At(Step::Watching),
        WAIT,
        Good::holds,
        &[
            ("I1: a front Service selects {} on {color}, which is not there", |it| {
                it.state.world.doors[0].release = 3;
            }),
            ("I4: the front Services differ in {step:?}", |it| {
                let door = &mut it.state.world.doors[0];
                (door.selects, door.release) = (Some(Color::Blue), 1);
            }),
            ("I5: a selector moved {:?} times in one rollout", |it| it.state.ghost.moves = [3, 0]),
        ],
    )
}

fn rests() -> Vec<&'static str> {
    broken(
        Start::Upgraded,
        WAIT,
        Good::rests,
        &[
            ("rest without a status", |it| it.state.world.status = 0),
            ("rest in Stable without a release that serves", |it| {
                it.edit(|status| status.active_strategy = None);
            }),
            ("I15: {} Active in Stable", |it| {
                it.edit(|status| status.release_history[1].status = RecordStatus::Superseded);
            }),
            ("I16: a front Service does not select what is Active", |it| {
                it.state.world.doors[0].selects = None;
            }),
            ("I33: the revision of {version} is left over", |it| it.state.world.records[2].number = 3),
            ("I18: {version} failed and is not marked at rest", |it| {
                it.edit(|status| status.release_history[0].status = RecordStatus::Failed);
            }),
        ],
    )
}

fn ends() -> Vec<&'static str> {
    broken(
        Start::Stable,
        WAIT,
        Good::ends,
        &[
            ("I37: ends without a status", |it| it.state.world.status = 0),
            ("I37: ends without a machine", |it| it.edit(|status| status.rollout = None)),
            ("I24: a request is never answered", |it| it.state.world.resource.retry = true),
            ("I26, I37: rests on a release that is not wanted, unblocked", |it| {
                it.state.world.resource.spec = 3;
            }),
            ("I37: stays in {step:?} without an excuse", |it| {
                it.edit(|status| status.rollout.as_mut().unwrap().step = Step::Prune);
            }),
        ],
    )
}

fn unhealthy_ends() -> Vec<&'static str> {
    let healed = |it: &mut Good| it.search.is_good_end(&it.state.world, true);
    broken(
        Start::Stable,
        WAIT,
        healed,
        &[("I37: all pods are well, and it stays in {:?}", |it| {
            it.edit(|status| status.rollout.as_mut().unwrap().step = Step::Watching);
        })],
    )
}
