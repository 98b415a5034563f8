#!/usr/bin/env bash
# Brings back what backup-operator-state.sh saved.
#
#   restore-operator-state.sh [--dry-run] [-n NAMESPACE] BACKUP.tar.gz
#
#   -n, --namespace NAMESPACE   only the resources of this namespace
#   --dry-run                   only say what would be done
#
# Creates what is missing and never changes what is there: the CRD, namespaces, ControllerRevisions (the recorded
# releases) and MetadataServices. Workloads that still run are adopted by the operator and not restarted; where nothing
# runs any more, the status is written too, so that the operator brings the same release to serving, not another one.
# While it works, an operator that runs is stopped, so that it does not act on half of it; nothing that serves needs it.
# The operator itself is installed as ever (Helm or kustomize), before or after this.
# Secrets, ConfigMaps and ServiceAccounts of users are not in the backup. Needs kubectl, jq, tar.
set -euo pipefail

crd=metadataservices.e6data.io
operator_namespace=${OPERATOR_NAMESPACE:-e6-operator-system}
operator=${OPERATOR_DEPLOYMENT:-e6-operator-controller-manager}
selector=control-plane=controller-manager,app.kubernetes.io/name=e6-operator
dry_run=false
only=
backup=
failures=0

fail() {
  echo "error: $*" >&2
  exit 1
}

usage() {
  sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
}

while [ "$#" -gt 0 ]; do
  case "$1" in
    -h | --help)
      usage
      exit 0
      ;;
    --dry-run) dry_run=true ;;
    -n | --namespace)
      [ "$#" -ge 2 ] || fail "$1 needs a namespace"
      only=$2
      shift
      ;;
    -*) fail "unknown option $1; see $0 --help" ;;
    *)
      [ -z "$backup" ] || fail "one backup at a time; see $0 --help"
      backup=$1
      ;;
  esac
  shift
done
[ -n "$backup" ] || {
  usage >&2
  exit 1
}
for tool in kubectl jq tar; do
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing: install it"
done
[ -r "$backup" ] || fail "$backup cannot be read"

work=$(mktemp -d)
stopped_replicas=
finish() {
  if [ -n "$stopped_replicas" ]; then
    kubectl scale deployment "$operator" -n "$operator_namespace" --replicas="$stopped_replicas" >/dev/null ||
      echo "error: start the operator again: kubectl scale deployment $operator -n $operator_namespace --replicas=$stopped_replicas" >&2
    echo "The operator is started again."
  fi
  rm -rf -- "$work"
}
trap finish EXIT
trap 'exit 130' INT TERM

tar -xzf "$backup" -C "$work" --strip-components=1 --no-same-owner ||
  fail "$backup is not a whole backup: take another one"
for file in metadataservices.yaml controllerrevisions.yaml crd.yaml; do
  jq -e .kind "$work/$file" >/dev/null 2>&1 ||
    fail "$backup holds no $file of backup-operator-state.sh; YAML of kubectl get cannot be restored by this script"
done

items() { # FILE: one object a line, of the wanted namespace
  jq -c --arg only "$only" '.items[] | select($only == "" or .metadata.namespace == $only)' "$work/$1"
}
field() { jq -r "$1" <<<"$2"; }

exists() { # KIND NAMESPACE NAME; anything but a plain "not found" is no answer
  local answer
  answer=$(kubectl get "$1" -n "$2" "$3" -o name --ignore-not-found) ||
    fail "kubectl get $1 $3 failed (see above): nothing more is done. Run this again, it goes on where it stopped"
  [ -n "$answer" ]
}

create() { # WHAT: creates the object on standard input
  if $dry_run; then
    cat >/dev/null
    echo "would create $1"
  elif kubectl create -f - >/dev/null; then
    echo "created $1"
  else
    echo "error: $1 was not created (see above)" >&2
    failures=$((failures + 1))
    return 1
  fi
}

stop_operator() {
  local replicas
  if $dry_run || ! exists deployment "$operator_namespace" "$operator"; then return; fi
  replicas=$(kubectl get deployment "$operator" -n "$operator_namespace" -o jsonpath='{.spec.replicas}')
  if [ "$replicas" = 0 ]; then return; fi
  echo "Stopping the operator ($replicas replicas) meanwhile..."
  stopped_replicas=$replicas
  kubectl scale deployment "$operator" -n "$operator_namespace" --replicas=0 >/dev/null
  kubectl wait pod -n "$operator_namespace" -l "$selector" --for=delete --timeout=120s >/dev/null ||
    fail "the operator's pods do not end: nothing was restored"
}

