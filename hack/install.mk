# Charts, kustomize, scripts and the upgrade guide, tested as users run them. Included by the root Makefile.

INSTALL_TESTS = policy scripts

.PHONY: install-test charts shellcheck

charts: ## lint and render charts and kustomize, with Helm 3 and 4
	@echo "Helm 3 and 4 are built from Go modules: once, about 5 minutes."
	$(CARGO) test --locked --test charts

shellcheck: ## check the shell scripts
	hack/shellcheck.sh

install-test: charts shellcheck ## install, upgrade, back up, restore, uninstall, on a real API server
	$(CARGO) build -q --locked -p e6-operator -p testbed --bin e6-operator --bin cluster
	@hack/install-package.sh jq || { echo "SKIPPED the tests of scripts and guide: they need jq"; exit 0; }; \
	for test in $(INSTALL_TESTS); do echo "tests/install/$$test.sh"; tests/install/$$test.sh || exit 1; done
