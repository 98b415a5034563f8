#!/usr/bin/env bash
# The scripts of the guide: backup, restore in each supported case, batch upgrade.
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
backup=$root/scripts/backup-operator-state.sh
restore=$root/scripts/restore-operator-state.sh
batch=$root/scripts/batch-upgrade.sh

install() {
  kubectl apply -k "$root/config/default" >"$work/apply.log"
  kubectl wait crd metadataservices.e6data.io --for=condition=Established >/dev/null
}
latest() { find "$1" -maxdepth 1 -name 'backup-*.tar.gz' | sort | tail -n 1; }
nothing_left_in() { same "no incomplete file is left in $1" "" "$(find "$1" -mindepth 1)"; }
history() { # NAMESPACE NAME: versions, states and storage tags of the releases
  kubectl get metadataservices "$2" -n "$1" -o json | jq -c '[.status.releaseHistory[] | [.version, .status, .storageTag]]'
}

# === Backup: errors ===
mkdir "$work/out"
refuses "is this the right cluster" "$backup" "$work/out"
start_cluster first
refuses "reading the CRD metadataservices.e6data.io failed" "$backup" "$work/out"
install
refuses "create it, or name another" "$backup" "$work/no-such-directory"
refuses "unknown option --all" "$backup" --all
kubectl delete clusterrolebinding metadataservices-operator-manager-rolebinding >/dev/null
mkdir "$work/rights"
says "clusterrolebinding.yaml is left out" "$backup" "$work/rights"
kubectl apply -k "$root/config/rbac" >/dev/null
kubectl create serviceaccount reader >/dev/null
kubeconfig_of default reader "$work/reader.kubeconfig"
refuses "is this the right cluster" env KUBECONFIG="$work/reader.kubeconfig" "$backup" "$work/out"
kubectl create clusterrole some --verb=get,list --resource=customresourcedefinitions,metadataservices >/dev/null
kubectl create clusterrolebinding some --clusterrole=some --serviceaccount=default:reader >/dev/null
refuses "controllerrevisions.apps is forbidden" env KUBECONFIG="$work/reader.kubeconfig" "$backup" "$work/out"
refuses "nothing was saved" env KUBECONFIG="$work/reader.kubeconfig" "$backup" "$work/out"
nothing_left_in "$work/out"

# === Four resources with a history ===
start_operator --log-level info
kubectl create namespace shop >/dev/null
kubectl create namespace bar >/dev/null
for name in sample1 sample2 failed; do sample "$name" 1.0.437-old 1.0.547-old | kubectl apply -n shop -f - >/dev/null; done
sample other 1.0.1 1.0.1 | kubectl apply -n bar -f - >/dev/null
for name in sample1 sample2 failed; do eventually "$name has an active release" serves shop "$name" 1.0.437-old; done
eventually "other has an active release" serves bar other 1.0.1

# === Batch upgrade ===
run_batch() { "$batch" --interval 1 --timeout 600 -n shop "$@"; }
refuses "name the namespace" "$batch" --storage 1 --schema 1
refuses "name both image tags" "$batch" -n shop --storage 1
refuses "needs a number of at least 1" run_batch --storage 1 --schema 1 --max-parallel 0
refuses "unknown option" run_batch --storage 1 --schema 1 --force
says "There are no MetadataServices in namespace default" "$batch" -n default --storage 1 --schema 1
refuses "is it the right one" "$batch" -n shpo --storage 1 --schema 1
# shellcheck disable=SC2016 # the script must not execute it
refuses "is no name of a resource" run_batch --storage 1 --schema 1 '$(touch carried-out)'
says "nothing was changed" run_batch --storage 1.0.500-new --schema 1.0.600-new --dry-run
same "a dry run changes nothing" 1.0.437-old "$(part shop sample1 .spec.storage.imageTag)"
refuses "must be an image tag" run_batch --storage "a b;\$(id)" --schema 1 sample1
refuses "not upgraded: no-such-one" run_batch --storage 1.0.500-new --schema 1.0.600-new no-such-one
says "sample2 upgrade complete" run_batch --storage 1.0.500-new --schema 1.0.600-new --max-parallel 3
serves shop sample1 1.0.500-new >/dev/null || die "sample1 was not upgraded"
serves shop failed 1.0.500-new >/dev/null || die "failed was not upgraded"
says "All upgrades complete" run_batch --storage 1.0.500-new --schema 1.0.600-new --max-parallel 3
# The guide's own variables.
says "other upgrade complete" env NEW_STORAGE_TAG=1.0.2 NEW_SCHEMA_TAG=1.0.2 NAMESPACE=bar "$batch" --interval 1
# An automatic rollback counts as a failure, so the script does not start the other upgrades.
refuses "not upgraded: failed; not started: sample1 sample2" \
  run_batch --storage 1.0.501-crash --schema 1.0.601 --stop-on-failure failed sample1 sample2
