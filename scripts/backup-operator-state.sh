#!/usr/bin/env bash
# Saves what is needed to bring the operator's resources back: the MetadataServices with their status, the
# ControllerRevisions that hold their releases, the CRD, and the operator's Deployment and rights.
#
#   backup-operator-state.sh [DIRECTORY]     writes DIRECTORY/backup-YYYYmmdd-HHMMSS.tar.gz (default: here)
#
# Only reads from the cluster. What belongs to the cluster it was read from (resourceVersion, uid, owners) is left out, so
# that each file can be applied as it is. Secrets and ConfigMaps of users are not saved. Needs kubectl, jq, tar.
#
# An operator under other names than those of the guide is named by OPERATOR_NAMESPACE, OPERATOR_DEPLOYMENT (by Helm
# RELEASE-controller-manager) and OPERATOR_ROLE (RELEASE-metadataservices-manager-role).
set -euo pipefail

crd=metadataservices.e6data.io
operator_namespace=${OPERATOR_NAMESPACE:-e6-operator-system}
operator=${OPERATOR_DEPLOYMENT:-e6-operator-controller-manager}
role=${OPERATOR_ROLE:-metadataservices-operator-manager-role}

fail() {
  echo "error: $*" >&2
  exit 1
}

case "${1:-}" in
  -h | --help)
    sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
  -*) fail "unknown option $1; see $0 --help" ;;
esac
[ "$#" -le 1 ] || fail "one directory at most; see $0 --help"
for tool in kubectl jq tar; do
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: install it"
done

target=${1:-.}
[ -d "$target" ] || fail "$target is no directory: create it, or name another"
BACKUP_DIR="backup-$(date +%Y%m%d-%H%M%S)"
archive=$target/$BACKUP_DIR.tar.gz
[ ! -e "$archive" ] || fail "$archive exists already: try again in a second"
# Half a backup must not look like one: everything is written beside it and renamed at the end.
draft=$(mktemp -d "$target/.$BACKUP_DIR.XXXXXX") || fail "nothing can be written to $target"
trap 'rm -rf -- "$draft"' EXIT
trap 'exit 130' INT TERM
mkdir "$draft/$BACKUP_DIR" || fail "nothing can be written to $target"

# What the API server sets and no create may carry, and the notes of kubectl apply.
strip='
  def bare: del(.metadata.uid, .metadata.resourceVersion, .metadata.generation, .metadata.creationTimestamp,
                .metadata.managedFields, .metadata.selfLink, .metadata.deletionTimestamp,
                .metadata.deletionGracePeriodSeconds, .metadata.ownerReferences, .metadata.finalizers,
                .metadata.annotations."kubectl.kubernetes.io/last-applied-configuration");
  if .kind == "List" then {apiVersion, kind, items: [.items[] | bare]} else bare end'

# Reads objects and writes them to a file: save FILE FILTER KUBECTL-GET-ARGUMENTS...
save() {
  local file=$1 filter=$2 found
  shift 2
  found=$(kubectl get "$@" -o json) || fail "kubectl get $* failed (see above): nothing was saved"
  if [ -z "$found" ]; then
    # Only where --ignore-not-found is given.
    echo "warning: there is no $1 ${*: -1}: $file is left out. If the operator has other names here, see $0 --help" >&2
    return
  fi
  # JSON is YAML. Written in one line a key, it reads and compares well enough.
  jq "$strip | $filter" <<<"$found" >"$draft/$BACKUP_DIR/$file" ||
    fail "writing $file failed: is there room left on $target? Nothing was saved"
}

echo "Backing up operator state..."
kubectl get crd "$crd" -o name >/dev/null ||
  fail "the CRD $crd cannot be read (see above): is this the right cluster (kubectl config current-context)?"

save metadataservices.yaml . metadataservices --all-namespaces
save controllerrevisions.yaml . controllerrevisions --all-namespaces -l app.kubernetes.io/managed-by=e6-operator
save crd.yaml 'del(.status)' crd "$crd"
save operator-deployment.yaml 'del(.status)' deployment --ignore-not-found -n "$operator_namespace" "$operator"
save clusterrole.yaml . clusterrole --ignore-not-found "$role"
save clusterrolebinding.yaml . clusterrolebinding --ignore-not-found "${role}binding"

if ! { tar --force-local -czf "$draft/archive" -C "$draft" -- "$BACKUP_DIR" &&
  tar --force-local -tzf "$draft/archive" >/dev/null; }; then
  fail "writing the archive failed: is there room left on $target? Nothing was saved"
fi
mv -- "$draft/archive" "$archive" || fail "$archive could not be written"
count=$(jq '.items | length' "$draft/$BACKUP_DIR/metadataservices.yaml")
releases=$(jq '.items | length' "$draft/$BACKUP_DIR/controllerrevisions.yaml")
echo "Saved $count MetadataServices with $releases releases."
echo "Backup complete: $archive"
