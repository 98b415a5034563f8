# `make check`, `make test` and `make test-all`. hack/phases.sh runs their phases side by side and prints a table of their
# seconds; docs/testing.md has the layers and the times. Included by the root Makefile.

.PHONY: check test test-all build-tests control-plane node-programs helm-programs static-programs api-server testbed scenarios

# A phase after a colon has to pass first. A plus sign marks a phase that computes. Long phases stand first.
BUILD_PHASES = tools lint:tools check-generated:lint build-tests:check-generated control-plane+:build-tests
COMPUTE_PHASES = node-programs+:control-plane static-programs+:build-tests helm-programs+:control-plane unit+:build-tests \
	model+:build-tests shellcheck:build-tests
NODE = control-plane,node-programs,static-programs
HELM = control-plane,helm-programs
TEST_PHASES = e2e:$(NODE) faults-spread:control-plane scenarios:control-plane multi-operator:control-plane install-scripts:$(HELM) \
	guide:$(NODE) testbed:$(NODE) charts:$(HELM)
ALL_PHASES = build+:build-tests faults:control-plane,build e2e-all:$(NODE),$(HELM) multi-operator-all:control-plane soak:control-plane,build \
	scenarios:control-plane install-scripts:$(HELM) compat:$(HELM) guide:$(NODE) testbed:$(NODE) charts:$(HELM) \
	fuzz+:build-tests model-deep+:build-tests

check: ## the fast part, before every commit: format, clippy, unit and simulator tests, golden files, CRDs, structure, docs
	hack/phases.sh tools lint:tools check-generated:lint unit:check-generated

test: ## everything that lands must pass
	hack/phases.sh $(BUILD_PHASES) $(COMPUTE_PHASES) $(TEST_PHASES)

test-all: ## everything there is, and on after a failure (some hours)
	hack/phases.sh --keep-going $(BUILD_PHASES) $(COMPUTE_PHASES) $(ALL_PHASES)

build-tests: ## compile all tests and the programs that they run
	$(CARGO) test --workspace --locked --no-run

control-plane: ## build the control plane of the tests, or find it (built once, or KUBEBUILDER_ASSETS)
	@echo "A control plane is built from Go modules where none is given: once, about 10 minutes."
	for tool in control-plane kwok; do $(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done

node-programs: ## build kubelet and kube-proxy: once, about 4 minutes (root)
	if [ "$$(id -u)" = 0 ]; then for tool in kubelet kube-proxy metrics-server; do \
		$(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done; fi

helm-programs: ## build Helm 3 and 4: once, about 5 minutes
	for tool in helm helm3; do $(CARGO) run -q --locked -p testbed --bin cluster -- path $$tool; done

static-programs: ## build the workload that pods of a real node run (root)
	if [ "$$(id -u)" = 0 ]; then $(CARGO) run -q --locked -p testbed --bin cluster -- path workload; fi

api-server: control-plane testbed scenarios faults-spread ## tests against a real API server (one of their own, or E6_KUBECONFIG)

testbed: ## tests of the test bed: control planes, a real node, the proxy, the invariants
	$(CARGO) test --locked -p testbed

# As many threads as there are tests at most: a test waits until the cluster has a place for it.
scenarios: ## users and other clients at work, on a real API server; and the rights that the operator used
	$(CARGO) test --locked --test scenarios -- --test-threads=24
	$(CARGO) test --locked --test rights -- --ignored
