# `make demo`: the main job, start to end, on a local cluster, or on that of E6_KUBECONFIG. `make demo KEEP=1` leaves
# it running. Included by the root Makefile.

CARGO ?= cargo
CLUSTER_DIR ?= .cluster

.PHONY: demo
demo: ## show and check the main job on a local cluster (or E6_KUBECONFIG=...); KEEP=1 leaves it running
	@echo "Building the operator and the demo ..."
	$(CARGO) build --release --locked
	$(CARGO) build -q --locked -p testbed --bin demo
	@echo "Playing the main job on a real API server; that takes about two minutes."
	$(CARGO) run -q --locked -p testbed --bin demo -- \
		--operator "$${CARGO_TARGET_DIR:-target}/release/e6-operator" --dir "$(CLUSTER_DIR)"
