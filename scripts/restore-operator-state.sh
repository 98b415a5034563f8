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
# While it works, every operator on the cluster is stopped, so that it does not act on half of it; nothing that serves needs
# it. Stopped itself in the midst of it, this script goes on where it was when it is run again.
# The operator itself is installed as ever (Helm or kustomize), before or after this.
# Secrets, ConfigMaps and ServiceAccounts of users are not in the backup. Needs kubectl, jq, tar.
set -euo pipefail

crd=metadataservices.e6data.io
# On the Deployment of an operator that was stopped: how many replicas it had.
stopped=e6data.io/replicas-before-restore
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
operators=() # those that were stopped: "NAMESPACE NAME REPLICAS"
finish() {
  local code=$? operator namespace name replicas
  for operator in "${operators[@]}"; do
    read -r namespace name replicas <<<"$operator"
    if kubectl scale deployment "$name" -n "$namespace" --replicas="$replicas" >/dev/null &&
      kubectl annotate deployment "$name" -n "$namespace" "$stopped-" >/dev/null; then
      echo "The operator $namespace/$name is started again."
    else
      echo "error: start the operator again: kubectl scale deployment $name -n $namespace --replicas=$replicas" >&2
      code=1
    fi
  done
  rm -rf -- "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# A colon in the file's name is no host.
tar --force-local -xzf "$backup" -C "$work" --strip-components=1 --no-same-owner ||
  fail "$backup is not a whole backup (then take another one), or there is no room left in ${TMPDIR:-/tmp}"
for file in metadataservices.yaml controllerrevisions.yaml crd.yaml; do
  jq -e .kind "$work/$file" >/dev/null 2>&1 ||
    fail "$backup holds no $file of backup-operator-state.sh; YAML of kubectl get cannot be restored by this script"
done

items() { # FILE: one object a line, of the wanted namespace
  jq -c --arg only "$only" '.items[] | select($only == "" or .metadata.namespace == $only)' "$work/$1"
}
field() { jq -r "$1" <<<"$2"; }
if [ -n "$only" ] && [ -z "$(items metadataservices.yaml)" ]; then
  held=$(jq -r '[.items[].metadata.namespace] | unique | join(", ")' "$work/metadataservices.yaml")
  fail "$backup holds no MetadataServices of namespace $only, but of: ${held:-none}"
fi

exists() { # KIND NAMESPACE|"" NAME; anything but a plain "not found" is no answer
  local answer where=()
  [ -z "$2" ] || where=(-n "$2")
  answer=$(kubectl get "$1" "${where[@]}" "$3" -o name --ignore-not-found) ||
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

wait_for_pods() { # NAMESPACE: until the operator's pods are gone
  [ -z "$(kubectl get pods -n "$1" -l "$selector" -o name)" ] ||
    kubectl wait pod -n "$1" -l "$selector" --for=delete --timeout=120s
}

# Also those that an earlier run has stopped and could not start again.
stop_operators() {
  local namespace name replicas before
  kubectl get deployments -A -l "$selector" -o json >"$work/operators.json" ||
    fail "the operators of this cluster cannot be listed (see above): nothing was restored"
  if $dry_run; then return; fi
  while read -r namespace name replicas before; do
    if [ "$replicas" = 0 ] && [ "$before" = none ]; then
      echo "The operator $namespace/$name has 0 replicas, and is left so."
      continue
    fi
    if [ "$replicas" = 0 ]; then replicas=$before; fi
    echo "Stopping the operator $namespace/$name ($replicas replicas) meanwhile..."
    kubectl annotate deployment "$name" -n "$namespace" --overwrite "$stopped=$replicas" >/dev/null ||
      fail "the operator $namespace/$name cannot be stopped (see above): nothing was restored"
    operators+=("$namespace $name $replicas")
    if ! { kubectl scale deployment "$name" -n "$namespace" --replicas=0 && wait_for_pods "$namespace"; } >/dev/null; then
      fail "the operator $namespace/$name does not end (see above): nothing was restored"
    fi
  done < <(jq -r --arg stopped "$stopped" '.items[]
    | "\(.metadata.namespace) \(.metadata.name) \(.spec.replicas // 1) \(.metadata.annotations[$stopped] // "none")"' \
    "$work/operators.json")
}

served=true # whether the API server knows the kind
restore_crd() {
  if exists crd "" "$crd"; then
    echo "the CRD is there"
    return
  fi
  create "the CRD $crd" <"$work/crd.yaml" || exit 1
  if $dry_run; then
    served=false
  else
    kubectl wait crd "$crd" --for=condition=Established --timeout=60s >/dev/null
  fi
}

restore_namespaces() {
  local namespace
  while read -r namespace; do
    [ -n "$namespace" ] || continue
    if ! exists namespace "" "$namespace"; then
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
    return
  fi
  failures=$((failures + 1))
  # Without it the operator would deploy what the spec describes, be it a release that had failed.
  if kubectl delete metadataservices "$2" -n "$1" >/dev/null; then
    echo "error: the status of $1/$2 was not written (see above), so the resource was taken away again" >&2
  else
    echo "error: the status of $1/$2 was not written (see above): the operator deploys what its spec describes" >&2
  fi
}

# Whether an earlier run has created a resource and come no further.
is_bare() { # NAMESPACE NAME
  local step
  step=$(kubectl get metadataservices "$2" -n "$1" -o jsonpath='{.status.rollout.step}') ||
    fail "kubectl get metadataservices $2 failed (see above): nothing more is done. Run this again, it goes on where it stopped"
  [ -z "$step" ]
}

restore_resource() { # OBJECT
  local namespace name runs=false
  namespace=$(field .metadata.namespace "$1")
  name=$(field .metadata.name "$1")
  restore_revisions "$namespace" "$name"
  if exists service "$namespace" "$name-storage"; then runs=true; fi
  # Where a dry run finds no CRD, there can be none of its kind.
  if $served && exists metadataservices "$namespace" "$name"; then
    if ! $runs && is_bare "$namespace" "$name"; then
      restore_status "$namespace" "$name" "$1"
    else
      echo "metadataservices $namespace/$name is there and stays as it is"
    fi
    return
  fi
  # A request of the past must not be carried out again.
  jq 'del(.status, .metadata.annotations."e6data.io/rollback-to", .metadata.annotations."e6data.io/retry",
      .metadata.annotations."e6data.io/restart")' <<<"$1" | create "metadataservices $namespace/$name" || return 0
  if $runs; then
    echo "its workloads are there: the operator adopts them and rebuilds the status"
  else
    restore_status "$namespace" "$name" "$1"
  fi
}

stop_operators
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
if jq -e '.items == []' "$work/operators.json" >/dev/null; then
  image=$(jq -r '.spec.template.spec.containers[0].image // "unknown"' "$work/operator-deployment.yaml" 2>/dev/null || echo unknown)
  echo "The operator is not installed. Install it now; the backup was made with the image $image."
fi
