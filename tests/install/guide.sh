#!/usr/bin/env bash
# Runs every command of the upgrade guide as printed, in the guide's order, on an installation that is upgraded from 0.1.0 to
# this version.
#
#   guide.sh [kwok|real]      kwok: KWOK simulates the Pods, and the operator runs as a process with its ServiceAccount's token
#                             real: a real node (root) runs all Pods, including the operator
#
# The test replaces only these external services:
#   https://github.com, https://api.github.com   a local server with the files of hack/release.sh, and a git repository of this
#                                                work tree with the tag of this version (by wrappers of curl and kubectl, and
#                                                by git's insteadOf)
#   the Helm repository e6data                   the charts of this work tree on that server, also packed as 0.1.0
#   helm diff                                    a plugin of the same name that compares by Helm's dry run
#   kubectl edit, watch                          an editor that replaces the tags; watch ends after 8 seconds
#   kubectl top                                  metrics-server on a real node; KWOK has no metrics, so the command fails
#   the staging cluster                          a second cluster
#   the image registry                           the node's store; an admission policy keeps kubelet from pulling :latest
#   curlimages/curl                              the curl of this machine, which finds Services by environment variables of the
#                                                Pod, because the node has no DNS; it starts after Enter
# The images of 0.1.0 are the images of this version with another tag. Blocks that are missing in the guide's text are not here.
source "$(dirname "${BASH_SOURCE[0]}")/guide-lib.sh"

start_cluster production "$bed"
serve_site
says "has been added" helm repo add e6data "http://127.0.0.1:$SITE_PORT/charts"
if [ "$bed" = real ]; then
  import_images
  install_metrics_server
fi
kubectl create namespace autoscalingv2 >/dev/null
kubectl create namespace "$system" >/dev/null
kubectl label namespace "$system" pod-security.kubernetes.io/enforce=restricted >/dev/null
says deployed helm install e6-operator-crds e6data/e6-operator-crds --namespace "$system" --version 0.1.0
says deployed helm install e6-operator e6data/e6-operator --namespace "$system" --version 0.1.0
beside_the_cluster
sample sample1 1.0.437-old 1.0.547-old | kubectl apply -n autoscalingv2 -f - >/dev/null
eventually "the first release is active" settled sample1
kubectl config set-context --current --namespace=autoscalingv2 >/dev/null

echo "--- Pre-Upgrade Checklist"
guide "v$version" <<'X'
# Check release notes for breaking changes
curl -s https://api.github.com/repos/e6data/e6-operator/releases/latest | \
jq -r '.body'
X
cat >"$session/backup-operator-state.sh" <<'X'
#!/bin/bash
# backup-operator-state.sh
BACKUP_DIR="backup-$(date +%Y%m%d-%H%M%S)"
mkdir -p $BACKUP_DIR
echo "Backing up operator state..."
# Backup all MetadataServices resources
kubectl get metadataservices --all-namespaces -o yaml > $BACKUP_DIR/metadataservices.yaml
# Backup CRD
kubectl get crd metadataservices.e6data.io -o yaml > $BACKUP_DIR/crd.yaml
# Backup operator deployment
kubectl get deployment -n e6-operator-system e6-operator-controller-manager -o yaml \
> $BACKUP_DIR/operator-deployment.yaml
# Backup operator RBAC
kubectl get clusterrole metadataservices-operator-manager-role -o yaml \
> $BACKUP_DIR/clusterrole.yaml
kubectl get clusterrolebinding metadataservices-operator-manager-rolebinding -o yaml \
> $BACKUP_DIR/clusterrolebinding.yaml
tar -czf $BACKUP_DIR.tar.gz $BACKUP_DIR/
echo "Backup complete: $BACKUP_DIR.tar.gz"
X
guide "Backup complete" <<<"bash -e backup-operator-state.sh"
sleep 1 # the name of a backup has a resolution of 1 s
guide "Backup complete" <<<"bash $root/scripts/backup-operator-state.sh"
guide "/e6-operator:0.1.0" <<'X'
# Operator version
kubectl get deployment -n e6-operator-system e6-operator-controller-manager \
-o jsonpath='{.spec.template.spec.containers[0].image}'
X
guide "v1alpha1" <<'X'
# CRD version
kubectl get crd metadataservices.e6data.io \
-o jsonpath='{.spec.versions[*].name}'
X
guide "1.0.437-old" <<'X'
# MetadataServices workload versions
kubectl get metadataservices -A \
-o custom-columns=NAME:.metadata.name,NAMESPACE:.metadata.namespace,\
STORAGE:.spec.storage.imageTag,SCHEMA:.spec.schema.imageTag
X
guide "Running" <<'X'
# Check operator health
kubectl get pods -n e6-operator-system
X
guide "sample1" <<'X'
# Check MetadataServices resources
kubectl get metadataservices -A
X
guide <<'X'
# Check for degraded workloads
kubectl get metadataservices -A -o json | \
jq -r '.items[] | select(.status.phase != "Stable") | "\(.metadata.name) - \(.status.phase)"'
X
same "nothing is degraded" "" "$said"
if [ "$bed" = real ]; then
  eventually "metrics-server has metrics of the node" kubectl top nodes
  guide "CPU(cores)" <<'X'
