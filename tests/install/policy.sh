#!/usr/bin/env bash
# The ValidatingAdmissionPolicy for e6data.io/rollback-to: its message appears at kubectl, and nothing else is ever refused.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main

cd "$root"
kubectl apply -k config/default >"$work/apply.log"
kubectl apply -k config/policy >>"$work/apply.log"
kubectl create namespace shop >/dev/null
# The operator does not run yet: a resource without a status has no history to be judged by.
sample sample1 1.0.437-old 1.0.547-old | kubectl apply -n shop -f - >/dev/null
says annotated kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=anything
kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to- >/dev/null

start_operator --log-level info
eventually "the first release serves" serves shop sample1 1.0.437-old
first=$(part shop sample1 .status.activeReleaseVersion)

# A new policy is in force a moment after it is created.
in_force() {
  local output
  output=$(kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense --dry-run=server 2>&1) && return 1
  grep -q "there are: $first" <<<"$output"
}
eventually "an unknown release is refused, and the message lists the ones there are" in_force
refuses "the value is empty; there are: $first" \
  kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=
refuses "e6data.io/rollback-to=v0 x/\$(id): the history has no release of this name" \
  kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=v0 x/\$(id)"
# The guide's command with one record: kubectl says that there is no [-2], and sets the empty value.
refuses "the value is empty" kubectl annotate metadataservices sample1 -n shop \
  "e6data.io/rollback-to=$(part shop sample1 '.status.releaseHistory[-2].version' 2>/dev/null || true)"
same "a refused request leaves no annotation" "" "$(part shop sample1 '.metadata.annotations.e6data\.io/rollback-to')"

# A release that never served is no target; the others are, whatever became of them later.
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.500-crash"}}}' >/dev/null
rolled_back() { [ "$(part shop sample1 .status.phase)/$(part shop sample1 .status.deploymentPhase)" = Degraded/Stable ]; }
eventually "a bad release is rolled back" rolled_back
failed=$(kubectl get metadataservices sample1 -n shop -o json | jq -r '.status.releaseHistory[] | select(.status == "Failed").version')
refuses "there are: $first" kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=$failed"
says annotated kubectl annotate metadataservices sample1 -n shop "e6data.io/rollback-to=$first"
accepted() {
  [ "$(part shop sample1 .status.phase)$(part shop sample1 '.metadata.annotations.e6data\.io/rollback-to')" = Stable ]
}
eventually "the accepted rollback is carried out and its annotation removed" accepted

# Everything else passes, also while an old, odd request is still there (it came when there was no policy).
stop_operator
kubectl delete validatingadmissionpolicybinding e6-operator-rollback-to >/dev/null
gone_in_force() {
  kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense --dry-run=server
}
eventually "without the policy nothing is refused" gone_in_force
kubectl annotate metadataservices sample1 -n shop e6data.io/rollback-to=nonsense >/dev/null
kubectl apply -k config/policy >>"$work/apply.log"
still_in_force() { ! kubectl annotate metadataservices sample1 -n shop --overwrite e6data.io/rollback-to=other --dry-run=server; }
eventually "the policy is back" still_in_force
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
