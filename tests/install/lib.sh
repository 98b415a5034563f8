# Sourced by the tests of this folder: a control plane on loopback, the operator beside it under its ServiceAccount, and
# checks that say what they saw. Each test cleans up after itself, whatever becomes of it.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cluster_tool=${CLUSTER_TOOL:-$target/debug/cluster}
# shellcheck disable=SC2034 # for those who source this
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
test_name=$(basename "$0" .sh)
system=e6-operator-system
manager=e6-operator-controller-manager
patience=${PATIENCE:-180}

work=$(mktemp -d "${TMPDIR:-/tmp}/e6-$test_name-XXXXXX")
real_home=$HOME # the cache of tools is there
# Commands find our kubectl and, by its name, the Helm that is asked for; nothing of the person's own configuration.
mkdir -p "$work/bin" "$work/home"
export HOME=$work/home KUBECONFIG=/nonexistent
export HELM_CONFIG_HOME=$work/home/helm HELM_CACHE_HOME=$work/home/helm-cache HELM_DATA_HOME=$work/home/helm-data
export PATH=$work/bin:$PATH
clusters=()
operator_pid=
checks=0

at_end() { :; } # what a test has to end itself
finish() {
  local code=$?
  trap - EXIT
  at_end
  stop_operator
  for dir in "${clusters[@]}"; do
    if [ "$code" -ne 0 ] || [ -n "${E6_TEST_KEEP:-}" ]; then echo "logs: $dir/logs" >&2; fi
    "$cluster_tool" down --dir "$dir" >/dev/null 2>&1 || true
  done
  if [ "$code" -eq 0 ]; then
    echo "$test_name: $checks checks passed in $SECONDS s"
    [ -n "${E6_TEST_KEEP:-}" ] || rm -rf -- "$work"
  else
    echo "$test_name: FAILED (exit code $code); what it left: $work" >&2
  fi
  exit "$code"
}
trap finish EXIT
trap 'exit 130' INT TERM

die() {
  echo "$test_name: $*" | cut -c 1-500 | tail -n 40 >&2
  exit 1
}

passed() {
  checks=$((checks + 1))
  echo "  ok: $*"
}

# The programs that tests run; built by the caller (make) beforehand. Those of a real node's network are entered by a prefix.
use_tools() { # kubectl helm helm3
  local tool path name
  for tool in "$@"; do
    # The cache is beside the real home.
    path=$(HOME=$real_home "$cluster_tool" path "$tool")
    name=${tool%3}
    write_tool "$name" "exec \${BED_PREFIX:-} '$path' \"\$@\""
  done
}
write_tool() { # NAME SCRIPT
  printf '#!/usr/bin/env bash\n%s\n' "$2" >"$work/bin/$1"
  chmod +x "$work/bin/$1"
}
BED_PREFIX=
export BED_PREFIX

# A new, empty cluster; kubectl speaks to it from now on.
start_cluster() { # NAME [kwok|real [FLAGS OF cluster up...]]
  local dir=$work/$1
  HOME=$real_home "$cluster_tool" up --dir "$dir" --node "${2:-kwok}" "${@:3}" >"$work/cluster-up.log" 2>&1 ||
    die "the cluster does not start: $(cat "$work/cluster-up.log")"
  clusters+=("$dir")
  export KUBECONFIG=$dir/kubeconfig
  # A real node has a network of its own; `cluster up` prints what leads into it.
  BED_PREFIX=$(sed -n 's/^  \(nsenter .*[^ ]\) *$/\1/p' "$work/cluster-up.log" | grep -v kubectl | head -n 1 || true)
  # shellcheck disable=SC2034 # for those who source this
  audit_log=$dir/logs/audit.log
}

# A kubeconfig with a token of a ServiceAccount and nothing else: the rights of a pod under it.
kubeconfig_of() { # NAMESPACE SERVICEACCOUNT FILE
  local token
  token=$(kubectl create token "$2" -n "$1" --duration=1h)
  kubectl config view --raw --minify -o json |
    jq --arg token "$token" '.users[0].user = {token: $token}' >"$3"
}

