# Two operators at once, faults of the control plane, and the soak. Included by the root Makefile.

SOAK ?= 1000

.PHONY: multi-operator multi-operator-all soak

multi-operator: ## two operators, a failing control plane, a soak of a minute
	$(CARGO) test --locked --test multi_operator -- --nocapture --skip soak
	$(CARGO) test --locked --test multi_operator soak -- --nocapture

multi-operator-all: ## the same at every write of every story (half an hour)
	E6_TEST_MULTI_OPERATOR=all $(CARGO) test --locked --test multi_operator -- --nocapture --skip soak

soak: build ## SOAK (1000) rollouts under random faults; writes docs/soak.md
	E6_TEST_SOAK=$(SOAK) E6_TEST_OPERATOR=$(OPERATOR) E6_TEST_SOAK_REPORT=docs/soak.md \
		$(CARGO) test --locked --test multi_operator soak -- --nocapture