refuses "e6data.io/retry" run_batch --storage 1.0.501-crash --schema 1.0.601 failed
same "a resource without a started upgrade is unchanged" 1.0.500-new "$(part shop sample1 .spec.storage.imageTag)"

# === Backup ===
past=$(history shop sample1)
failed_past=$(history shop failed)
says "Saved 4 MetadataServices with 9 releases" "$backup" "$work/out"
archive=$(latest "$work/out")
mkdir "$work/odd name;x:y"
says "Backup complete" "$backup" "$work/odd name;x:y"
says "shop/sample1 is there" "$restore" --dry-run "$(latest "$work/odd name;x:y")"
same "files" "clusterrole.yaml clusterrolebinding.yaml controllerrevisions.yaml crd.yaml metadataservices.yaml operator-deployment.yaml" \
  "$(tar -tzf "$archive" | sed 's|^[^/]*/||' | sort | xargs)"
mkdir "$work/files"
tar -xzf "$archive" -C "$work/files" --strip-components=1
for file in "$work"/files/*.yaml; do says "" kubectl apply --dry-run=server -f "$file"; done
if [ "$(id -u)" -eq 0 ] && mkdir "$work/small" && mount -t tmpfs -o size=16k tmpfs "$work/small" 2>/dev/null; then
  refuses "is there room left" "$backup" "$work/small"
  left=$(find "$work/small" -mindepth 1)
  umount "$work/small"
  same "no incomplete file is left on a full disk" "" "$left"
else
  echo "  SKIPPED a full disk: needs root and mount"
fi

# === Restore: errors ===
refuses "cannot be read" "$restore" "$work/no-such-file"
head -c 500 "$archive" >"$work/torn.tar.gz"
refuses "is not a whole backup" "$restore" "$work/torn.tar.gz"
mkdir -p "$work/raw/backup" && kubectl get metadataservices -A -o yaml >"$work/raw/backup/metadataservices.yaml"
tar -czf "$work/raw.tar.gz" -C "$work/raw" backup
refuses "no MetadataServices of namespace shpo, but of: bar, shop" "$restore" -n shpo "$archive"
refuses "nothing was restored" env KUBECONFIG="$work/reader.kubeconfig" "$restore" "$archive"
replicas() { kubectl get deployment "$manager" -n "$system" -o jsonpath='{.spec.replicas}'; }
refuses "cannot be restored by this script" "$restore" "$work/raw.tar.gz"

# === Restore: nothing is missing ===
before=$(pods_of shop sample1)
says "shop/sample1 is there and stays as it is" "$restore" "$archive"
same "the operator's Deployment is unchanged" 1 "$(replicas)"
# An earlier run was killed after it had stopped the operator.
kubectl annotate deployment "$manager" -n "$system" e6data.io/replicas-before-restore=2 >/dev/null
kubectl scale deployment "$manager" -n "$system" --replicas=0 >/dev/null
says "is started again" "$restore" "$archive"
same "the operator has its earlier number of replicas" 2 "$(replicas)"
kubectl scale deployment "$manager" -n "$system" --replicas=0 >/dev/null
says "has 0 replicas, and is left so" "$restore" "$archive"
kubectl scale deployment "$manager" -n "$system" --replicas=1 >/dev/null

# === Restore: the status is lost ===
kubectl get metadataservices sample1 -n shop -o json | jq '.status = {}' | kubectl replace --subresource=status -f - >/dev/null
eventually "the operator rebuilds a lost status" serves shop sample1 1.0.500-new
same "the rebuilt status has the earlier history" "$past" "$(history shop sample1)"
same "no Pod was restarted" "$before" "$(pods_of shop sample1)"

# === Restore: deleted with --cascade=orphan ===
# The test restores sample1 and failed with the script, and sample2 by applying the backup, as in the guide.
failing=$(pods_of shop failed)
kubectl delete metadataservices sample1 failed -n shop --cascade=orphan >/dev/null
says "would create metadataservices shop/failed" "$restore" --dry-run "$archive"
says "the operator adopts them" "$restore" -n shop "$archive"
kubectl delete metadataservices sample2 -n shop --cascade=orphan >/dev/null
kubectl apply -f "$work/files/metadataservices.yaml" >/dev/null
eventually "sample1 has its earlier active release" serves shop sample1 1.0.500-new
eventually "sample2 has its earlier active release" serves shop sample2 1.0.500-new
degraded() { serves "$1" failed 1.0.500-new && [ "$(part "$1" failed .status.phase)" = Degraded ]; }
eventually "the blocked release stays blocked" degraded shop
same "history of sample1" "$past" "$(history shop sample1)"
same "no Pod of sample1 was restarted" "$before" "$(pods_of shop sample1)"
same "no Pod of the blocked resource was restarted" "$failing" "$(pods_of shop failed)"
owned() {
  [ "$(kubectl get controllerrevisions,deployments,services,configmaps -n shop -l app=sample1 -o json |
    jq '[.items[] | select((.metadata.ownerReferences // []) == [])] | length')" = 0 ]
}
eventually "all objects have their owner again" owned

# === Restore: the whole cluster is lost ===
stop_operator
start_cluster second
says "would create metadataservices shop/sample1" "$restore" --dry-run "$archive"
same "a dry run creates nothing" "" "$(kubectl get crds -o name)"
# The script cannot write the status in the first run. Then a resource exists without a status, as after a killed run. A new run
# of the script restores both.
mkdir "$work/failing"
printf '#!/usr/bin/env bash\ncase "$*" in *--subresource=status*) exit 1 ;; esac\nexec "%s" "$@"\n' "$work/bin/kubectl" >"$work/failing/kubectl"
chmod +x "$work/failing/kubectl"
refuses "the resource was deleted again" env PATH="$work/failing:$PATH" "$restore" "$archive"
same "no resource without its status" "" "$(kubectl get metadataservices -A -o name)"
jq '.items |= map(select(.metadata.namespace == "bar"))' "$work/files/metadataservices.yaml" | kubectl create -f - >/dev/null
says "wrote the status of bar/other" "$restore" "$archive"
says "Restore complete" "$restore" "$archive"
same "the CRD is restored" "customresourcedefinition.apiextensions.k8s.io/metadataservices.e6data.io" \
  "$(kubectl get crd metadataservices.e6data.io -o name)"
install
start_operator --log-level info
for name in sample1 sample2; do eventually "$name has its active release" serves shop "$name" 1.0.500-new; done
eventually "other has its active release" serves bar other 1.0.2
eventually "the failed release is still blocked, and the earlier release is active" degraded shop
same "history of sample1 on the new cluster" "$past" "$(history shop sample1)"
same "history of the blocked resource on the new cluster" "$failed_past" "$(history shop failed)"
ready() { [ "$(part shop "$1" '.status.conditions[?(@.type=="Ready")].status')" = True ]; }
eventually "sample1 is ready" ready sample1
eventually "the blocked resource is ready" ready failed
# A rollback to a restored release is possible.
kubectl annotate metadataservices sample1 -n shop \
  "e6data.io/rollback-to=$(part shop sample1 '.status.releaseHistory[-2].version')" >/dev/null
eventually "a rollback to a release from before the loss" serves shop sample1 1.0.437-old
