#!/usr/bin/env bash
# Older Kubernetes: no ValidatingAdmissionPolicy, and the CRD without CEL rules. The chart omits the policy, and the operator
# checks specs and requests itself. `make compat` runs this test with KUBEBUILDER_ASSETS.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl helm
start_cluster main kwok --apiserver-arg=--disable-admission-plugins=ValidatingAdmissionPolicy \
  --apiserver-arg=--runtime-config=admissionregistration.k8s.io/v1/validatingadmissionpolicies=false,admissionregistration.k8s.io/v1/validatingadmissionpolicybindings=false
echo "  $(kubectl version | tail -n 1)"

says created kubectl apply -f "$root/crds/legacy/metadataservices.e6data.io.yaml"
says "This Kubernetes has no ValidatingAdmissionPolicy" \
  helm install e6-operator "$root/charts/e6-operator" -n "$system" --create-namespace --skip-crds
kubectl create namespace shop >/dev/null
start_operator --log-level info
sample sample1 1.0.437-old 1.0.547-old | kubectl apply -n shop -f - >/dev/null
eventually "the first release is active" serves shop sample1 1.0.437-old
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.500-new"}}}' >/dev/null
eventually "the second release is active" serves shop sample1 1.0.500-new

says annotated kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense
refused() { kubectl get events -n shop -o json | jq -e '.items[] | select(.reason == "RequestRefused" and .type == "Warning")'; }
eventually "the operator refuses the request by an Event" refused
gone() { [ -z "$(part shop sample1 '.metadata.annotations.e6data\.io/rollback-to')" ]; }
eventually "the operator removes the annotation" gone
kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=$(part shop sample1 '.status.releaseHistory[-2].version')" >/dev/null
eventually "a rollback" serves shop sample1 1.0.437-old
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"replicas":5000}}}' >/dev/null
invalid() { [ "$(part shop sample1 '.status.conditions[?(@.type=="SpecApplied")].reason')" = Invalid ]; }
eventually "the operator refuses a spec that the API server accepted" invalid
same "the active release stays ready" True "$(part shop sample1 '.status.conditions[?(@.type=="Ready")].status')"
