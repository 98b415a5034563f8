//! The cases of the search. `make model` runs the quick searches in minutes; `make model-deep` runs the ignored ones.

use super::search::{Config, Search, SearchResult, Start};
use super::state::{Budget, UNBOUNDED};
use api::status::Step;

/// No optional events. The reads of the second operator are not bounded.
pub const NONE: Budget = Budget {
    edits: 0,
    requests: 0,
    breaks: 0,
    heals: 0,
    status_losses: 0,
    external_deletes: 0,
    selector_changes: 0,
    timeouts: 0,
    deletes: 0,
    clock_jumps: 0,
    reads: UNBOUNDED,
};

pub const BASE: Config = Config {
    name: "",
    start: Start::Stable,
    operators: 1,
    budget: NONE,
    split_reads: false,
    pods_linger: false,
    both_components: false,
    auto_rollback: true,
    ablation: None,
    check_decisions: true,
    only_invariant: None,
    limit: usize::MAX,
};

const TWO: Config = Config { operators: 2, ..BASE };

fn search(config: Config) {
    let begun = std::time::Instant::now();
    match Search::new(config).run() {
        Ok(found) => {
            println!(
                "model {}: {} states{}, depth {}, {} transitions, {} api_states followed to rest, {:.1} s",
                config.name,
                found.states,
                if found.complete { "" } else { " (cut)" },
                found.depth,
                found.transitions,
                found.api_states,
                begun.elapsed().as_secs_f64()
            );
            assert_documented(&config, found);
        }
        Err(broken) => panic!("{}: {}\n{}", config.name, broken.violation, broken.scenario),
    }
}

/// Fails unless docs/proof.md states the size of the search, which is the same in every run.
fn assert_documented(config: &Config, found: SearchResult) {
    let page = include_str!("../../../docs/proof.md");
    let states = match (config.limit, found.complete) {
        (usize::MAX, true) => thousands(found.states),
        (_, true) => format!("{}, whole", thousands(found.states)),
        (limit, false) => format!("{} million, cut", limit / 1_000_000),
    };
    let (row, figures) = (format!("| {} |", config.name), format!("| {states} | {} |", found.depth));
    let documented = page.lines().any(|line| line.starts_with(&row) && line.ends_with(&figures));
    assert!(documented, "docs/proof.md has no row of {} that ends with {figures}", config.name);
}

/// Returns a number with a comma before every three digits.
fn thousands(number: usize) -> String {
    if number < 1_000 {
        number.to_string()
    } else {
        format!("{},{:03}", thousands(number / 1_000), number % 1_000)
    }
}

