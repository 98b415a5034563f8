# Charts, kustomize, scripts, the upgrade guide and releases, tested as users run them. Included by the root Makefile.

INSTALL_TESTS = upgrade uninstall scripts helm helm3 versions policy
RELEASE_DIR ?= target/release-assets

.PHONY: install-scripts install-test charts shellcheck guide compat release deny

charts: ## lint and render charts and kustomize, with Helm 3 and 4
	@echo "Helm 3 and 4 are built from Go modules: once, about 5 minutes."
	$(CARGO) test --locked --test charts

shellcheck: ## check the shell scripts
	hack/shellcheck.sh

install-test: charts shellcheck guide install-scripts ## install, upgrade, back up, restore, uninstall, and the upgrade guide

install-scripts: ## install, upgrade, back up, restore and uninstall, as users do
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	hack/install-test.sh $(INSTALL_TESTS)

guide: ## every command of the upgrade guide, as printed; as root on a real node
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	hack/install-test.sh guide

compat: ## tests against Kubernetes 1.30, with and without admission policies and CEL
	@echo "Kubernetes 1.30 is built from Go modules: once, about 5 minutes."
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	assets=$$(target/debug/cluster path kubernetes-1.30); export KUBEBUILDER_ASSETS=$$assets; \
	hack/install-test.sh compat policy helm; \
	$(CARGO) test --locked --test scenarios -- --test-threads=24

release: ## lay out what a release publishes, with checksums: RELEASE_DIR
	$(CARGO) build -q --locked -p testbed --bin cluster
	hack/release.sh $(RELEASE_DIR)

deny: ## licences, advisories and sources of dependencies, by cargo-deny
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny" >&2; exit 1; }
	$(CARGO) deny check bans licenses sources
	@if $(CARGO) deny fetch db; then $(CARGO) deny check advisories; \
	else echo "NOT CHECKED: the database of advisories cannot be reached."; fi
