# Two operators at once, faults of the control plane, and the soak. The root Makefile includes this file.

SOAK ?= 1000

.PHONY: multi-operator multi-operator-all soak

multi-operator: ## test two operators, a failing control plane and a soak of a minute
	$(CARGO) test --locked --test multi_operator -- --nocapture --skip soak
	$(CARGO) test --locked --test multi_operator soak -- --nocapture

multi-operator-all: ## test two operators at every write of every scenario (half an hour)
	E6_TEST_MULTI_OPERATOR=all $(CARGO) test --locked --test multi_operator -- --nocapture --skip soak

soak: build ## run SOAK (1000) rollouts under random faults and write docs/soak.md
	E6_TEST_SOAK=$(SOAK) E6_TEST_OPERATOR=$(OPERATOR) E6_TEST_SOAK_REPORT=docs/soak.md \
		$(CARGO) test --locked --test multi_operator soak -- --nocapture
