# `make demo`: the main job, start to end, on a local cluster, or on that of E6_KUBECONFIG. `make demo KEEP=1` leaves
# it running. Included by the root Makefile.

CLUSTER_DIR ?= .cluster

.PHONY: demo
demo: ## show and check the main job on a local cluster (or E6_KUBECONFIG=...); KEEP=1 leaves it running
	@echo "Building the operator and the demo ..."
	cargo build --release
	cargo build -q -p testbed --bin demo
	@echo "Playing the main job on a real API server; it takes about two minutes."
	cargo run -q -p testbed --bin demo -- \
		--operator "$${CARGO_TARGET_DIR:-target}/release/e6-operator" --dir "$(CLUSTER_DIR)"
