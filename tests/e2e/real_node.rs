//! A cluster with a real node, the images and the CRD.

use testbed::node::{Image, check_machine, static_programs};
use testbed::{Cluster, Options, cluster};

use testbed::harness::install_crd;

/// Number of tags of the one workload image. The tag identifies a release.
const TAGS: u32 = 30;

/// Runs a test on its own cluster, or prints why it is skipped.
pub fn on_node(test: impl AsyncFnOnce(&Cluster) + Send) {
    on_node_with(Options::default(), test);
}

/// The same with options.
pub fn on_node_with(options: Options, test: impl AsyncFnOnce(&Cluster) + Send) {
    if let Err(error) = check_machine() {
        eprintln!("SKIPPED: {error}");
        return;
    }
    try_on_node(options, test).unwrap();
}

/// Like [`on_node_with`], but returns the reason if there is no such cluster.
pub fn try_on_node<T: Send>(
    options: Options,
    test: impl AsyncFnOnce(&Cluster) -> T + Send,
) -> Result<T, String> {
    let done = cluster::with_node(options, async |cluster| {
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
    Image::of_program(&static_programs::workload().unwrap(), &names)
        .with_program(&static_programs::load().unwrap())
}