# Check cluster resources
kubectl top nodes
X
else
  refuses "Metrics API not available" kubectl top nodes
fi

echo "--- Upgrading CRDs (first, as the guide's order says)"
guide "REVISION: 2" <<X
# Upgrade CRDs chart first
helm upgrade e6-operator-crds e6data/e6-operator-crds \\
--namespace e6-operator-system \\
--version $version
X
guide "v1alpha1" <<'X'
# Verify CRD updated
kubectl get crd metadataservices.e6data.io \
-o jsonpath='{.spec.versions[*].name}'
X
guide "metadataservices.e6data.io" <<X
# Apply updated CRD
kubectl apply -f https://github.com/e6data/e6-operator/releases/download/v$version/metadataservices.e6data.io.yaml
X
guide "crd-version: v$version" <<'X'
# Verify
kubectl get crd metadataservices.e6data.io -o yaml | grep "version:"
X
guide "dry run" <<'X'
# Check which resources fail validation
kubectl get metadataservices -A -o yaml | kubectl apply --dry-run=server -f -
X

echo "--- Upgrading the Operator by Helm"
guide <<<"helm repo update"
echo 'replicaCount: 2' >"$session/custom-values.yaml"
before=$(pods_of autoscalingv2 sample1)
guide "+          image: e6data/e6-operator:$version" <<X
# Check what will change
helm diff upgrade e6-operator e6data/e6-operator \\
--namespace e6-operator-system \\
--version $version
X
guide "+          image: e6data/e6-operator:$version" <<X
# OR with custom values
helm diff upgrade e6-operator e6data/e6-operator \\
--namespace e6-operator-system \\
--version $version \\
-f custom-values.yaml
X
guide "image: e6data/e6-operator:$version" <<X
# Helm dry-run
helm upgrade e6-operator e6data/e6-operator \\
--namespace e6-operator-system \\
--version $version \\
--dry-run --debug
X
guide "REVISION: 2" <<X
# Upgrade with default values
helm upgrade e6-operator e6data/e6-operator \\
--namespace e6-operator-system \\
--version $version
X
verify_operator() { # IMAGE
  guide "successfully rolled out" <<'X'
# Check rollout status
kubectl rollout status deployment/e6-operator-controller-manager \
-n e6-operator-system
X
  guide "$1" <<'X'
# Verify new version
kubectl get deployment -n e6-operator-system e6-operator-controller-manager \
-o jsonpath='{.spec.template.spec.containers[0].image}'
X
  guide_on_node "e6-operator" <<'X'
# Check logs for errors
kubectl logs -n e6-operator-system \
deployment/e6-operator-controller-manager \
--tail=50
X
}
verify_operator "/e6-operator:$version"
guide "REVISION: 3" <<X
# OR with custom values
helm upgrade e6-operator e6data/e6-operator \\
--namespace e6-operator-system \\
--version $version \\
-f custom-values.yaml
X
verify_operator "/e6-operator:$version"

echo "--- Upgrading MetadataServices Workloads"
guide "edited" <<'X'
# Edit MetadataServices resource
kubectl edit metadataservices sample1 -n autoscalingv2
X
generation=$(kubectl get metadataservices sample1 -n autoscalingv2 -o jsonpath='{.metadata.generation}')
# kubectl says "no change" only if the operator wrote no status meanwhile.
guide "patched" <<'X'
kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '
{
"spec": {
"storage": {"imageTag": "1.0.500-new"},
"schema": {"imageTag": "1.0.600-new"}
}
}'
X
same "the patch after the edit changes nothing" "$generation" \
  "$(kubectl get metadataservices sample1 -n autoscalingv2 -o jsonpath='{.metadata.generation}')"
