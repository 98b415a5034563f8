#!/usr/bin/env bash
# Restores a backup of backup-operator-state.sh.
#
#   restore-operator-state.sh [--dry-run] [-n NAMESPACE] BACKUP.tar.gz
#
#   -n, --namespace NAMESPACE   restore only the resources of this namespace
#   --dry-run                   print the actions, and change nothing
#
# The script creates missing objects and never changes existing ones: the CRD, namespaces, ControllerRevisions (the recorded
# releases) and MetadataServices. The operator adopts workloads that still run, and does not restart them. For a resource
# without workloads the script also writes the status, so that the operator deploys the release that was active.
#
# The script stops all operators of the cluster until it ends, so that they do not act on a partial restore. Traffic does not
# depend on them. After an interruption, run the script again: it continues.
#
# Install the operator with Helm or kustomize, before or after the restore. The backup does not contain Secrets, ConfigMaps
# and ServiceAccounts of users. The script needs kubectl, jq and tar.
set -euo pipefail

crd=metadataservices.e6data.io
# Annotation of the Deployment of a stopped operator: its number of replicas before.
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
      [ -z "$backup" ] || fail "more than one backup; see $0 --help"
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
  command -v "$tool" >/dev/null 2>&1 || fail "$tool is missing. Remedy: install it"
done
[ -r "$backup" ] || fail "$backup cannot be read"

