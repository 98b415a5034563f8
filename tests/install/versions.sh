#!/usr/bin/env bash
# Other versions of the CRD while the operator runs: an older schema, the next API version, and the return to this version.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main
crd=metadataservices.e6data.io

kubectl apply -k "$root/config/default" >"$work/apply.log"
kubectl create namespace shop >/dev/null
start_operator --log-level info
sample sample1 1.0.500-new 1.0.600-new | kubectl apply -n shop -f - >/dev/null
eventually "the first release is active" serves shop sample1 1.0.500-new
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.501"}}}' >/dev/null
eventually "the second release is active" serves shop sample1 1.0.501
before=$(pods_of shop sample1)

# === An older CRD (the guide's CRD rollback) ===
cp "$root/tests/data/crd-v0.1.0.yaml" "$work/crd-v0.1.0.yaml"
cd "$work"
says configured kubectl apply -f crd-v0.1.0.yaml
says sample1 kubectl get metadataservices -A
reported() { grep -q 'WARN .*is older than this operator: no release will start.*kubectl apply' "$work/operator.log"; }
eventually "the operator logs that the CRD is older, and the remedy" reported
# The operator does not write to the resource through the older schema, because the API server would drop fields of the spec.
sleep 5
same "no Pod was changed" "$before" "$(pods_of shop sample1)"
kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml" >/dev/null
whole() { [ "$(part shop sample1 .spec.rollout.gracePeriodSeconds)" = 1 ] && serves shop sample1 1.0.501; }
eventually "with the CRD of this version the resource is unchanged" whole
# A user's write through the older schema: the API server drops the unknown fields of spec and status.
kubectl apply -f crd-v0.1.0.yaml >/dev/null
old() { [ -z "$(part shop sample1 .spec.rollout)" ]; }
eventually "the older CRD has an effect" old
kubectl label metadataservices sample1 -n shop touched=yes >/dev/null
kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.502"}}}' >/dev/null
same "fields are lost" "" "$(part shop sample1 .status.rollout)$(part shop sample1 .spec.rollout)"
sleep 5
same "no release starts and no Pod is changed" "$before" "$(pods_of shop sample1)"
writes=$(jq -r 'select(.user.username | endswith(":e6-operator-controller-manager"))
  | select(.verb | IN("create", "update", "patch", "delete")) | select(.objectRef.resource != "leases") | .requestURI' "$audit_log" | wc -l)
sleep 5
same "the operator makes no writes" "$writes" "$(jq -r 'select(.user.username | endswith(":e6-operator-controller-manager"))
  | select(.verb | IN("create", "update", "patch", "delete")) | select(.objectRef.resource != "leases") | .requestURI' "$audit_log" | wc -l)"
same "nothing was logged as an error" "" "$(grep -F ' ERROR ' "$work/operator.log" || true)"
says configured kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml"
sample sample1 1.0.502 1.0.600-new | kubectl apply -n shop -f - >/dev/null
eventually "with the CRD of this version the operator continues" serves shop sample1 1.0.502
same "the history is complete" "1.0.500-new 1.0.501 1.0.502" \
  "$(kubectl get metadataservices sample1 -n shop -o json | jq -r '[.status.releaseHistory[].storageTag] | join(" ")')"
before=$(pods_of shop sample1)

# === The next API version, served together with the old version ===
stored() { kubectl get crd "$crd" -o 'jsonpath={.status.storedVersions[*]}'; }
says configured kubectl apply -f "$root/crds/next/metadataservices.e6data.io.yaml"
same "the CRD has both versions" "v1alpha1 v1beta1" "$(kubectl get crd "$crd" -o 'jsonpath={.spec.versions[*].name}')"
# kubectl caches the API versions of a server for hours.
preferred() { rm -rf "$HOME/.kube/cache" && [ "$(kubectl get metadataservices sample1 -n shop -o 'jsonpath={.apiVersion}')" = e6data.io/v1beta1 ]; }
eventually "kubectl uses the new version" preferred
same "both versions have the same schema" "$(kubectl get metadataservices.v1alpha1.e6data.io sample1 -n shop -o json | jq -cS '{spec, status}')" \
  "$(kubectl get metadataservices.v1beta1.e6data.io sample1 -n shop -o json | jq -cS '{spec, status}')"
says patched kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.503"}}}'
eventually "this operator rolls out a change through the new version" serves shop sample1 1.0.503
before=$(pods_of shop sample1)

# === Return to the old version before an object is stored in the new version ===
says configured kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml"
only_old() { rm -rf "$HOME/.kube/cache" && [ "$(kubectl get metadataservices sample1 -n shop -o 'jsonpath={.apiVersion}')" = e6data.io/v1alpha1 ]; }
eventually "the CRD has the old version only" only_old
eventually "the resource is unchanged" serves shop sample1 1.0.503

# === Return to the old version after objects are stored in the new version: by migration ===
store_in() { # VERSION: makes it the storage version, rewrites the resource, and removes the other version from storedVersions
  local index before
  for index in 0 1; do
    kubectl get crd "$crd" -o json | jq -c --arg version "$1" --argjson index "$index" \
      '[{op: "replace", path: "/spec/versions/\($index)/storage", value: (.spec.versions[$index].name == $version)}]' >"$work/storage-$index.json"
  done
  # A single patch changes both versions, because exactly one version must have storage: true.
  kubectl patch crd "$crd" --type=json --patch-file <(jq -cs add "$work"/storage-*.json) >/dev/null
  eventually "new writes are stored in $1" stored_has "$1"
  before=$(part shop sample1 .metadata.resourceVersion)
  # kubectl replace would save the resourceVersion in the last-applied annotation, and the next kubectl apply would fail.
  kubectl patch metadataservices sample1 -n shop --type=merge -p '{}' >/dev/null
  [ "$(part shop sample1 .metadata.resourceVersion)" != "$before" ] || die "an empty patch did not rewrite the resource"
  kubectl patch crd "$crd" --subresource=status --type=merge -p "{\"status\":{\"storedVersions\":[\"$1\"]}}" >/dev/null
}
stored_has() { grep -q "$1" <<<"$(stored)"; }
says configured kubectl apply -f "$root/crds/next/metadataservices.e6data.io.yaml"
eventually "the API server serves both versions again" preferred
store_in v1beta1
same "only the new version is stored" v1beta1 "$(stored)"
says patched kubectl patch metadataservices sample1 -n shop --type=merge -p '{"spec":{"storage":{"imageTag":"1.0.504"}}}'
eventually "a release on the new storage version" serves shop sample1 1.0.504
before=$(pods_of shop sample1)
refuses "storedVersions" kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml"
same "the refused rollback changed nothing" "v1alpha1 v1beta1" "$(kubectl get crd "$crd" -o 'jsonpath={.spec.versions[*].name}')"
store_in v1alpha1
says configured kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml"
eventually "after migration the CRD has the old version only" only_old
eventually "the resource is unchanged" serves shop sample1 1.0.504
same "no Pod was changed" "$before" "$(pods_of shop sample1)"
same "nothing was logged as an error" "" "$(grep -F ' ERROR ' "$work/operator.log" || true)"
