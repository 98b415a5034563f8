# A local cluster: `make cluster`, `make cluster NODE=real`, `make cluster-down`. The root Makefile includes this file.

NODE ?= kwok
CLUSTER_DIR ?= .cluster

.PHONY: cluster cluster-down cluster-status

cluster: ## start a local cluster and print the commands to use it
	cargo run -q -p testbed --bin cluster -- up --dir $(CLUSTER_DIR) --node $(NODE)

cluster-down: ## stop the local cluster
	cargo run -q -p testbed --bin cluster -- down --dir $(CLUSTER_DIR)

cluster-status: ## print the state of the local cluster
	cargo run -q -p testbed --bin cluster -- status --dir $(CLUSTER_DIR)