macro_rules! searches {
    ($($(#[$attribute:meta])? $test:ident: $config:expr;)*) => {$(
        #[test]
        $(#[$attribute])?
        fn $test() {
            search(Config { name: stringify!($test), ..$config });
        }
    )*};
}

mod quick {
    use super::*;

    searches! {
        first_release: Config { start: Start::Fresh, budget: Budget { edits: 1, breaks: 1, timeouts: 1, ..NONE }, ..BASE };
        spec_edits: Config { budget: Budget { edits: 2, breaks: 1, ..NONE }, ..BASE };
        pod_failures: Config { budget: Budget { edits: 1, breaks: 2, heals: 1, timeouts: 1, ..NONE }, ..BASE };
        no_automatic_rollback: Config {
            auto_rollback: false,
            budget: Budget { edits: 2, breaks: 1, ..NONE },
            ..BASE
        };
        external_deletes_in_rollback: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, external_deletes: 1, ..NONE },
            ..BASE
        };
        requests: Config { start: Start::Upgraded, budget: Budget { requests: 2, ..NONE }, ..BASE };
        requests_after_a_failure: Config { budget: Budget { edits: 1, breaks: 1, requests: 1, ..NONE }, ..BASE };
        status_loss: Config { budget: Budget { edits: 1, breaks: 1, status_losses: 1, ..NONE }, ..BASE };
        status_lost_twice: Config { budget: Budget { edits: 1, status_losses: 2, ..NONE }, ..BASE };
        external_deletes: Config { pods_linger: true, budget: Budget { edits: 1, external_deletes: 1, ..NONE }, ..BASE };
        selector_changes: Config { budget: Budget { edits: 1, selector_changes: 1, status_losses: 1, ..NONE }, ..BASE };
        resource_deletion: Config { pods_linger: true, budget: Budget { edits: 1, deletes: 1, ..NONE }, ..BASE };
        deploy_timeouts: Config {
            start: Start::At(Step::Switching),
            budget: Budget { edits: 1, breaks: 1, timeouts: 1, ..NONE },
            ..BASE
        };
        clock_jumps: Config { budget: Budget { edits: 1, breaks: 1, clock_jumps: 1, ..NONE }, ..BASE };
        two_first_release: Config { start: Start::Fresh, ..TWO };
        two_spec_edit: Config { budget: Budget { edits: 1, ..NONE }, ..TWO };
        two_split_reads: Config { split_reads: true, budget: Budget { edits: 1, reads: 1, ..NONE }, ..TWO };
        two_pod_failure: Config { budget: Budget { edits: 1, breaks: 1, reads: 1, ..NONE }, ..TWO };
        two_resource_deletion: Config {
            start: Start::At(Step::Prune),
            budget: Budget { deletes: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_status_loss: Config {
            start: Start::At(Step::Switching),
            budget: Budget { status_losses: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_request: Config { start: Start::Upgraded, budget: Budget { requests: 1, reads: 1, ..NONE }, ..TWO };
        two_external_delete: Config {
            start: Start::At(Step::Switching),
            budget: Budget { external_deletes: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_selector_change: Config {
            start: Start::At(Step::Switching),
            budget: Budget { selector_changes: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_deploy_timeout: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, heals: 1, timeouts: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_no_automatic_rollback: Config {
            start: Start::At(Step::Switching),
            auto_rollback: false,
            budget: Budget { edits: 1, breaks: 1, reads: 1, ..NONE },
            ..TWO
        };
        two_clock_jump: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, clock_jumps: 1, reads: 1, ..NONE },
            ..TWO
        };
    }
}

/// Searches up to a number of states. Some of them are complete.
mod deep {
    use super::*;

    const DEEP: Config = Config { limit: 30_000_000, ..TWO };

    searches! {
        #[ignore = "make model-deep"]
        two_split_reads: Config { split_reads: true, budget: Budget { edits: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_pod_failure: Config { budget: Budget { edits: 1, breaks: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        external_deletes_in_rollback: Config {
            start: Start::At(Step::Switching),
            budget: Budget { edits: 1, breaks: 1, external_deletes: 1, ..NONE },
            limit: DEEP.limit,
            ..BASE
        };
        #[ignore = "make model-deep"]
        two_status_loss: Config { budget: Budget { edits: 1, status_losses: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_request: Config {
            start: Start::At(Step::Deploying),
            budget: Budget { edits: 1, requests: 1, reads: 1, ..NONE },
            ..DEEP
        };
        #[ignore = "make model-deep"]
        two_spec_edits: Config { budget: Budget { edits: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_resource_deletion: Config { pods_linger: true, budget: Budget { edits: 1, deletes: 1, reads: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_status_loss_and_failure: Config { budget: Budget { edits: 1, breaks: 1, status_losses: 1, reads: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        both_components: Config { both_components: true, pods_linger: true, budget: Budget { edits: 1, breaks: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        deploy_timeouts: Config {
            start: Start::At(Step::Switching),
            operators: 1,
            budget: Budget { edits: 1, breaks: 2, timeouts: 1, ..NONE },
            ..DEEP
        };
        #[ignore = "make model-deep"]
        mixed_events: Config {
            operators: 1,
            budget: Budget { edits: 2, breaks: 1, status_losses: 1, requests: 1, ..NONE },
            ..DEEP
        };
    }
}