# The operator as a process with the rights of its pod. KWOK plays the pods of its Deployment, which run nothing.
start_operator() { # [FLAGS...]
  kubeconfig_of "$system" "$manager" "$work/operator.kubeconfig"
  # The API server learns of rights a moment after they are granted; a pod starts later than that.
  until kubectl --kubeconfig "$work/operator.kubeconfig" get leases -n "$system" none --ignore-not-found >/dev/null 2>&1; do
    [ "$SECONDS" -lt 1800 ] || die "the operator's rights are not in force"
    sleep 0.2
  done
  # A copy: a build meanwhile must not change what is tested.
  [ -e "$work/e6-operator" ] || cp "$target/debug/e6-operator" "$work/e6-operator"
  KUBECONFIG=$work/operator.kubeconfig "$work/e6-operator" \
    --leader-elect-namespace "$system" --metrics-bind-address 0 --health-probe-bind-address 0 \
    --min-storage-version 1.0.450 --min-schema-version 1.0.550 "$@" >>"$work/operator.log" 2>&1 &
  operator_pid=$!
}

stop_operator() {
  if [ -n "$operator_pid" ]; then
    kill "$operator_pid" 2>/dev/null || true
    wait "$operator_pid" 2>/dev/null || true
    operator_pid=
  fi
}

# Runs a command until it succeeds. Time spent waiting for the cluster is no verdict: a second that the command itself takes
# means a late cluster, and extends the limit several times over.
eventually() { # WHAT COMMAND...
  local what=$1 start=$SECONDS deadline=$((SECONDS + patience)) asked
  shift
  while asked=$SECONDS && ! "$@" >"$work/eventually.log" 2>&1; do
    deadline=$((deadline + 5 * (SECONDS - asked)))
    if [ "$SECONDS" -ge "$deadline" ]; then
      cat "$work/eventually.log" >&2
      die "not within $((SECONDS - start)) s: $what"
    fi
    sleep 0.5
  done
  passed "$what"
}

# A command whose output (both streams) must hold a text; its code must be 0.
says() { # TEXT COMMAND...
  local text=$1 output
  shift
  output=$("$@" 2>&1) || die "failed: $*: $output"
  grep -qF -- "$text" <<<"$output" || die "'$text' is not in what '$*' said: $output"
  passed "$* says: $text"
}

# The same for a command that must fail.
refuses() { # TEXT COMMAND...
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then die "was accepted: $*: $output"; fi
  grep -qF -- "$text" <<<"$output" || die "'$text' is not in the refusal of '$*': $output"
  passed "$* is refused: $text"
}

same() { # WHAT EXPECTED ACTUAL
  [ "$2" = "$3" ] || die "$1: expected '$2', not '$3'"
  passed "$1"
}

# A part of a MetadataServices.
part() { # NAMESPACE NAME JSONPATH
  kubectl get metadataservices "$2" -n "$1" -o "jsonpath={$3}"
}

# A resource that rolls out in seconds.
sample() { # NAME STORAGE SCHEMA
  cat <<SAMPLE
apiVersion: e6data.io/v1alpha1
kind: MetadataServices
metadata:
  name: $1
spec:
  storage: {imageTag: "$2"}
  schema: {imageTag: "$3"}
  rollout:
    gracePeriodSeconds: 1
    switchDwellSeconds: 1
    cleanupDelaySeconds: 2
    deployTimeoutSeconds: 300
    autoRollback: {failureThresholdSeconds: 1}
SAMPLE
}

# Whether a resource is settled on a storage tag.
serves() { # NAMESPACE NAME TAG
  kubectl get metadataservices "$2" -n "$1" -o json | jq -e --arg tag "$3" '
    .status.deploymentPhase == "Stable" and .status.observedGeneration == .metadata.generation
    and .status.activeReleaseVersion as $active
    | any(.status.releaseHistory[]; .version == $active and .storageTag == $tag and .status == "Active")'
}

# Names and UIDs of the pods of a resource: they change if anything was restarted.
pods_of() { # NAMESPACE NAME
  kubectl get pods -n "$1" -l "app=$2" -o json |
    jq -r '[.items[] | select(.metadata.deletionTimestamp == null) | "\(.metadata.name) \(.metadata.uid)"] | sort[]'
}
