#!/usr/bin/env bash
# Upgrades all MetadataServices of a namespace, or the named ones, and waits for each.
#
#   batch-upgrade.sh [OPTIONS] [NAME...]
#
#   -n, --namespace NAMESPACE   default: $NAMESPACE
#   --storage TAG               image tag of storage, default: $NEW_STORAGE_TAG
#   --schema TAG                image tag of schema, default: $NEW_SCHEMA_TAG
#   --max-parallel N            number of parallel upgrades (default 1)
#   --stop-on-failure           start no further upgrade after a failed one
#   --timeout SECONDS           time limit of each upgrade (default 1800)
#   --interval SECONDS          time between two reads of the status (default 5)
#   --dry-run                   let the API server check the patches, and change nothing
#
# Exit code: 0 if all resources serve the new tags, 1 if an upgrade failed (rolled back, stuck or refused), 2 for a wrong
# command line or a missing tool. It needs kubectl and jq.
set -euo pipefail

NEW_STORAGE_TAG=${NEW_STORAGE_TAG:-}
NEW_SCHEMA_TAG=${NEW_SCHEMA_TAG:-}
NAMESPACE=${NAMESPACE:-}
max_parallel=1
timeout=1800
interval=5
stop_on_failure=false
dry_run=false
names=()

wrong() {
  echo "error: $*; see $0 --help" >&2
  exit 2
}

number() { # OPTION VALUE LEAST
  if ! [[ $2 =~ ^[0-9]{1,6}$ ]] || [ "$2" -lt "$3" ]; then wrong "$1 needs a number of at least $3, not '$2'"; fi
}

while [ "$#" -gt 0 ]; do
  case "$1" in
    -h | --help)
      sed -n '2,/^set /{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    --stop-on-failure) stop_on_failure=true ;;
    --dry-run) dry_run=true ;;
    -n | --namespace | --storage | --schema | --max-parallel | --timeout | --interval)
      if [ -z "${2:-}" ]; then wrong "$1 needs a value"; fi
      case "$1" in
        -n | --namespace) NAMESPACE=$2 ;;
        --storage) NEW_STORAGE_TAG=$2 ;;
        --schema) NEW_SCHEMA_TAG=$2 ;;
        --max-parallel) number "$1" "$2" 1 && max_parallel=$2 ;;
        --timeout) number "$1" "$2" 1 && timeout=$2 ;;
        --interval) number "$1" "$2" 1 && interval=$2 ;;
      esac
      shift
      ;;
    -*) wrong "unknown option $1" ;;
    *)
      [[ $1 =~ ^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$ ]] || wrong "'$1' is no name of a resource"
      names+=("$1")
      ;;
  esac
  shift
done
[ -n "$NAMESPACE" ] || wrong "name the namespace with -n"
if [ -z "$NEW_STORAGE_TAG" ] || [ -z "$NEW_SCHEMA_TAG" ]; then wrong "name both image tags with --storage and --schema"; fi
for tool in kubectl jq; do
  command -v "$tool" >/dev/null 2>&1 || {
    echo "error: $tool is missing. Remedy: install it" >&2
    exit 2
  }
done

if [ "${#names[@]}" -eq 0 ]; then
  RESOURCES=$(kubectl get metadataservices -n "$NAMESPACE" -o name) || {
    echo "error: listing the MetadataServices of namespace $NAMESPACE failed (see above)" >&2
    exit 1
  }
  while read -r resource; do
    [ -z "$resource" ] || names+=("${resource#*/}")
  done <<<"$RESOURCES"
fi
if [ "${#names[@]}" -eq 0 ]; then
  kubectl get namespace "$NAMESPACE" -o name >/dev/null || {
    echo "error: reading the namespace $NAMESPACE failed (see above): is it the right one?" >&2
    exit 1
  }
  echo "There are no MetadataServices in namespace $NAMESPACE."
  exit 0
fi

patch=$(jq -cn --arg storage "$NEW_STORAGE_TAG" --arg schema "$NEW_SCHEMA_TAG" \
  '{spec: {storage: {imageTag: $storage}, schema: {imageTag: $schema}}}')
