#!/usr/bin/env bash
# The ValidatingAdmissionPolicy for e6data.io/rollback-to: kubectl prints its message, and the policy refuses no other change.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main

cd "$root"
kubectl apply -k config/default >"$work/apply.log"
kubectl apply -k config/policy >>"$work/apply.log"
kubectl create namespace shop >/dev/null
# The operator does not run yet. A resource without a status has no history, so the policy accepts each request.
sample sample1 1.0.437-old 1.0.547-old | kubectl apply -n shop -f - >/dev/null
says annotated kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=anything
kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to- >/dev/null

start_operator --log-level info
eventually "the first release is active" serves shop sample1 1.0.437-old
first=$(part shop sample1 .status.activeReleaseVersion)

# A new policy takes effect a moment after its creation.
in_force() {
  local output
  output=$(kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense --dry-run=server 2>&1) && return 1
  grep -q "there are: $first" <<<"$output"
}
eventually "the policy refuses an unknown release, and its message lists the known releases" in_force
refuses "the value is empty; there are: $first" \
  kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=
refuses "e6data.io/rollback-to=v0 x/\$(id): the history has no release of this name" \
  kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=v0 x/\$(id)"
# The guide's command when the history has a single record: kubectl reports that [-2] does not exist, and sets an empty value.
refuses "the value is empty" kubectl annotate metadataservices sample1 -n shop \
  "e6data.io/rollback-to=$(part shop sample1 '.status.releaseHistory[-2].version' 2>/dev/null || true)"
same "a refused request leaves no annotation" "" "$(part shop sample1 '.metadata.annotations.e6data\.io/rollback-to')"

# A rollback needs a release that was active once, in any later state.
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.500-crash"}}}' >/dev/null
rolled_back() { [ "$(part shop sample1 .status.phase)/$(part shop sample1 .status.deploymentPhase)" = Degraded/Stable ]; }
eventually "the operator rolls back a failing release" rolled_back
failed=$(kubectl get metadataservices sample1 -n shop -o json | jq -r '.status.releaseHistory[] | select(.status == "Failed").version')
refuses "there are: $first" kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=$failed"
says annotated kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=$first"
accepted() {
  [ "$(part shop sample1 .status.phase)$(part shop sample1 '.metadata.annotations.e6data\.io/rollback-to')" = Stable ]
}
eventually "the operator performs the accepted rollback and removes its annotation" accepted

# The policy accepts all other changes, even if the resource has an unknown request from a time without the policy.
stop_operator
kubectl delete validatingadmissionpolicybinding e6-operator-rollback-to >/dev/null
gone_in_force() {
  kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense --dry-run=server
}
eventually "without the policy the API server refuses no request" gone_in_force
kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense >/dev/null
kubectl apply -k config/policy >>"$work/apply.log"
still_in_force() { ! kubectl annotate metadataservices sample1 -n shop --overwrite e6data.io/rollback-to=other --dry-run=server; }
eventually "the policy has an effect again" still_in_force
says patched kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"replicas":2}}}'
says labeled kubectl label metadataservices sample1 -n shop team=a
says annotated kubectl annotate metadataservices sample1 -n shop note=1 e6data.io/restart=now
says annotated kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to-
says annotated kubectl annotate metadataservices sample1 -n shop e6data.io/retry=now
kubectl get metadataservices sample1 -n shop -o json | jq '.metadata.annotations = null' >"$work/bare.json"
says replaced kubectl replace -f "$work/bare.json"
says created kubectl create -n shop -f <(sample sample2 1.0.1 1.0.1)
says annotated kubectl annotate metadataservices sample2 -n shop e6data.io/rollback-to=anything
says deleted kubectl delete metadataservices sample1 sample2 -n shop
