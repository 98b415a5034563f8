//! Actions of nodes and controllers on Pods.

use super::Sim;
use super::cluster_state::{Pod, Startup};
use api::names::{Color, Component};
use rollout::facts::Cause;

impl Sim {
    fn pods(&mut self, component: Component, color: Color) -> &mut Vec<Pod> {
        &mut self.cluster.cell_mut(component, color).pods
    }

    /// Makes a Pod unready until [`Sim::recover`].
    pub fn make_unready(&mut self, component: Component, color: Color, index: usize) {
        let now = self.cluster.now;
        let pod = &mut self.pods(component, color)[index];
        (pod.ready, pod.due, pod.changed) = (false, None, Some(now));
        self.cluster.tick();
    }

    /// Makes all Pods of a component unready.
    pub fn make_all_unready(&mut self, component: Component, color: Color) {
        for index in 0..self.pods(component, color).len() {
            self.make_unready(component, color, index);
        }
    }

    /// Makes unready Pods ready, and repairs the startup of later Pods.
    pub fn recover(&mut self, component: Component, color: Color) {
        let now = self.cluster.now;
        for pod in self.pods(component, color).iter_mut().filter(|pod| !pod.ready) {
            (pod.ready, pod.due, pod.changed, pod.cause) = (true, None, Some(now), None);
        }
        let cell = self.cluster.cell_mut(component, color);
        if let Some(deployment) = &mut cell.deployment {
            deployment.problem = None;
            let missing = usize::try_from(deployment.desired).unwrap().saturating_sub(cell.pods.len());
            let tag = deployment.tag.hash.clone();
            self.cluster.startups.insert((tag, component), Startup::Ready(0));
            for _ in 0..missing {
                self.cluster.create_pod(component, color);
            }
        }
        self.cluster.tick();
    }

    /// Sets the problem that the unready Pods of a component show.
    pub fn set_problem(&mut self, component: Component, color: Color, cause: Option<Cause>) {
        for pod in self.pods(component, color).iter_mut().filter(|pod| !pod.ready) {
            pod.restarts += i32::from(cause == Some(Cause::Crash) && pod.cause != cause);
            pod.cause = cause;
        }
    }

    /// Restarts the container of a Pod. The Pod stays ready.
    pub fn restart_pod(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color)[index].restarts += 1;
    }

    /// Evicts a Pod as a node drain does: the Pod gets the `DisruptionTarget` condition and becomes unready.
    pub fn evict(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color)[index].disrupted = true;
        self.make_unready(component, color, index);
    }

    /// Deletes a Pod. Its `ReplicaSet` creates another one.
    pub fn replace_pod(&mut self, component: Component, color: Color, index: usize) {
        self.pods(component, color).remove(index);
        self.cluster.create_pod(component, color);
        self.cluster.tick();
    }

    /// Adds a Pod as an autoscaler does.
    pub fn scale_up(&mut self, component: Component, color: Color) {
        self.cluster.cell_mut(component, color).deployment.as_mut().unwrap().desired += 1;
        self.cluster.create_pod(component, color);
    }
}
