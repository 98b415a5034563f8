//! Searches with one guard removed. Each must find the named violation, with the shortest scenario. Redundant guards
//! are listed too; `docs/proof.md` names the guard that covers them.

use super::ablation::Ablation::{self, *};
use super::search::{Config, Search, Start, is_of};
use super::searches::{BASE, NONE};
use super::state::Budget;
use api::status::Step;

const ONE: Config = Config { check_decisions: false, limit: 400_000, ..BASE };
/// The second operator reads once and may stall for any time.
const STALL: Config = Config { operators: 2, budget: Budget { reads: 1, ..NONE }, ..ONE };

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
    Config { budget: Budget { status_losses: config.budget.status_losses + 1, ..config.budget }, ..config }
}

const fn delete(config: Config) -> Config {
    Config { budget: Budget { deletes: config.budget.deletes + 1, ..config.budget }, ..config }
}

const fn ask(config: Config) -> Config {
    Config { budget: Budget { requests: config.budget.requests + 1, ..config.budget }, ..config }
}

const fn external_delete(config: Config) -> Config {
    Config {
        budget: Budget { external_deletes: config.budget.external_deletes + 1, ..config.budget },
        ..config
    }
}

const fn deep(config: Config) -> Config {
    Config { limit: 30_000_000, ..config }
}

/// Checks decisions too. A single decision without the guard violates the invariant, which states the purpose of the
/// guard.
const fn checked(config: Config) -> Config {
    Config { check_decisions: true, ..config }
}

/// Removes a guard and expects a violation of this invariant.
fn expect_violation(ablation: Ablation, invariant: &'static str, config: Config) {
    let mut search =
        Search::new(Config { ablation: Some(ablation), only_invariant: Some(invariant), ..config });
    match search.run() {
        Ok(found) => panic!("without {ablation:?}, {invariant} holds: {found:?}"),
        Err(found) => {
            println!("\nWithout {ablation:?}: {}\n{}", found.violation, found.scenario);
            assert!(is_of(&found.violation, invariant), "violates another invariant than {invariant}");
        }
    }
}

