//! The searches. Those that `make test` runs take minutes; the deep ones are ignored unless asked for
//! (`make model-deep`).

use super::search::{Config, Found, Search, Start};
use super::state::{Budget, UNBOUNDED};
use api::status::Step;

/// Nothing happens but what must; the second operator, if there is one, has no bound.
pub const NONE: Budget = Budget {
    edits: 0,
    asks: 0,
    breaks: 0,
    heals: 0,
    losses: 0,
    hands: 0,
    drifts: 0,
    timeouts: 0,
    deletes: 0,
    jumps: 0,
    looks: UNBOUNDED,
};

pub const BASE: Config = Config {
    name: "",
    start: Start::Stable,
    operators: 1,
    budget: NONE,
    torn: false,
    lag: false,
    fine: false,
    auto_rollback: true,
    ablation: None,
    judged: true,
    only: None,
    limit: usize::MAX,
};

const TWO: Config = Config { operators: 2, ..BASE };

fn search(config: Config) {
    let begun = std::time::Instant::now();
    match Search::new(config).run() {
        Ok(found) => {
            println!(
                "model {}: {} states{}, depth {}, {} transitions, {} worlds followed to rest, {:.1} s",
                config.name,
                found.states,
                if found.whole { "" } else { " (cut)" },
                found.depth,
                found.turns,
                found.worlds,
                begun.elapsed().as_secs_f64()
            );
            assert_told(&config, found);
        }
        Err(broken) => panic!("{}: {}\n{}", config.name, broken.law, broken.scenario),
    }
}

/// The page tells what is found: it is the same in every run.
fn assert_told(config: &Config, found: Found) {
    let page = include_str!("../../../docs/proof.md");
    let states = match (config.limit, found.whole) {
        (usize::MAX, true) => thousands(found.states),
        (_, true) => format!("{}, whole", thousands(found.states)),
        (limit, false) => format!("{} million, cut", limit / 1_000_000),
    };
    let (row, figures) = (format!("| {} |", config.name), format!("| {states} | {} |", found.depth));
    let told = page.lines().any(|line| line.starts_with(&row) && line.ends_with(&figures));
    assert!(told, "docs/proof.md has no row of {} that ends with {figures}", config.name);
}

/// A number with a comma before every three digits.
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
        create: Config { start: Start::Fresh, budget: Budget { edits: 1, breaks: 1, timeouts: 1, ..NONE }, ..BASE };
        edits: Config { budget: Budget { edits: 2, breaks: 1, ..NONE }, ..BASE };
        breaks: Config { budget: Budget { edits: 1, breaks: 2, heals: 1, timeouts: 1, ..NONE }, ..BASE };
        no_way_back: Config {
            auto_rollback: false,
            budget: Budget { edits: 2, breaks: 1, ..NONE },
            ..BASE
        };
        hands_way_back: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, hands: 1, ..NONE },
            ..BASE
        };
        asks: Config { start: Start::Upgraded, budget: Budget { asks: 2, ..NONE }, ..BASE };
        asks_for_what_failed: Config { budget: Budget { edits: 1, breaks: 1, asks: 1, ..NONE }, ..BASE };
        losses: Config { budget: Budget { edits: 1, breaks: 1, losses: 1, ..NONE }, ..BASE };
        losses_twice: Config { budget: Budget { edits: 1, losses: 2, ..NONE }, ..BASE };
        hands: Config { lag: true, budget: Budget { edits: 1, hands: 1, ..NONE }, ..BASE };
        drifts: Config { budget: Budget { edits: 1, drifts: 1, losses: 1, ..NONE }, ..BASE };
        deletes: Config { lag: true, budget: Budget { edits: 1, deletes: 1, ..NONE }, ..BASE };
        timeouts: Config {
            start: Start::At(Step::Switching),
            budget: Budget { edits: 1, breaks: 1, timeouts: 1, ..NONE },
            ..BASE
        };
        jumps: Config { budget: Budget { edits: 1, breaks: 1, jumps: 1, ..NONE }, ..BASE };
        two_create: Config { start: Start::Fresh, ..TWO };
        two_edit: Config { budget: Budget { edits: 1, ..NONE }, ..TWO };
        two_torn: Config { torn: true, budget: Budget { edits: 1, looks: 1, ..NONE }, ..TWO };
        two_break: Config { budget: Budget { edits: 1, breaks: 1, looks: 1, ..NONE }, ..TWO };
        two_delete: Config {
            start: Start::At(Step::Prune),
            budget: Budget { deletes: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_loss: Config {
            start: Start::At(Step::Switching),
            budget: Budget { losses: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_asks: Config { start: Start::Upgraded, budget: Budget { asks: 1, looks: 1, ..NONE }, ..TWO };
        two_hands: Config {
            start: Start::At(Step::Switching),
            budget: Budget { hands: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_drifts: Config {
            start: Start::At(Step::Switching),
            budget: Budget { drifts: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_timeouts: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, heals: 1, timeouts: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_no_way_back: Config {
            start: Start::At(Step::Switching),
            auto_rollback: false,
            budget: Budget { edits: 1, breaks: 1, looks: 1, ..NONE },
            ..TWO
        };
        two_jumps: Config {
            start: Start::At(Step::Switching),
            budget: Budget { breaks: 1, jumps: 1, looks: 1, ..NONE },
            ..TWO
        };
    }
}

/// Whole where they end within the limit.
mod deep {
    use super::*;

    const DEEP: Config = Config { limit: 30_000_000, ..TWO };

    searches! {
        #[ignore = "make model-deep"]
        two_torn: Config { torn: true, budget: Budget { edits: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_break: Config { budget: Budget { edits: 1, breaks: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        hands_way_back: Config {
            start: Start::At(Step::Switching),
            budget: Budget { edits: 1, breaks: 1, hands: 1, ..NONE },
            limit: DEEP.limit,
            ..BASE
        };
        #[ignore = "make model-deep"]
        two_loss: Config { budget: Budget { edits: 1, losses: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_asks: Config {
            start: Start::At(Step::Deploying),
            budget: Budget { edits: 1, asks: 1, looks: 1, ..NONE },
            ..DEEP
        };
        #[ignore = "make model-deep"]
        two_edits: Config { budget: Budget { edits: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_delete: Config { lag: true, budget: Budget { edits: 1, deletes: 1, looks: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        two_loss_break: Config { budget: Budget { edits: 1, breaks: 1, losses: 1, looks: 1, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        fine: Config { fine: true, lag: true, budget: Budget { edits: 1, breaks: 2, ..NONE }, ..DEEP };
        #[ignore = "make model-deep"]
        timeouts: Config {
            start: Start::At(Step::Switching),
            operators: 1,
            budget: Budget { edits: 1, breaks: 2, timeouts: 1, ..NONE },
            ..DEEP
        };
        #[ignore = "make model-deep"]
        one_of_all: Config {
            operators: 1,
            budget: Budget { edits: 2, breaks: 1, losses: 1, asks: 1, ..NONE },
            ..DEEP
        };
    }
}