total=${#names[@]}
next=0
complete=0
failed=()
declare -A generation=() started=() last_phase=()

# Returns the state of an upgrade: wait, failed or complete, then a tab and a text for the user. Until the operator has observed
# the patched generation, the status still shows the earlier Stable.
# shellcheck disable=SC2016 # the variables are jq's
verdict='
  def condition($type): (.status.conditions // [])[] | select(.type == $type);
  def message($type): condition($type) | .message | gsub("[\\n\\t]"; " ");
  (.status.deploymentPhase // "unknown") as $phase
  | if (.status.observedGeneration // 0) < $generation then "wait\t\($phase)"
    elif .spec.storage.imageTag != $storage or .spec.schema.imageTag != $schema
    then "failed\tanother client changed the image tags during the upgrade"
    elif ([condition("Stalled") | select(.status == "True")] != []) then "failed\t" + message("Stalled")
    elif ([condition("SpecApplied") | select(.status == "False" and (.reason | IN("RolledBack", "Paused", "Invalid", "CRDOutdated")))] != [])
    then "failed\t" + message("SpecApplied")
    elif $phase == "Stable" and ([condition("SpecApplied") | select(.status == "True")] != [])
    then "complete\t\(.status.activeReleaseVersion // "")"
    else "wait\t\($phase)" end'

start() { # NAME
  local name=$1 answer
  echo "Upgrading $name..."
  if $dry_run; then
    if kubectl patch metadataservices "$name" -n "$NAMESPACE" --type=merge -p "$patch" --dry-run=server -o name; then
      complete=$((complete + 1))
    else
      failed+=("$name")
    fi
    return
  fi
  if answer=$(kubectl patch metadataservices "$name" -n "$NAMESPACE" --type=merge -p "$patch" -o json) &&
    generation[$name]=$(jq -r .metadata.generation <<<"$answer"); then
    started[$name]=$SECONDS
    last_phase[$name]=
    echo "Waiting for $name to stabilize..."
  else
    echo "error: $name was not changed (see above)" >&2
    failed+=("$name")
  fi
}

look() { # NAME RESOURCE
  local name=$1 outcome text
  if [ -z "$2" ]; then
    outcome=failed text="another client deleted it during the upgrade"
  else
    IFS=$'\t' read -r outcome text < <(jq -r --argjson generation "${generation[$name]}" --arg storage "$NEW_STORAGE_TAG" \
      --arg schema "$NEW_SCHEMA_TAG" "$verdict" <<<"$2")
  fi
  if [ "$outcome" = wait ] && [ $((SECONDS - started[$name])) -ge "$timeout" ]; then
    outcome=failed text="still $text after $timeout s"
  fi
  case "$outcome" in
    wait)
      if [ "${last_phase[$name]}" != "$text" ]; then echo "  $name: Phase: $text"; fi
      last_phase[$name]=$text
      return
      ;;
    complete)
      complete=$((complete + 1))
      echo "$name upgrade complete: $text ($complete of $total)"
      ;;
    *)
      failed+=("$name")
      echo "error: $name was not upgraded: $text" >&2
      ;;
  esac
  unset "started[$name]" "generation[$name]"
}

look_at_all() {
  local all name
  all=$(kubectl get metadataservices -n "$NAMESPACE" -o json) || {
    echo "  listing the MetadataServices failed (see above), retrying" >&2
    all=
  }
  for name in "${!started[@]}"; do
    if [ -n "$all" ]; then
      look "$name" "$(jq -c --arg name "$name" '.items[] | select(.metadata.name == $name)' <<<"$all")"
    elif [ $((SECONDS - started[$name])) -ge "$timeout" ]; then
      failed+=("$name")
      echo "error: $name was not upgraded: the API server did not respond within $timeout s" >&2
      unset "started[$name]" "generation[$name]"
    fi
  done
}

while [ "$next" -lt "$total" ] || [ "${#started[@]}" -gt 0 ]; do
  while [ "$next" -lt "$total" ] && [ "${#started[@]}" -lt "$max_parallel" ]; do
    if $stop_on_failure && [ "${#failed[@]}" -gt 0 ]; then break; fi
    start "${names[$next]}"
    next=$((next + 1))
  done
  if [ "${#started[@]}" -gt 0 ]; then
    sleep "$interval"
    look_at_all
  elif $stop_on_failure && [ "${#failed[@]}" -gt 0 ]; then
    break
  fi
done

if [ "${#failed[@]}" -gt 0 ]; then
  echo "$complete of $total complete; not upgraded: ${failed[*]}$([ "$next" -eq "$total" ] || echo "; not started: ${names[*]:$next}")" >&2
  exit 1
fi
if $dry_run; then echo "All $total would be upgraded; nothing was changed."; else echo "All upgrades complete"; fi
