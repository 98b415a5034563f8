# The model of the state machine (src/rollout/model, docs/proof.md).

.PHONY: model model-deep

model: ## every history of the state machine within bounds, and its guards taken away one by one; 3 minutes
	$(CARGO) test --locked --lib -- --nocapture rollout::model

# Optimized, since it visits tens of millions of states; only this crate is compiled anew. One search at a time: each may
# take some gigabytes of memory.
model-deep: ## the same with wider bounds; about an hour
	$(CARGO) test --locked --lib --config 'profile.test.package.e6-operator.opt-level=3' -- \
		--nocapture --test-threads=1 --ignored rollout::model
