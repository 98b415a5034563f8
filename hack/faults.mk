# Faults at the writes of every scenario, on a real API server. Included by the root Makefile.

FAULTS_PARTS ?= 8

.PHONY: faults faults-spread

faults-spread: ## a sample of faults at every kind of write, and each case that once found an error
	$(CARGO) test --locked --test faults -- --nocapture

faults: build ## every fault at every write (an hour and a half); continues where it was stopped
	@echo "Every fault at every write of every scenario, in $(FAULTS_PARTS) parts; target/faults.txt lists the finished cases."
	hack/faults.sh $(FAULTS_PARTS) $(OPERATOR)
