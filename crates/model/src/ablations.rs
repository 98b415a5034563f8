//! Each guard is taken away, and its absence must be found: a law that breaks, with the shortest scenario that breaks
//! it. What is not missed is listed too, with what stands in for it (`docs/proof.md`).

use super::ablation::Ablation::{self, *};
use super::search::{Config, Search, Start, is_of};
use super::state::Budget;
use super::tests::{BASE, NONE};
use api::status::Step;

const ONE: Config = Config { judged: false, limit: 400_000, ..BASE };
/// The second operator looks once, and may stall for as long as it likes.
const STALL: Config = Config { operators: 2, budget: Budget { looks: 1, ..NONE }, ..ONE };

const fn at(step: Step, config: Config) -> Config {
    Config { start: Start::At(step), ..config }
}

const fn breaks(config: Config) -> Config {
    Config { budget: Budget { breaks: config.budget.breaks + 1, ..config.budget }, ..config }
}

const fn edit(config: Config) -> Config {
    Config { budget: Budget { edits: config.budget.edits + 1, ..config.budget }, ..config }
}

const fn loss(config: Config) -> Config {
    Config { budget: Budget { losses: config.budget.losses + 1, ..config.budget }, ..config }
}

const fn delete(config: Config) -> Config {
    Config { budget: Budget { deletes: config.budget.deletes + 1, ..config.budget }, ..config }
}

const fn ask(config: Config) -> Config {
    Config { budget: Budget { asks: config.budget.asks + 1, ..config.budget }, ..config }
}

const fn hand(config: Config) -> Config {
    Config { budget: Budget { hands: config.budget.hands + 1, ..config.budget }, ..config }
}

const fn deep(config: Config) -> Config {
    Config { limit: 30_000_000, ..config }
}

/// A guard without which one decision breaks a law at once: the law is what it is for.
const fn judged(config: Config) -> Config {
    Config { judged: true, ..config }
}

/// Takes a guard away and expects this law to break.
fn missed(ablation: Ablation, law: &'static str, config: Config) {
    let mut search = Search::new(Config { ablation: Some(ablation), only: Some(law), ..config });
    match search.run() {
        Ok(found) => panic!("without {ablation:?}, {law} does not break: {found:?}"),
        Err(broken) => {
            println!("\nWithout {ablation:?}: {}\n{}", broken.law, broken.scenario);
            assert!(is_of(&broken.law, law), "another law than {law}");
        }
    }
}

/// Takes a guard away that others stand in for, and expects nothing to break, although the search is another one.
fn not_missed(ablation: Ablation, config: Config) {
    let mut search = Search::new(Config { ablation: Some(ablation), ..config });
    match search.run() {
        Ok(found) => {
            assert!(found.whole, "cut: {found:?}");
            let guarded = Search::new(config).run().unwrap();
            assert_ne!(found.turns, guarded.turns, "{ablation:?} is never needed here: this tells nothing");
            println!("\nWithout {ablation:?}: nothing breaks in {} states", found.states);
        }
        Err(broken) => panic!("{ablation:?} is missed after all: {}\n{}", broken.law, broken.scenario),
    }
}