work=$(mktemp -d)
operators=() # the stopped operators: "NAMESPACE NAME REPLICAS"
finish() {
  local code=$? operator namespace name replicas
  for operator in "${operators[@]}"; do
    read -r namespace name replicas <<<"$operator"
    if kubectl scale deployment "$name" -n "$namespace" --replicas="$replicas" >/dev/null &&
      kubectl annotate deployment "$name" -n "$namespace" "$stopped-" >/dev/null; then
      echo "The operator $namespace/$name is started again."
    else
      echo "error: starting the operator $namespace/$name failed (see above)." \
        "Remedy: kubectl scale deployment $name -n $namespace --replicas=$replicas" >&2
      code=1
    fi
  done
  rm -rf -- "$work"
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

# Without --force-local tar takes the text before a colon in the file's name for a host.
tar --force-local -xzf "$backup" -C "$work" --strip-components=1 --no-same-owner ||
  fail "$backup is not a whole backup, or ${TMPDIR:-/tmp} is full (see above). Remedy: use another backup, or free space"
for file in metadataservices.yaml controllerrevisions.yaml crd.yaml; do
  jq -e .kind "$work/$file" >/dev/null 2>&1 ||
    fail "$backup has no $file of backup-operator-state.sh; YAML of kubectl get cannot be restored by this script"
done

# Prints the objects of a file in the selected namespace, each on one line.
items() { # FILE
  jq -c --arg only "$only" '.items[] | select($only == "" or .metadata.namespace == $only)' "$work/$1"
}
field() { jq -r "$1" <<<"$2"; }
if [ -n "$only" ] && [ -z "$(items metadataservices.yaml)" ]; then
  held=$(jq -r '[.items[].metadata.namespace] | unique | join(", ")' "$work/metadataservices.yaml")
  fail "$backup has no MetadataServices of namespace $only, but of: ${held:-none}"
fi

# Returns whether an object exists. Any error except "not found" ends the script.
exists() { # KIND NAMESPACE|"" NAME
  local answer where=()
  [ -z "$2" ] || where=(-n "$2")
  answer=$(kubectl get "$1" "${where[@]}" "$3" -o name --ignore-not-found) ||
    fail "kubectl get $1 $3 failed (see above); the restore is incomplete. Remedy: run the script again, it continues"
  [ -n "$answer" ]
}

# Creates the object on standard input.
create() { # TEXT
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

# Waits until the operator has no Pods.
wait_for_pods() { # NAMESPACE
  [ -z "$(kubectl get pods -n "$1" -l "$selector" -o name)" ] ||
    kubectl wait pod -n "$1" -l "$selector" --for=delete --timeout=120s
}

# Stops all operators. Also notes the operators that an earlier run stopped and did not start again.
stop_operators() {
  local namespace name replicas before
  kubectl get deployments -A -l "$selector" -o json >"$work/operators.json" ||
    fail "listing the operators of this cluster failed (see above); nothing was restored"
  if $dry_run; then return; fi
  while read -r namespace name replicas before; do
    if [ "$replicas" = 0 ] && [ "$before" = none ]; then
      echo "The operator $namespace/$name has 0 replicas, and is left so."
      continue
    fi
    if [ "$replicas" = 0 ]; then replicas=$before; fi
    echo "Stopping the operator $namespace/$name ($replicas replicas) during the restore..."
    kubectl annotate deployment "$name" -n "$namespace" --overwrite "$stopped=$replicas" >/dev/null ||
      fail "stopping the operator $namespace/$name failed (see above); nothing was restored"
    operators+=("$namespace $name $replicas")
    if ! { kubectl scale deployment "$name" -n "$namespace" --replicas=0 && wait_for_pods "$namespace"; } >/dev/null; then
      fail "the operator $namespace/$name does not end (see above); nothing was restored"
    fi
  done < <(jq -r --arg stopped "$stopped" '.items[]
    | "\(.metadata.namespace) \(.metadata.name) \(.spec.replicas // 1) \(.metadata.annotations[$stopped] // "none")"' \
    "$work/operators.json")
}

served=true # false in a dry run without the CRD: the API server does not know the kind
restore_crd() {
  if exists crd "" "$crd"; then
    echo "the CRD $crd is there and stays as it is"
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

# Creates the ControllerRevisions of a resource, without owners. The operator adopts them, also after a crash of this script.
restore_revisions() { # NAMESPACE NAME
  local object revision
  while read -r object; do
    revision=$(field .metadata.name "$object")
    exists controllerrevision "$1" "$revision" || create "controllerrevision $1/$revision" <<<"$object" || true
  done < <(items controllerrevisions.yaml |
    jq -c --arg namespace "$1" --arg app "$2" 'select(.metadata.namespace == $namespace and .metadata.labels.app == $app)')
}

# The status of a resource without workloads: step Stable, with the release that was active. If a rollout was in progress, the
# operator starts it again from the spec.
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
    echo "wrote the status of $1/$2: the active release is $(field .status.activeReleaseVersion "$3")"
    return
  fi
  failures=$((failures + 1))
  # Without a status the operator would deploy the release in the spec, even if that release had failed.
  if kubectl delete metadataservices "$2" -n "$1" >/dev/null; then
    echo "error: writing the status of $1/$2 failed (see above), so the resource was deleted again" >&2
  else
    echo "error: writing the status of $1/$2 failed (see above); the operator will deploy the release in its spec" >&2
  fi
}

# Returns whether a resource has no status, because an earlier run of this script stopped after creating it.
is_bare() { # NAMESPACE NAME
  local step
  step=$(kubectl get metadataservices "$2" -n "$1" -o jsonpath='{.status.rollout.step}') ||
    fail "kubectl get metadataservices $2 failed (see above); the restore is incomplete. Remedy: run the script again, it continues"
  [ -z "$step" ]
}

restore_resource() { # OBJECT
  local namespace name runs=false
  namespace=$(field .metadata.namespace "$1")
  name=$(field .metadata.name "$1")
  restore_revisions "$namespace" "$name"
  if exists service "$namespace" "$name-storage"; then runs=true; fi
  # If a dry run finds no CRD, no MetadataServices can exist.
  if $served && exists metadataservices "$namespace" "$name"; then
    if ! $runs && is_bare "$namespace" "$name"; then
      restore_status "$namespace" "$name" "$1"
    else
      echo "metadataservices $namespace/$name is there and stays as it is"
    fi
    return
  fi
  # The operator must not repeat an old request.
  jq 'del(.status, .metadata.annotations."e6data.io/rollback-to", .metadata.annotations."e6data.io/retry",
      .metadata.annotations."e6data.io/restart")' <<<"$1" | create "metadataservices $namespace/$name" || return 0
  if $runs; then
    echo "the workloads of $namespace/$name exist: the operator adopts them and rebuilds the status"
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
  echo "Restore incomplete: $failures objects were not restored. Remedy: correct the causes above and run the script again." >&2
  exit 1
fi
if $dry_run; then echo "Nothing was changed."; else echo "Restore complete."; fi
if jq -e '.items == []' "$work/operators.json" >/dev/null; then
  image=$(jq -r '.spec.template.spec.containers[0].image // "unknown"' "$work/operator-deployment.yaml" 2>/dev/null || echo unknown)
  echo "The operator is not installed. Remedy: install it. The image at the time of the backup was $image."
fi
