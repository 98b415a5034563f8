# `make demo`: the operator's main job from start to end, on a local cluster or the cluster of E6_KUBECONFIG. With KEEP=1
# the local cluster keeps running. The root Makefile includes this file.

CARGO ?= cargo
CLUSTER_DIR ?= .cluster

.PHONY: demo
# A single command builds all programs in the dev profile, so their dependencies are compiled once, without optimization.
demo: ## show and check the main job on a local cluster (or E6_KUBECONFIG=...); KEEP=1 leaves it running
	@echo "Building the operator and the demo ..."
	$(CARGO) build --locked -p e6-operator -p testbed --bin e6-operator --bin cluster --bin demo
	@echo "Running the demo on a real API server; that takes about two minutes."
	CLUSTER_DIR="$(CLUSTER_DIR)" hack/cluster/demo.sh
