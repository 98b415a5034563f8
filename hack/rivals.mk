# Two operators at once, faults of the control plane, and the soak. Included by the root Makefile.

SOAK ?= 1000

.PHONY: rivals rivals-all soak

rivals: ## two operators, a failing control plane, a soak of a minute
	$(CARGO) test --locked --test rivals -- --nocapture --skip soak
	$(CARGO) test --locked --test rivals soak -- --nocapture

rivals-all: ## the same at every write of every story (half an hour)
	E6_RIVALS=all $(CARGO) test --locked --test rivals -- --nocapture --skip soak

soak: build ## SOAK (1000) rollouts under random faults; writes docs/soak.md
	E6_SOAK=$(SOAK) E6_OPERATOR=$(OPERATOR) E6_SOAK_REPORT=docs/soak.md \
		$(CARGO) test --locked --test rivals soak -- --nocapture