macro_rules! guards {
    ($($(#[$attribute:meta])? $test:ident: $check:ident($($argument:expr),*);)*) => {$(
        #[test]
        $(#[$attribute])?
        fn $test() {
            $check($($argument),*);
        }
    )*};
}

guards! {
    i13_version_of_the_resource: missed(CommitAnyVersion, "I9", at(Step::Watching, breaks(STALL)));
    i40_version_of_a_front_service: missed(PointAnyVersion, "I1", at(Step::Switching, breaks(STALL)));
    i40_uid_and_version_of_what_is_deleted: missed(DeleteAnything, "I9", at(Step::Prune, edit(STALL)));
    i41_second_read_of_the_resource: missed(NoSecondRead, "I9", at(Step::Prune, edit(STALL)));
    i9_prune_is_persisted: missed(PruneUnpersisted, "I1", at(Step::Watching, breaks(STALL)));
    i9_stamp: missed(NoStamp, "I1", at(Step::Switching, breaks(STALL)));
    i9_endpoint_slices: missed(NoProof, "I9", at(Step::Switching, ONE));
    i9_waits: missed(NoWaits, "I9", edit(judged(ONE)));
    i9_gone: missed(NotGone, "D7", at(Step::Prune, Config { lag: true, ..judged(ONE) }));
    i2_full: missed(NotFull, "I2", Config { start: Start::Fresh, ..judged(ONE) });
    i2_without_a_break: missed(
        NoFlapping,
        "I2",
        at(Step::Deploying, Config { budget: Budget { breaks: 1, heals: 1, ..NONE }, ..judged(ONE) })
    );
    i10_objects_of_another_decision: missed(NotDirty, "I1", at(Step::Deploying, edit(STALL)));
    i18_mark_first: missed(MarkLate, "I18", at(Step::Switching, breaks(ONE)));
    i18_block: missed(NoBlock, "I18", at(Step::Switching, breaks(ONE)));
    i28_deletion: missed(NoDeletion, "I28", at(Step::Deploying, delete(judged(ONE))));
    i28_version_of_a_front_service: missed(PointAnyVersion, "I28", at(Step::Switching, delete(STALL)));
    i28_uid_and_version_of_what_is_deleted: missed(DeleteAnything, "I28", at(Step::Prune, delete(STALL)));
    i37_both_down: missed(BothDown, "I37", at(Step::Switching, edit(breaks(breaks(ONE)))));
    i37_unproved_way_back: missed(UnprovedWayBack, "I37", at(Step::Switching, edit(breaks(breaks(ONE)))));
    i37_first_switch: missed(FirstSwitch, "I37", Config { start: Start::Fresh, ..edit(breaks(ONE)) });
    i37_room_for_what_is_newer: missed(
        NoRoom,
        "I37",
        at(Step::Switching, Config { auto_rollback: false, ..edit(breaks(ONE)) })
    );
    d6_epoch_of_a_rebuilt_status: missed(RebuildKeepsEpoch, "D6", at(Step::Switching, judged(loss(ONE))));
    d6_proof_of_a_rebuilt_status: missed(RebuildPrunesAtOnce, "I9", at(Step::Switching, loss(ONE)));
    d6_stamp_before_going_back: missed(RebuildGoesBackAtOnce, "I3", at(Step::Prune, breaks(loss(STALL))));
    d6_later_number_on_a_front_service: missed(NoLaterNumber, "I13", at(Step::Switching, breaks(loss(STALL))));
    d6_record_before_the_switch: missed(
        NoGoodRecord,
        "D6",
        Config { start: Start::Fresh, ..judged(ONE) }
    );
    d8_strays: missed(
        NoStrays,
        "D8",
        at(Step::Deploying, Config { lag: true, budget: Budget { hands: 1, ..NONE }, ..judged(ONE) })
    );
    d10_restart_whose_color_is_cleared: missed(
        ForgetRestart,
        "D10",
        at(Step::Deploying, ask(edit(judged(STALL))))
    );
    spare_first_read: not_missed(NoFirstRead, at(Step::Prune, STALL));
    #[ignore = "make model-deep"]
    spare_first_read_edit: not_missed(NoFirstRead, deep(at(Step::Prune, edit(STALL))));
    #[ignore = "make model-deep"]
    spare_first_read_break: not_missed(NoFirstRead, deep(at(Step::Watching, breaks(STALL))));
    d6_version_of_what_is_deleted: missed(DeleteAnyVersion, "I3", at(Step::Prune, breaks(loss(STALL))));
    spare_version: not_missed(DeleteAnyVersion, at(Step::Prune, breaks(STALL)));
    #[ignore = "make model-deep"]
    spare_version_edit: not_missed(DeleteAnyVersion, deep(at(Step::Prune, edit(breaks(STALL)))));
    spare_create: not_missed(TakeWhatExists, at(Step::Deploying, STALL));
    #[ignore = "make model-deep"]
    spare_create_edit: not_missed(TakeWhatExists, deep(at(Step::Deploying, edit(STALL))));
    spare_lost_way_back: not_missed(LostWayBack, at(Step::Switching, hand(breaks(ONE))));
    #[ignore = "make model-deep"]
    spare_sweep: not_missed(SweepInStable, deep(at(Step::Deploying, edit(STALL))));
}
