# `make demo`: the main job from start to end, on a local cluster, or on the cluster of E6_KUBECONFIG. `make demo KEEP=1`
# leaves it running. Included by the root Makefile.

CARGO ?= cargo
CLUSTER_DIR ?= .cluster

.PHONY: demo
# All programs in the dev profile, by one command: their dependencies are compiled once, and nothing is optimized.
demo: ## show and check the main job on a local cluster (or E6_KUBECONFIG=...); KEEP=1 leaves it running
	@echo "Building the operator and the demo ..."
	$(CARGO) build --locked -p e6-operator -p testbed --bin e6-operator --bin cluster --bin demo
	@echo "Playing the main job on a real API server; that takes about two minutes."
	CLUSTER_DIR="$(CLUSTER_DIR)" hack/cluster/demo.sh
