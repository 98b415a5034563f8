# A local cluster: `make cluster`, `make cluster NODE=real`, `make cluster-down`. Included by the root Makefile.

NODE ?= kwok
CLUSTER_DIR ?= .cluster

.PHONY: cluster cluster-down cluster-status

cluster: ## start a local cluster and print how to use it
	cargo run -q -p testbed --bin cluster -- up --dir $(CLUSTER_DIR) --node $(NODE)

cluster-down: ## stop the local cluster
	cargo run -q -p testbed --bin cluster -- down --dir $(CLUSTER_DIR)

cluster-status: ## say what of the local cluster runs
	cargo run -q -p testbed --bin cluster -- status --dir $(CLUSTER_DIR)