/// Removes a guard that other guards cover. Expects no violation, and other transitions than with the guard.
fn expect_redundant(ablation: Ablation, config: Config) {
    let mut search = Search::new(Config { ablation: Some(ablation), ..config });
    match search.run() {
        Ok(found) => {
            assert!(found.complete, "cut: {found:?}");
            let guarded = Search::new(config).run().unwrap();
            assert_ne!(
                found.transitions, guarded.transitions,
                "{ablation:?} is never needed here: this tells nothing"
            );
            println!("\nWithout {ablation:?}: nothing breaks in {} states", found.states);
        }
        Err(found) => panic!("{ablation:?} is missed after all: {}\n{}", found.violation, found.scenario),
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
    i13_version_of_the_resource: expect_violation(UpdateAnyVersion, "I9", at(Step::Watching, breaks(STALL)));
    i40_version_of_a_front_service: expect_violation(RouteAnyVersion, "I1", at(Step::Switching, breaks(STALL)));
    i40_preconditions_of_a_delete: expect_violation(DeleteAnything, "I9", at(Step::Prune, edit(STALL)));
    i41_second_read_of_the_resource: expect_violation(NoSecondRead, "I9", at(Step::Prune, edit(STALL)));
    i9_prune_is_persisted: expect_violation(PruneUnpersisted, "I1", at(Step::Watching, breaks(STALL)));
    i9_epoch_on_front_services: expect_violation(NoEpochCheck, "I1", at(Step::Switching, breaks(STALL)));
    i9_endpoint_slices: expect_violation(NoProof, "I9", at(Step::Switching, ONE));
    i9_waits_after_the_switch: expect_violation(NoWaits, "I9", edit(checked(ONE)));
    i9_color_is_gone: expect_violation(EndPruneEarly, "D7", at(Step::Prune, Config { pods_linger: true, ..checked(ONE) }));
    i2_complete_release: expect_violation(SwitchWhenNotFull, "I2", Config { start: Start::Fresh, ..checked(ONE) });
    i2_continuous_readiness: expect_violation(
        IgnoreFlapping,
        "I2",
        at(Step::Deploying, Config { budget: Budget { breaks: 1, heals: 1, ..NONE }, ..checked(ONE) })
    );
    i10_objects_of_another_decision: expect_violation(AcceptDirtyColor, "I1", at(Step::Deploying, edit(STALL)));
    i18_failed_mark_comes_first: expect_violation(MarkFailedLate, "I18", at(Step::Switching, breaks(ONE)));
    i18_failed_release_is_blocked: expect_violation(RetryFailed, "I18", at(Step::Switching, breaks(ONE)));
    i28_terminating_resource: expect_violation(IgnoreDeletion, "I28", at(Step::Deploying, delete(checked(ONE))));
    i28_version_of_a_front_service: expect_violation(RouteAnyVersion, "I28", at(Step::Switching, delete(STALL)));
    i28_preconditions_of_a_delete: expect_violation(DeleteAnything, "I28", at(Step::Prune, delete(STALL)));
    i37_both_colors_unhealthy: expect_violation(WaitWhileBothDown, "I37", at(Step::Switching, edit(breaks(breaks(ONE)))));
    i37_rollback_without_proof: expect_violation(WaitForRollbackProof, "I37", at(Step::Switching, edit(breaks(breaks(ONE)))));
    i37_first_switch: expect_violation(ProveFirstSwitch, "I37", Config { start: Start::Fresh, ..edit(breaks(ONE)) });
    i37_a_newer_release_may_start: expect_violation(
        NewReleaseWaits,
        "I37",
        at(Step::Switching, Config { auto_rollback: false, ..edit(breaks(ONE)) })
    );
    d6_epoch_of_a_rebuilt_status: expect_violation(RebuildKeepsEpoch, "D6", at(Step::Switching, checked(loss(ONE))));
    d6_proof_of_a_rebuilt_status: expect_violation(RebuildPrunesAtOnce, "I9", at(Step::Switching, loss(ONE)));
    d6_epoch_before_traffic_returns: expect_violation(RebuildReturnsAtOnce, "I3", at(Step::Prune, breaks(loss(STALL))));
    d6_later_epoch_on_a_front_service: expect_violation(NoEpochRaise, "I13", at(Step::Switching, breaks(loss(STALL))));
    d6_revision_before_the_switch: expect_violation(
        SwitchWithoutRevision,
        "D6",
        Config { start: Start::Fresh, ..checked(ONE) }
    );
    d8_foreign_pods: expect_violation(
        IgnoreForeignPods,
        "D8",
        at(Step::Deploying, Config { pods_linger: true, budget: Budget { external_deletes: 1, ..NONE }, ..checked(ONE) })
    );
    d10_restart_of_a_dirty_color: expect_violation(
        ForgetRestart,
        "D10",
        at(Step::Deploying, ask(edit(checked(STALL))))
    );
    redundant_first_read: expect_redundant(NoFirstRead, at(Step::Prune, STALL));
    #[ignore = "make model-deep"]
    redundant_first_read_edit: expect_redundant(NoFirstRead, deep(at(Step::Prune, edit(STALL))));
    #[ignore = "make model-deep"]
    redundant_first_read_break: expect_redundant(NoFirstRead, deep(at(Step::Watching, breaks(STALL))));
    d6_resource_version_of_a_delete: expect_violation(DeleteAnyVersion, "I3", at(Step::Prune, breaks(loss(STALL))));
    redundant_version: expect_redundant(DeleteAnyVersion, at(Step::Prune, breaks(STALL)));
    #[ignore = "make model-deep"]
    redundant_version_edit: expect_redundant(DeleteAnyVersion, deep(at(Step::Prune, edit(breaks(STALL)))));
    redundant_create: expect_redundant(AcceptExistingObject, at(Step::Deploying, STALL));
    #[ignore = "make model-deep"]
    redundant_create_edit: expect_redundant(AcceptExistingObject, deep(at(Step::Deploying, edit(STALL))));
    redundant_rollback_to_a_lost_color: expect_redundant(RollBackToLostColor, at(Step::Switching, external_delete(breaks(ONE))));
    #[ignore = "make model-deep"]
    redundant_prune_step: expect_redundant(PruneInStable, deep(at(Step::Deploying, edit(STALL))));
}
