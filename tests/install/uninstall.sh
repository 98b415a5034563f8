#!/usr/bin/env bash
# Deletes resources, operator and CRD in every order: each deletion ends, and no object is left.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main

remove() {
  case "$1" in
    resources) kubectl delete metadataservices --all -A --timeout=600s ;;
    operator)
      # The operator stops before the deletion of its rights, so no request of it is refused.
      stop_operator
      kubectl delete -k "$root/config/rbac" --timeout=600s
      kubectl delete -k "$root/config/manager" --timeout=600s
      kubectl delete -k "$root/config/policy" --timeout=600s
      ;;
    crd) kubectl delete -k "$root/config/crd" --timeout=600s ;;
  esac >"$work/remove.log" 2>&1 || { [ "$1" = resources ] && grep -q "doesn't have a resource type" "$work/remove.log"; } ||
    die "removing the $1 failed: $(cat "$work/remove.log")"
}
of_sample1() { kubectl get deployments,replicasets,services,configmaps,controllerrevisions,pods -n shop -l app=sample1 -o name; }
# Before the operator starts, only the garbage collector watches the kind. While the CRD exists, the garbage collector can also
# find objects without a watch.
collector_watches() {
  kubectl get --raw /metrics | grep '^apiserver_longrunning_requests{' | grep 'resource="metadataservices"' |
    grep 'verb="WATCH"' | grep -qv ' 0$'
}
empty() {
  [ -z "$(of_sample1 | tee /dev/stderr)" ] &&
    ! kubectl get crd,clusterroles,clusterrolebindings,namespaces,validatingadmissionpolicies,validatingadmissionpolicybindings \
      -o name | grep -E 'e6|metadataservices'
}

kubectl create namespace shop >/dev/null
orders=("resources operator crd" "resources crd operator" "operator resources crd" "operator crd resources"
  "crd resources operator" "crd operator resources")
for order in "${orders[@]}"; do
  kubectl apply -k "$root/config/default" >"$work/apply.log"
  kubectl apply -k "$root/config/policy" >"$work/apply.log"
  kubectl wait crd metadataservices.e6data.io --for=condition=Established >/dev/null
  # The garbage collector discovers a new kind within 30 s, and a restored kind at its next attempt. It does not delete the
  # dependents of unknown kinds.
  eventually "the garbage collector knows the kind" collector_watches
  start_operator --log-level info
  sample sample1 1.0.500 1.0.600 | kubectl apply -n shop -f - >/dev/null
  eventually "a release is active" serves shop sample1 1.0.500
  for what in $order; do remove "$what"; done
  stop_operator
  eventually "no object is left after the deletion of $order" empty
done
