//! Cases of one test that run at the same time.

use std::future::Future;

/// A case with its name.
pub type Case = (&'static str, Box<dyn FnOnce() + Send>);

/// Names a case. It runs in its own thread with its own runtime.
pub fn case<F: Future<Output = ()>>(name: &'static str, run: impl FnOnce() -> F + Send + 'static) -> Case {
    let blocking = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run());
    };
    (name, Box::new(blocking))
}

/// Runs all cases at the same time, each to its end, and fails with the names of the failed cases.
pub fn together(cases: Vec<Case>) {
    let running: Vec<_> = cases.into_iter().map(|(name, run)| (name, std::thread::spawn(run))).collect();
    let joined = running.into_iter().map(|(name, handle)| (name, handle.join()));
    let failed: Vec<&str> = joined.filter(|(_, result)| result.is_err()).map(|(name, _)| name).collect();
    assert!(failed.is_empty(), "failed: {failed:?}");
}
