# The model of the state machine (crates/model, docs/proof.md).

.PHONY: model model-deep

# With the operator's package, so that dependencies have the features that all other targets build them with.
MODEL = -p e6-operator -p model --lib

model: ## search every history of the state machine within bounds, and without each guard; a minute
	$(CARGO) test --locked $(MODEL) -- --nocapture

# The searches run one at a time, because each may use several gigabytes of memory.
model-deep: ## the same searches with wider bounds; about an hour
	$(CARGO) test --locked $(MODEL) -- --nocapture --test-threads=1 --ignored