# Ends the guide's watch command after 8 s. Without this it does not end.
write_tool watch "timeout 8 $(command -v watch) \"\$@\" || [ \$? -eq 124 ]"
guide "Deploying: blue -> green" <<'X'
# Watch deployment phase
watch -n 2 "kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.deploymentPhase}: {.status.activeStrategy} -> {.status.pendingStrategy}'"
X
eventually "Stable again" settled sample1
guide "v20" <<'X'
# Check active version
kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.activeReleaseVersion}'
X
guide "1.0.500-new: 1.0.600-new" <<'X'
# Check current image tags
kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.spec.storage.imageTag}: {.spec.schema.imageTag}'
X
guide "sample1-schema-green" <<'X'
# Check pods are running
kubectl get pods -n autoscalingv2 -l app=sample1
X
guide '"storageTag": "1.0.500-new"' <<'X'
# Check release history
kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.releaseHistory}' | jq .
X
guide_on_node "storage" <<'X'
# Test storage service
kubectl run -it --rm debug --image=curlimages/curl --restart=Never -- \
curl -v http://sample1-storage-green:9005
X
guide_on_node "schema" <<'X'
# Test schema service
kubectl run -it --rm debug --image=curlimages/curl --restart=Never -- \
curl -v http://sample1-schema-green:9006
X
# grep must find no line.
guide_on_node <<'X'
# Check logs for errors
kubectl logs -n autoscalingv2 -l app=sample1 --tail=100 | grep ERROR || [ $? -eq 1 ]
X

echo "--- Rollback MetadataServices Workloads"
guide "annotated" <<'X'
# Manual rollback to previous version
kubectl annotate metadataservices sample1 -n autoscalingv2 \
e6data.io/rollback-to=$(kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.status.releaseHistory[-2].version}')
X
back() { serves autoscalingv2 sample1 1.0.437-old; }
eventually "the previous release is active" back
guide "1.0.437-old: 1.0.547-old" <<'X'
kubectl get metadataservices sample1 -n autoscalingv2 \
-o jsonpath='{.spec.storage.imageTag}: {.spec.schema.imageTag}'
X
refuses "there are: " bash -c 'kubectl annotate metadataservices sample1 -n autoscalingv2 e6data.io/rollback-to=v0'

echo "--- Batch Upgrades"
sample sample2 1.0.437-old 1.0.547-old | kubectl apply -n autoscalingv2 -f - >/dev/null
eventually "the second resource has an active release" settled sample2
cat >"$session/batch-upgrade.sh" <<'X'
#!/bin/bash
# batch-upgrade.sh
NEW_STORAGE_TAG="1.0.500-new"
NEW_SCHEMA_TAG="1.0.600-new"
NAMESPACE="autoscalingv2"
# Get all MetadataServices resources
RESOURCES=$(kubectl get metadataservices -n $NAMESPACE -o name)
for resource in $RESOURCES; do
name=$(echo $resource | cut -d'/' -f2)
echo "Upgrading $name..."
kubectl patch metadataservices $name -n $NAMESPACE --type=merge -p "
{
\"spec\": {
\"storage\": {\"imageTag\": \"$NEW_STORAGE_TAG\"},
\"schema\": {\"imageTag\": \"$NEW_SCHEMA_TAG\"}
}
}"
# Wait for upgrade to complete
echo "Waiting for $name to stabilize..."
while true; do
phase=$(kubectl get metadataservices $name -n $NAMESPACE -o jsonpath='{.status.deploymentPhase}')
if [ "$phase" = "Stable" ]; then
echo "$name upgrade complete"
break
fi
echo "  Phase: $phase"
sleep 10
done
echo ""
done
echo "All upgrades complete"
X
guide "All upgrades complete" <<<"bash -e batch-upgrade.sh"
# The loop of the script reads the phase right after the patch. It must not read the earlier phase Stable.
grep -q "  Phase: Deploying" <<<"$said" || die "the batch script read the phase before the upgrade: $said"
for name in sample1 sample2; do serves autoscalingv2 "$name" 1.0.500-new >/dev/null || die "$name was not upgraded"; done
passed "the new release is active in both resources"
before="$(pods_of autoscalingv2 sample1) $(pods_of autoscalingv2 sample2)"

echo "--- Rollback Operator"
guide "e6-operator-$version" <<'X'
# List release history
helm history e6-operator -n e6-operator-system
X
guide "Rollback was a success" <<'X'
# Rollback to previous version
helm rollback e6-operator -n e6-operator-system
X
guide "Rollback was a success" <<'X'
# OR rollback to specific revision
helm rollback e6-operator 3 -n e6-operator-system
X
verify_operator "/e6-operator:$version"

