# Tests of charts, kustomize, scripts, upgrade guide and releases, by the commands of users. The root Makefile includes
# this file.

INSTALL_TESTS = upgrade uninstall scripts helm helm3 versions policy
RELEASE_DIR ?= target/release-assets

.PHONY: install-scripts install-test charts shellcheck guide compat release deny

charts: ## lint and render charts and kustomize, with Helm 3 and 4
	@echo "The first run builds Helm 3 and 4 from Go modules; that takes about 5 minutes."
	$(CARGO) test --locked --test charts

shellcheck: ## check the shell scripts
	hack/shellcheck.sh

install-test: charts shellcheck guide install-scripts ## test charts, scripts, installation and the upgrade guide

install-scripts: ## test install, upgrade, backup, restore and uninstall by the commands of users
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	hack/install-test.sh $(INSTALL_TESTS)

guide: ## run every command of the upgrade guide as printed; as root on a real node
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	hack/install-test.sh guide

compat: ## test against Kubernetes 1.30, with and without admission policies and CEL
	@echo "The first run builds Kubernetes 1.30 from Go modules; that takes about 5 minutes."
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	assets=$$(target/debug/cluster path kubernetes-1.30); export KUBEBUILDER_ASSETS=$$assets; \
	hack/install-test.sh compat policy helm; \
	$(CARGO) test --locked --test scenarios -- --test-threads=24

release: ## write the files of a release and their checksums to RELEASE_DIR
	$(CARGO) build -q --locked -p testbed --bin cluster
	hack/release.sh $(RELEASE_DIR)

deny: ## check licenses, advisories and sources of dependencies with cargo-deny
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db; then $(CARGO) deny check advisories; \
	else echo "NOT CHECKED: the advisory database is unreachable."; fi
