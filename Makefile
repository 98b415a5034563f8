# Targets for building, testing and releasing. `make help` lists them.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
OPERATOR ?= target/release/e6-operator
IMAGE ?= e6-operator:0.2.0
SEED ?= 1
FUZZ ?= 100

include hack/test.mk
include hack/cluster/cluster.mk
include hack/cluster/demo.mk
include hack/install.mk
include hack/faults.mk
include hack/multi-operator.mk
include hack/e2e.mk
include hack/model.mk

.PHONY: help test lint prose hooks unit fuzz api-server tools build generate check-generated image bench clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 18

tools: ## check that the tools of the README are installed
	@hack/check-tools.sh

lint: ## check format, clippy, prose and workflows
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) test -q --locked -p prose
	hack/actionlint.sh

prose: ## measure how plain the English is, and list the lines with the most findings
	@$(CARGO) run -q --locked -p prose

hooks: ## install Git hooks that check format, prose and message of each commit
	git config core.hooksPath hack/hooks

# Packages whose tests need no cluster, and tests of the operator's package that need no cluster.
PACKAGES = -p e6-operator -p api -p rollout -p simulator -p traffic
CHECKS = --test crds --test released --test goldens --test rules --test structure --test proof --test docs_references

# Each run uses the same random inputs. `make fuzz` tries other inputs.
unit: ## run unit, simulator, property, golden and CRD tests, without a cluster
	PROPTEST_RNG_SEED=$(SEED) $(CARGO) test --locked $(PACKAGES) --lib --bins --examples --test properties --test simulated $(CHECKS)

# Modules that have tests with random inputs.
FUZZED = random_histories:: hand_edited_status:: edited:: properties:: names:: version:: history::

fuzz: ## run FUZZ (100) rounds of the tests with random inputs, each with its own inputs
	for round in $$(seq $(FUZZ)); do \
		$(CARGO) test -q --locked -p api --test properties && \
		$(CARGO) test -q --locked -p e6-operator -p api -p rollout --lib --test simulated -- $(FUZZED) || exit 1; done

build: ## build the operator: target/release/e6-operator
	$(CARGO) build --release --locked

generate: ## write the CRDs and the references of the API and the metrics
	$(CARGO) run -q --locked --example generate

check-generated: ## fail if a generated file differs from the code
	$(CARGO) run -q --locked --example generate -- --check

image: ## build the image with buildah, docker or podman
	hack/image.sh $(IMAGE)

bench: build ## measure the operator and rewrite docs/benchmarks.md
	$(CARGO) run -q --release --locked -p testbed --bin bench -- --operator $(OPERATOR)

clean: cluster-down ## stop the local cluster and remove build results
	$(CARGO) clean
