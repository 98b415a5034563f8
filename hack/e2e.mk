# Tests of zero failed requests on a real node. The root Makefile includes this file. Without root the targets print SKIPPED.

.PHONY: e2e e2e-all e2e-measure bench-peers

RUNS ?= 5

E2E = upgrades_and_ways_back rolled_back_after_the_switch no_rollback_without_a_fault \
	the_operator_is_killed_in_every_step
E2E_LONG = edits_in_every_step rolled_back_before_the_switch scaled_and_changed_in_place \
	three_resources_upgrade_at_once the_leader_is_lost the_api_server_is_down_in_every_step \
	the_operator_is_upgraded_by_helm_in_every_step the_operator_is_upgraded_by_kustomize_in_every_step \
	a_server_that_does_not_drain_costs_no_new_connection \
	a_pod_is_ready_when_its_readiness_gates_say_so

# Each test has its own cluster. Each test has its own process, because the test bed grants rights once per process.
define run_e2e
	@if [ "$$(id -u)" != 0 ]; then echo "SKIPPED: zero failed requests on a real node needs root"; \
	elif [ -n "$${E6_KUBECONFIG:-}" ]; then echo "SKIPPED: tests on a real node start their own cluster; unset E6_KUBECONFIG"; \
	else for test in $(1); do \
		$(CARGO) test --locked --test e2e -- --include-ignored --nocapture $$test || exit 1; done; fi
endef

e2e: ## test for zero failed requests on a real node during rollouts and failures (root; about 8 minutes)
	$(call run_e2e,$(E2E))

e2e-all: ## run the tests of e2e and the longer ones (root; about 20 minutes)
	$(call run_e2e,$(E2E) $(E2E_LONG))

e2e-measure: ## measure, and rewrite the tables of docs/zero-downtime.md (root; about 25 minutes)
	$(call run_e2e,mixed_versions time_to_safety)

bench-peers: ## compare this operator, Argo Rollouts and plain Deployments on one test bed, RUNS (5) times (root; about 12 minutes a run)
	$(call run_e2e,peers::)
bench-peers: export E6_TEST_RUNS = $(RUNS)
