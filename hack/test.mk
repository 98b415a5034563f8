# `make check`, `make test` and `make test-all`. hack/phases.sh runs their phases in parallel and prints a table of their
# times. docs/testing.md describes the layers and the times. The root Makefile includes this file.

.PHONY: check test test-all build-tests control-plane node-programs helm-programs static-programs api-server testbed scenarios

# The phases after a colon must pass first. A plus sign marks a CPU-bound phase, an exclamation
# mark a phase that runs alone. Long phases come first.
BUILD_PHASES = tools lint:tools check-generated:lint build-tests:check-generated control-plane+:build-tests
COMPUTE_PHASES = node-programs+:control-plane static-programs+:build-tests helm-programs+:control-plane unit+:build-tests \
	model+:build-tests shellcheck:build-tests
NODE_PROGRAMS = control-plane,node-programs,static-programs
HELM_PROGRAMS = control-plane,helm-programs
# Each of these keeps both cores of a small machine busy for a part of its time. Side by side, their clusters are late.
TEST_PHASES = scenarios!:control-plane faults-spread!:control-plane multi-operator!:control-plane e2e!:$(NODE_PROGRAMS) \
	install-scripts!:$(HELM_PROGRAMS) guide!:$(NODE_PROGRAMS) testbed!:$(NODE_PROGRAMS) charts!:$(HELM_PROGRAMS)
ALL_PHASES = build+:build-tests faults+:control-plane,build e2e-all!:$(NODE_PROGRAMS),$(HELM_PROGRAMS) multi-operator-all:control-plane soak:control-plane,build \
	scenarios+:control-plane install-scripts:$(HELM_PROGRAMS) compat:$(HELM_PROGRAMS) guide!:$(NODE_PROGRAMS) testbed:$(NODE_PROGRAMS) charts:$(HELM_PROGRAMS) \
	fuzz+:build-tests model-deep+:build-tests

check: ## run the fast checks: format, clippy, unit and simulator tests, golden files, CRDs, structure, docs
	hack/phases.sh tools lint:tools check-generated:lint unit:check-generated

test: ## run the tests that every change must pass
	hack/phases.sh $(BUILD_PHASES) $(COMPUTE_PHASES) $(TEST_PHASES)

test-all: ## run all tests, and continue after a failure (some hours)
	hack/phases.sh --keep-going $(BUILD_PHASES) $(COMPUTE_PHASES) $(ALL_PHASES)

build-tests: ## compile all tests and the programs that they run
	$(CARGO) test --workspace --locked --no-run

control-plane: ## build the control plane of the tests once, or find it in KUBEBUILDER_ASSETS
	@echo "Without KUBEBUILDER_ASSETS the first run builds a control plane from Go modules; that takes about 10 minutes."
	for tool in control-plane kwok; do $(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done

node-programs: ## build kubelet and kube-proxy once; about 4 minutes (root)
	if [ "$$(id -u)" = 0 ]; then for tool in kubelet kube-proxy metrics-server; do \
		$(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done; fi

helm-programs: ## build Helm 3 and 4 once; about 5 minutes
	for tool in helm helm3; do $(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done

static-programs: ## build the workload of the Pods on a real node (root)
	if [ "$$(id -u)" = 0 ]; then $(CARGO) run -q --locked -p testbed --bin cluster -- path workload; fi

api-server: control-plane testbed scenarios faults-spread ## test against a real API server: a new one, or E6_KUBECONFIG

testbed: ## test the test bed: control planes, a real node, the proxy, the invariants
	$(CARGO) test --locked -p testbed

# Each test waits until the cluster has room for it, so 24 threads do not overload the cluster.
scenarios: ## test actions of users and other clients on a real API server, and the rights that the operator used
	$(CARGO) test --locked --test scenarios -- --test-threads=24
	$(CARGO) test --locked --test rights -- --ignored
