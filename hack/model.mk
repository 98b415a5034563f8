# The model of the state machine (crates/model, docs/proof.md).

.PHONY: model model-deep

# With the operator's package, so that dependencies have the features that all other targets build them with.
MODEL = -p e6-operator -p model --lib

model: ## every history of the state machine within bounds, and its guards taken away one by one
	$(CARGO) test --locked $(MODEL) -- --nocapture

# One search at a time: each may take some gigabytes of memory.
model-deep: ## the same with wider bounds; about an hour
	$(CARGO) test --locked $(MODEL) -- --nocapture --test-threads=1 --ignored
