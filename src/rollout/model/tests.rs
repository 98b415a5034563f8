//! The searches.

use super::search::{Config, Search, Start};
use super::state::Budget;

const BASE: Config = Config {
    name: "",
    start: Start::Fresh,
    operators: 1,
    budget: Budget {
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
    },
    torn: false,
    lag: false,
    fine: false,
    ablation: None,
    limit: 2_000_000,
};

fn search(config: Config) {
    let begun = std::time::Instant::now();
    let mut search = Search::new(config);
    match search.run() {
        Ok(found) => println!("{}: {found:?} in {:.1} s", config.name, begun.elapsed().as_secs_f64()),
        Err(broken) => panic!("{}: {}\n{}", config.name, broken.law, broken.scenario),
    }
}

macro_rules! searches {
    ($($test:ident: $config:expr;)*) => {$(
        #[test]
        fn $test() {
            search(Config { name: stringify!($test), ..$config });
        }
    )*};
}

const NONE: Budget = BASE.budget;

searches! {
    create: BASE;
    create_by_two: Config { operators: 2, budget: Budget { breaks: 1, ..NONE }, ..BASE };
    edits: Config { start: Start::Stable, budget: Budget { edits: 2, breaks: 1, ..NONE }, ..BASE };
    breaks: Config { start: Start::Stable, budget: Budget { edits: 1, breaks: 2, heals: 1, timeouts: 1, ..NONE }, ..BASE };
    asks: Config { start: Start::Upgraded, budget: Budget { asks: 2, breaks: 1, ..NONE }, ..BASE };
    losses: Config { start: Start::Stable, budget: Budget { edits: 1, breaks: 1, losses: 2, ..NONE }, ..BASE };
    hands: Config { start: Start::Stable, budget: Budget { edits: 1, hands: 1, ..NONE }, lag: true, ..BASE };
    drifts: Config { start: Start::Stable, budget: Budget { edits: 1, drifts: 1, losses: 1, ..NONE }, ..BASE };
    deletes: Config { start: Start::Stable, budget: Budget { edits: 1, deletes: 1, ..NONE }, lag: true, ..BASE };
    two_edit: Config { start: Start::Stable, operators: 2, budget: Budget { edits: 1, ..NONE }, ..BASE };
    two_loss: Config { start: Start::Stable, operators: 2, budget: Budget { edits: 1, losses: 1, ..NONE }, ..BASE };
    two_break: Config { start: Start::Stable, operators: 2, budget: Budget { edits: 1, breaks: 1, ..NONE }, ..BASE };
    jumps: Config { start: Start::Stable, budget: Budget { edits: 1, breaks: 1, jumps: 1, ..NONE }, ..BASE };
    torn: Config { start: Start::Stable, operators: 2, torn: true, budget: Budget { edits: 1, ..NONE }, ..BASE };
}