restore_crd() {
  if [ -n "$(kubectl get crd "$crd" -o name --ignore-not-found)" ]; then
    echo "the CRD is there"
    return
  fi
  create "the CRD $crd" <"$work/crd.yaml" || exit 1
  $dry_run || kubectl wait crd "$crd" --for=condition=Established --timeout=60s >/dev/null
}

restore_namespaces() {
  local namespace
  while read -r namespace; do
    [ -n "$namespace" ] || continue
    if ! kubectl get namespace "$namespace" -o name >/dev/null 2>&1; then
      jq -n --arg name "$namespace" '{apiVersion: "v1", kind: "Namespace", metadata: {name: $name}}' |
        create "namespace $namespace" || exit 1
    fi
  done < <(items metadataservices.yaml | jq -r .metadata.namespace | sort -u)
}

# Without an owner: the operator adopts them. So a crash here leaves nothing that is not picked up later.
restore_revisions() { # NAMESPACE NAME
  local object revision
  while read -r object; do
    revision=$(field .metadata.name "$object")
    exists controllerrevision "$1" "$revision" || create "controllerrevision $1/$revision" <<<"$object" || true
  done < <(items controllerrevisions.yaml |
    jq -c --arg namespace "$1" --arg app "$2" 'select(.metadata.namespace == $namespace and .metadata.labels.app == $app)')
}

# The status of a resource that nothing is left of: settled on the release that served. A rollout that was under way starts
# anew from there, as the spec asks.
settled_status='
  .status
  | .releaseHistory |= map(select(.status != "Pending"))
  | .observedGeneration = 0
  | .deploymentPhase = "Stable"
  | .rollout = {step: "Stable", epoch: (.rollout.epoch + 1), since: .rollout.since}
  | del(.pendingStrategy, .pendingReleaseVersion)'

restore_status() { # NAMESPACE NAME OBJECT
  if [ "$(field '.status.activeReleaseVersion // ""' "$3")" = "" ]; then return; fi
  if $dry_run; then
    echo "would write the status of $1/$2"
    return
  fi
  if jq "{status: ($settled_status)}" <<<"$3" >"$work/status.json" &&
    kubectl patch metadataservices "$2" -n "$1" --subresource=status --type=merge --patch-file "$work/status.json" >/dev/null; then
    echo "wrote the status of $1/$2: $(field .status.activeReleaseVersion "$3") serves"
  else
    echo "error: the status of $1/$2 was not written (see above): the operator deploys what its spec describes" >&2
    failures=$((failures + 1))
  fi
}

restore_resource() { # OBJECT
  local namespace name runs=false
  namespace=$(field .metadata.namespace "$1")
  name=$(field .metadata.name "$1")
  restore_revisions "$namespace" "$name"
  if exists metadataservices "$namespace" "$name"; then
    echo "metadataservices $namespace/$name is there and stays as it is"
    return
  fi
  if exists service "$namespace" "$name-storage"; then runs=true; fi
  # A request of the past must not be carried out again.
  jq 'del(.status, .metadata.annotations."e6data.io/rollback-to", .metadata.annotations."e6data.io/retry",
      .metadata.annotations."e6data.io/restart")' <<<"$1" | create "metadataservices $namespace/$name" || return 0
  if $runs; then
    echo "its workloads are there: the operator adopts them and rebuilds the status"
  else
    restore_status "$namespace" "$name" "$1"
  fi
}

stop_operator
restore_crd
restore_namespaces
while read -r object; do
  restore_resource "$object"
done < <(items metadataservices.yaml)

if [ "$failures" -gt 0 ]; then
  echo "Restore incomplete: $failures objects were not restored. Mend the cause and run it again." >&2
  exit 1
fi
if $dry_run; then echo "Nothing was changed."; else echo "Restore complete."; fi
if ! exists deployment "$operator_namespace" "$operator"; then
  image=$(jq -r '.spec.template.spec.containers[0].image // "unknown"' "$work/operator-deployment.yaml" 2>/dev/null || echo unknown)
  echo "The operator is not installed. Install it now; the backup was made with the image $image."
fi
