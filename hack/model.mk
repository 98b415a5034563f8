# The model of the state machine (crates/model, docs/proof.md).

.PHONY: model model-deep

# The operator's package is selected too, so that dependencies get the same features as in all other targets.
MODEL = -p e6-operator -p model --lib

model: ## search all histories of the state machine within bounds, and without each guard; a minute
	$(CARGO) test --locked $(MODEL) -- --nocapture

# The searches run one at a time, because each may use several gigabytes of memory.
model-deep: ## run the searches of model with wider bounds; about an hour
	$(CARGO) test --locked $(MODEL) -- --nocapture --test-threads=1 --ignored
