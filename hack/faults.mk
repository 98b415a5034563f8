# Faults at the writes of every scenario, on a real API server. The root Makefile includes this file.

FAULTS_PARTS ?= 8

.PHONY: faults faults-spread

faults-spread: ## test a sample of faults at every kind of write, and each case that once found an error
	$(CARGO) test --locked --test faults -- --nocapture

faults: build ## test every fault at every write (90 minutes); a new run continues an interrupted one
	@echo "Testing every fault at every write of every scenario, in $(FAULTS_PARTS) parts. target/faults.txt lists the finished cases."
	hack/faults.sh $(FAULTS_PARTS) $(OPERATOR)
