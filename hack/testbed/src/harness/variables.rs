//! The environment variables of the tests. The operator never sees them: [`crate::process::Program`] removes all
//! inherited `E6_*` variables, including the operator's own flags, from the environment of a started process.
//!
//! Two more variables are public: `E6_KUBECONFIG` ([`crate::options::USE_VARIABLE`]) and `KEEP` of `make demo`.

use std::path::{Path, PathBuf};

/// The operator's binary. Default: the binary that cargo built for the test.
pub const OPERATOR: &str = "E6_TEST_OPERATOR";

/// Cases to run, separated by commas: `scenario:write:fault` of `faults`, `scenario:mode:write:fault` of
/// `multi_operator`. Failure messages print them in this form.
pub const CASE: &str = "E6_TEST_CASE";

/// Maximum number of cases that run at a time.
pub const PARALLEL: &str = "E6_TEST_PARALLEL";

/// Cases of `faults`: `all`, or a part such as `2/8`. Default: a selection with every fault in every scenario.
pub const FAULTS: &str = "E6_TEST_FAULTS";

/// The file in which `faults` notes finished cases, so that a later run can continue.
pub const FAULTS_DONE: &str = "E6_TEST_FAULTS_DONE";

/// `all` runs every case of `multi_operator`. Default: a selection.
pub const MULTI_OPERATOR: &str = "E6_TEST_MULTI_OPERATOR";

/// Number of rollouts of the soak test.
pub const SOAK: &str = "E6_TEST_SOAK";

/// Seed of the soak test. A failure message prints the seed of its run.
pub const SEED: &str = "E6_TEST_SEED";

/// The file to which the soak test writes its report.
pub const SOAK_REPORT: &str = "E6_TEST_SOAK_REPORT";

/// Number of runs of the comparison with other controllers.
pub const RUNS: &str = "E6_TEST_RUNS";

/// Seconds by which `hack/testbed/native/skew.c` changes the clock of a process. Set by the tests themselves.
pub const SKEW: &str = "E6_TEST_SKEW";

/// Keeps the run directories of clusters; see [`crate::options::KEEP_VARIABLE`].
pub const KEEP: &str = crate::options::KEEP_VARIABLE;

/// Returns the value of a variable. None if it is unset or empty.
pub fn get(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|text| !text.is_empty())
}

/// Returns the number in a variable, or `default` if it is unset.
pub fn number(name: &str, default: usize) -> usize {
    get(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Returns whether a variable is `all`.
pub fn is_all(name: &str) -> bool {
    get(name).is_some_and(|text| text == "all")
}

/// Returns the number of cases to run at a time: [`PARALLEL`], or `per_core` for each core.
pub fn parallel(per_core: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    number(PARALLEL, cores * per_core)
}

/// Returns the operator's binary: [`OPERATOR`], or the one that cargo built.
pub fn operator(built: &Path) -> PathBuf {
    get(OPERATOR).map_or_else(|| built.to_path_buf(), PathBuf::from)
}
