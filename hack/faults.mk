# `make faults`: every fault at every write of every scenario, on a real API server. Included by the root Makefile.

FAULTS_PARTS ?= 8

.PHONY: faults
faults: build ## every fault at every write (an hour and a half); goes on where it was stopped
	@echo "Every fault at every write of every scenario, in $(FAULTS_PARTS) parts; what is done stands in target/faults.txt."
	hack/faults.sh $(FAULTS_PARTS) $(OPERATOR)
