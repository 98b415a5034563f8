//! From Kubernetes objects to [`rollout::Facts`]: projections, the cache, and the pure derivation.

pub mod derive;
#[cfg(test)]
mod edited;
pub mod index;
mod metadata;
mod pods;
pub mod settings;
pub mod views;
