//! Two operators at once, and a control plane that fails: whatever happens, an outside eye must see no invariant
//! broken, and the resources must come to rest where they should.
//!
//! [`pair`]: a leader is stopped at a write of a rollout for longer than its lease, another takes over, the first
//! wakes up; and two operators that both believe they lead. [`lease`]: leaders that are cut off, told to stop, or
//! have wrong clocks. [`plane`], [`crd`], [`gone`]: the control plane's own faults. [`soak`]: many rollouts under
//! random faults.
//!
//! `E6_RIVALS=all` plays every write of every story; `E6_CASE=story:mode:n:hold-before` plays one (several, separated
//! by commas); `E6_PARALLEL` says how many at a time; `E6_OPERATOR` names another binary than the one just built.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "clippy knows only the test functions as tests"
)]

mod bench;
mod crd;
mod gone;
mod lease;
mod pair;
mod plane;
mod soak;
mod story;