echo "--- Upgrading the Operator: direct image update, and back"
set_image() {
  guide "image updated" <<X
# Update image directly
kubectl set image deployment/e6-operator-controller-manager \\
manager=your-registry/e6-operator:$version \\
-n e6-operator-system
X
  verify_operator "your-registry/e6-operator:$version"
}
set_image
guide "rolled back" <<'X'
# OR to specific revision
kubectl rollout undo deployment/e6-operator-controller-manager \
-n e6-operator-system --to-revision=2
X
verify_operator "e6data/e6-operator:$version"
set_image
guide "rolled back" <<'X'
# Rollback deployment
kubectl rollout undo deployment/e6-operator-controller-manager \
-n e6-operator-system
X
verify_operator "e6data/e6-operator:$version"
same "none of these commands changed a workload" "$before" "$(pods_of autoscalingv2 sample1) $(pods_of autoscalingv2 sample2)"

echo "--- Rollback CRDs"
cp "$root/tests/data/crd-v0.1.0.yaml" "$session/crd-v0.1.0.yaml"
guide "configured" <<'X'
# Re-apply old CRD version
kubectl apply -f crd-v0.1.0.yaml
X
guide "sample1" <<'X'
# Verify all resources still valid
kubectl get metadataservices -A
X
guide_on_node <<'X'
# Check for validation errors in operator logs
kubectl logs -n e6-operator-system deployment/e6-operator-controller-manager \
| grep ERROR || [ $? -eq 1 ]
X
kubectl apply -f "$root/crds/metadataservices.e6data.io.yaml" >/dev/null
eventually "the resource is stable with the CRD of this version" settled sample1
same "no workload was changed" "$before" "$(pods_of autoscalingv2 sample1) $(pods_of autoscalingv2 sample2)"

echo "--- Troubleshooting"
guide_on_node "Events" <<'X'
pod=$(kubectl get pods -n e6-operator-system -o jsonpath='{.items[0].metadata.name}')
kubectl describe pod $pod -n e6-operator-system
kubectl logs $pod -n e6-operator-system --all-containers
X

echo "--- Upgrading the Operator by kustomize"
stop_operator
helm uninstall e6-operator -n "$system" --wait >/dev/null
guide <<X
# Clone or pull latest version
git clone https://github.com/e6data/e6-operator.git
cd e6-operator
git checkout v$version
X
session=$session/e6-operator
guide "(dry run)" <<'X'
# kubectl dry-run
kubectl apply -k config/default --dry-run=client
X
guide "deployment.apps/e6-operator-controller-manager created" <<'X'
# Apply updated manifests
kubectl apply -k config/default
X
beside_the_cluster
verify_operator "/e6-operator:$version"
guide "poddisruptionbudget.policy/e6-operator-controller-manager created" <<'X'
# OR with custom overlay
kubectl apply -k overlays/production
X
verify_operator "/e6-operator:$version"
kubectl patch metadataservices sample1 -n autoscalingv2 --type=merge -p '{"spec":{"schema":{"imageTag":"1.0.601-new"}}}' >/dev/null
patched() { settled sample1 && [ "$(part autoscalingv2 sample1 '.status.releaseHistory[-1].schemaTag')" = 1.0.601-new ]; }
eventually "an upgrade under the operator that kustomize installed" patched

echo "--- Test in Staging"
stop_operator
session=$work/session
start_cluster staging "$bed"
serve_site
helm repo add --force-update e6data "http://127.0.0.1:$SITE_PORT/charts" >/dev/null
[ "$bed" = kwok ] || import_images
guide "STATUS: deployed" <<'X'
# 1. Deploy operator to staging cluster
helm install e6-operator-staging e6data/e6-operator \
--namespace e6-operator-staging \
--create-namespace
X
kubectl create namespace staging >/dev/null
cp "$root/config/samples/minimal.yaml" "$session/test-metadataservices.yaml"
guide "created" <<'X'
# 2. Create test MetadataServices
kubectl apply -f test-metadataservices.yaml -n staging
X
guide "REVISION: 2" <<X
# 3. Upgrade operator
helm upgrade e6-operator-staging e6data/e6-operator \\
--namespace e6-operator-staging \\
--version $version
X
system=e6-operator-staging manager=e6-operator-staging-controller-manager beside_the_cluster
staged() { [ "$(part staging sample1 .status.phase)" = Stable ]; }
eventually "4. Verify everything works" staged
echo "  $commands blocks of the guide ran as printed"
