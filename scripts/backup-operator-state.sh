#!/usr/bin/env bash
# Saves the state of the operator for restore-operator-state.sh: the MetadataServices with their status, the
# ControllerRevisions with their releases, the CRD, and the operator's Deployment and rights.
#
#   backup-operator-state.sh [DIRECTORY]     writes DIRECTORY/backup-YYYYmmdd-HHMMSS.tar.gz
#
# DIRECTORY defaults to the current directory. The script only reads from the cluster. It omits resourceVersion, uid, owners
# and other fields that are valid in this cluster only, so kubectl can apply each file unchanged. It does not save Secrets and
# ConfigMaps of users. It needs kubectl, jq and tar.
#
# If the operator has other names than in the upgrade guide, set these variables (in brackets: the names of a Helm release):
#
#   OPERATOR_NAMESPACE    default: e6-operator-system
#   OPERATOR_DEPLOYMENT   default: e6-operator-controller-manager (RELEASE-controller-manager)
#   OPERATOR_ROLE         default: metadataservices-operator-manager-role (RELEASE-metadataservices-manager-role)
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
[ "$#" -le 1 ] || fail "more than one directory; see $0 --help"
for tool in kubectl jq tar; do
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing. Remedy: install it"
done

target=${1:-.}
[ -d "$target" ] || fail "$target is no directory. Remedy: create it, or name another"
BACKUP_DIR="backup-$(date +%Y%m%d-%H%M%S)"
archive=$target/$BACKUP_DIR.tar.gz
[ ! -e "$archive" ] || fail "$archive exists already. Remedy: wait a second and run the script again"
# The script writes to a draft and renames it at the end, so an incomplete backup never has the name of a backup.
draft=$(mktemp -d "$target/.$BACKUP_DIR.XXXXXX") || fail "$target is not writable (see above)"
trap 'rm -rf -- "$draft"' EXIT
trap 'exit 130' INT TERM
mkdir "$draft/$BACKUP_DIR" || fail "$target is not writable (see above)"

# Fields that the API server sets and a create request must not contain, and the annotation of kubectl apply.
strip='
  def bare: del(.metadata.uid, .metadata.resourceVersion, .metadata.generation, .metadata.creationTimestamp,
                .metadata.managedFields, .metadata.selfLink, .metadata.deletionTimestamp,
                .metadata.deletionGracePeriodSeconds, .metadata.ownerReferences, .metadata.finalizers,
                .metadata.annotations."kubectl.kubernetes.io/last-applied-configuration");
  if .kind == "List" then {apiVersion, kind, items: [.items[] | bare]} else bare end'

# Reads objects and writes them to a file.
save() { # FILE FILTER KUBECTL-GET-ARGUMENTS...
  local file=$1 filter=$2 found
  shift 2
  found=$(kubectl get "$@" -o json) || fail "kubectl get $* failed (see above); nothing was saved"
  if [ -z "$found" ]; then
    # Only with --ignore-not-found.
    echo "warning: $1 ${*: -1} does not exist; $file is left out. If the operator has other names, see $0 --help" >&2
    return
  fi
  # The .yaml files contain JSON, which is also YAML.
  jq "$strip | $filter" <<<"$found" >"$draft/$BACKUP_DIR/$file" ||
    fail "writing $file failed (see above): is there room left on $target? Nothing was saved"
}

echo "Backing up operator state..."
kubectl get crd "$crd" -o name >/dev/null ||
  fail "reading the CRD $crd failed (see above): is this the right cluster (kubectl config current-context)?"

save metadataservices.yaml . metadataservices --all-namespaces
save controllerrevisions.yaml . controllerrevisions --all-namespaces -l app.kubernetes.io/managed-by=e6-operator
save crd.yaml 'del(.status)' crd "$crd"
save operator-deployment.yaml 'del(.status)' deployment --ignore-not-found -n "$operator_namespace" "$operator"
save clusterrole.yaml . clusterrole --ignore-not-found "$role"
save clusterrolebinding.yaml . clusterrolebinding --ignore-not-found "${role}binding"

if ! { tar --force-local -czf "$draft/archive" -C "$draft" -- "$BACKUP_DIR" &&
  tar --force-local -tzf "$draft/archive" >/dev/null; }; then
  fail "writing the archive failed (see above): is there room left on $target? Nothing was saved"
fi
mv -- "$draft/archive" "$archive" || fail "writing $archive failed (see above); nothing was saved"
count=$(jq '.items | length' "$draft/$BACKUP_DIR/metadataservices.yaml")
releases=$(jq '.items | length' "$draft/$BACKUP_DIR/controllerrevisions.yaml")
echo "Saved $count MetadataServices with $releases releases."
echo "Backup complete: $archive"
