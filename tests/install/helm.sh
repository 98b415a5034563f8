#!/usr/bin/env bash
# Both charts on a real API server, with Helm 4 (argument helm) or Helm 3 (helm3): errors, install, adoption of an existing CRD,
# upgrade with old values, rollback, more releases, uninstall.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
helm=${1:-helm}
use_tools kubectl "$helm"
echo "  $(helm version --short)"
start_cluster main
operator=$root/charts/e6-operator
crds=$root/charts/e6-operator-crds

# An earlier version of both charts: the same templates.
mkdir "$work/old"
for chart in e6-operator e6-operator-crds; do
  helm package "$root/charts/$chart" --version 0.1.0 --app-version 0.1.0 -d "$work/old" >/dev/null
done

image_is() { # IMAGE [DEPLOYMENT NAMESPACE]
  same "the image is $1" "$1" "$(kubectl get deployment -n "${3:-$system}" "${2:-$manager}" \
    -o jsonpath='{.spec.template.spec.containers[0].image}')"
}
shape() { # fields that must not change with the version
  kubectl get deployment "$manager" -n "$system" -o jsonpath='{.metadata.uid} {.spec.selector}'
}

# === Before anything is installed ===
refuses "has no deployed releases" helm upgrade e6-operator "$operator" -n "$system"
kubectl create serviceaccount nobody >/dev/null
kubeconfig_of default nobody "$work/nobody.kubeconfig"
refuses "forbidden" env KUBECONFIG="$work/nobody.kubeconfig" helm install e6-operator "$operator" -n "$system" --create-namespace
refuses "Set replicaCount=1" helm install e6-operator "$operator" -n "$system" --create-namespace --set leaderElection.enabled=false
refuses "/log/format" helm install e6-operator "$operator" -n "$system" --create-namespace --set log.format=xml
refuses "incompatible with Kubernetes v1.21" helm template e6-operator "$operator" --kube-version 1.21.0
refuses "connection refused" env KUBECONFIG=/nonexistent helm install e6-operator "$operator" -n "$system" --kube-apiserver http://127.0.0.1:1
# Helm installs the CRD before all checks. It stays for the next installation.
same "no incomplete installation is left" "" "$(kubectl get deployments,clusterroles,serviceaccounts -A -o name | grep -E 'e6|metadataservices' || true)"
kubectl delete crd metadataservices.e6data.io >/dev/null

# === Install the old version with its CRD; the CRD chart adopts the CRD ===
says deployed helm install e6-operator "$work/old/e6-operator-0.1.0.tgz" -n "$system" --create-namespace --wait \
  --set replicaCount=3,image.repository=registry.example.com/e6-operator,webhook.enabled=false,log.level=debug
image_is registry.example.com/e6-operator:0.1.0
says v1alpha1 kubectl get crd metadataservices.e6data.io -o 'jsonpath={.spec.versions[*].name}'
says deployed helm install e6-operator-crds "$work/old/e6-operator-crds-0.1.0.tgz" -n "$system"
kubectl create namespace shop >/dev/null
sample sample1 1.0.437-old 1.0.547-old | kubectl apply -n shop -f - >/dev/null
start_operator
eventually "the first release is active" serves shop sample1 1.0.437-old
before="$(pods_of shop sample1) $(shape)"

# === Upgrade: CRDs first, then the operator, which keeps its old values ===
says deployed helm upgrade e6-operator-crds "$crds" -n "$system"
says "image: registry.example.com/e6-operator:$version" helm upgrade e6-operator "$operator" -n "$system" --dry-run=server --debug
image_is registry.example.com/e6-operator:0.1.0
says deployed helm upgrade e6-operator "$operator" -n "$system" --wait
image_is "registry.example.com/e6-operator:$version"
same "old values are kept" 3 "$(kubectl get deployment "$manager" -n "$system" -o jsonpath='{.spec.replicas}')"
says "$version" kubectl get pods -n "$system" -l control-plane=controller-manager -o 'jsonpath={.items[0].metadata.labels}'

# === Rollback, and upgrade again ===
says "deployed" helm history e6-operator -n "$system"
says "Rollback was a success" helm rollback e6-operator -n "$system" --wait
image_is registry.example.com/e6-operator:0.1.0
says "Rollback was a success" helm rollback e6-operator 2 -n "$system" --wait
image_is "registry.example.com/e6-operator:$version"
same "no workload was changed, and the Deployment is the same object" "$before" "$(pods_of shop sample1) $(shape)"
eventually "the resource is unchanged" serves shop sample1 1.0.437-old

# === More Helm releases ===
refuses "ClusterRole metadataservices-operator-manager-role:" \
  helm install e6-operator-staging "$operator" -n e6-operator-staging --create-namespace
refuses "holds an E6 Operator already" helm install other "$operator" -n "$system" --set allowSecondRelease=true
same "no incomplete installation is left" "" "$(kubectl get deployments,clusterroles -A -o name | grep -E 'staging|other' || true)"
kubectl create namespace staging >/dev/null
staging=(e6-operator-staging "$operator" -n e6-operator-staging --create-namespace --wait --set 'watchNamespaces={staging}')
refuses "Set watchNamespaces in both releases" helm install "${staging[@]}"
says deployed helm upgrade e6-operator "$operator" -n "$system" --reuse-values --set 'watchNamespaces={shop}'
says deployed helm install "${staging[@]}"
refuses "Set watchNamespaces in both releases" helm upgrade e6-operator "$operator" -n "$system" --reuse-values --set-json 'watchNamespaces=[]'
says deployed helm upgrade e6-operator "$operator" -n "$system" --reuse-values --set allowSecondRelease=true \
  --set-json 'watchNamespaces=[]'
says deployed helm upgrade e6-operator "$operator" -n "$system" --reuse-values --set allowSecondRelease=false
says deployed helm upgrade e6-operator-staging "$operator" -n e6-operator-staging
image_is "e6data/e6-operator:$version" e6-operator-staging-controller-manager e6-operator-staging
confined=$work/confined.kubeconfig
kubeconfig_of e6-operator-staging e6-operator-staging-controller-manager "$confined"
same "a confined operator may read its namespace" yes "$(kubectl --kubeconfig "$confined" auth can-i list pods -n staging)"
same "a confined operator may not read another namespace" no "$(kubectl --kubeconfig "$confined" auth can-i list pods -n shop 2>/dev/null || true)"
stop_operator
system=e6-operator-staging manager=e6-operator-staging-controller-manager start_operator --watch-namespace staging
sample sample2 1.0.1 1.0.1 | kubectl apply -n staging -f - >/dev/null
eventually "a confined operator works with its Role only" serves staging sample2 1.0.1
stop_operator
says uninstalled helm uninstall e6-operator-staging -n e6-operator-staging

# === Uninstall: the CRD stays, and so do the resources and their workloads ===
says uninstalled helm uninstall e6-operator-crds -n "$system"
says uninstalled helm uninstall e6-operator -n "$system" --wait
same "the operator is gone" "" "$(kubectl get deployments,clusterroles,clusterrolebindings,roles,leases -A -o name | grep -E 'e6-operator-|metadataservices-' || true)"
says sample1 kubectl get metadataservices -n shop
same "the workloads still run" "${before% * *}" "$(pods_of shop sample1)"
says deployed helm install e6-operator "$operator" -n "$system" --wait
start_operator
says deployed helm install e6-operator-crds "$crds" -n "$system"
eventually "after a new installation the operator manages the resource again" serves shop sample1 1.0.437-old
same "no Pod was restarted" "${before% * *}" "$(pods_of shop sample1)"
