//! A cluster with a real node, the images and the CRD.

use testbed::node::{self, Image, programs};
use testbed::{Cluster, Options};

use crate::bed::install_crd;

/// Tags under which the one workload is there; a release is known by its tag.
const TAGS: u32 = 30;

/// Runs a test on a cluster of its own, or says why not.
pub fn on_node(test: impl AsyncFnOnce(&Cluster) + Send) {
    on_node_with(Options::default(), test);
}

/// The same with options.
pub fn on_node_with(options: Options, test: impl AsyncFnOnce(&Cluster) + Send) {
    if let Err(error) = node::check_machine() {
        eprintln!("SKIPPED: {error}");
        return;
    }
    try_on_node(options, test).unwrap();
}

/// The same, with the reason if such a cluster cannot be.
pub fn try_on_node<T: Send>(
    options: Options,
    test: impl AsyncFnOnce(&Cluster) -> T + Send,
) -> Result<T, String> {
    let done = node::with_node(options, async |cluster| {
        cluster.node().unwrap().import(&image()).unwrap();
        install_crd(&cluster.client().unwrap(), "crds/metadataservices.e6data.io.yaml").await;
        test(&cluster).await
    });
    done.map_err(|error| error.to_string())
}

fn image() -> Image {
    let names: Vec<String> = (1..=TAGS)
        .flat_map(|tag| [format!("e2e/storage:{tag}"), format!("e2e/schema:{tag}")])
        .chain(["e2e/load:1".to_owned()])
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    Image::of_program(&programs::workload().unwrap(), &names).with_program(&programs::load().unwrap())
}
