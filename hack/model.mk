# The model of the state machine (crates/model, docs/proof.md).

.PHONY: model model-deep

model: ## every history of the state machine within bounds, and its guards taken away one by one
	$(CARGO) test --locked -p model -- --nocapture

# One search at a time: each may take some gigabytes of memory.
model-deep: ## the same with wider bounds; about an hour
	$(CARGO) test --locked -p model -- --nocapture --test-threads=1 --ignored
