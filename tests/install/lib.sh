# Sourced by the tests of this folder: a control plane on loopback, the operator as a process with the rights of its
# ServiceAccount, and checks that print their result. Each test cleans up when it ends, also after a failure.
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
cluster_tool=${CLUSTER_TOOL:-$target/debug/cluster}
# shellcheck disable=SC2034 # tests that source this file use it
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)
test_name=$(basename "$0" .sh)
system=e6-operator-system
manager=e6-operator-controller-manager
patience=${PATIENCE:-180}

work=$(mktemp -d "${TMPDIR:-/tmp}/e6-$test_name-XXXXXX")
real_home=$HOME # contains the cache of tools
# Commands find the test's kubectl, and its Helm under the name helm. They do not read the configuration of the user.
mkdir -p "$work/bin" "$work/home"
export HOME=$work/home KUBECONFIG=/nonexistent
export HELM_CONFIG_HOME=$work/home/helm HELM_CACHE_HOME=$work/home/helm-cache HELM_DATA_HOME=$work/home/helm-data
export PATH=$work/bin:$PATH
clusters=()
operator_pid=
checks=0

at_end() { :; } # a test that starts processes replaces this function and ends them here
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
    echo "$test_name: FAILED (exit code $code); its files are in $work" >&2
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

# Makes the programs of a test available by their names. The caller (make) has built them. On a real node a prefix runs them in
# the network namespace of the cluster.
use_tools() { # kubectl helm helm3
  local tool path name
  for tool in "$@"; do
    # The cache of tools is in the home directory of the user.
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

# Starts a new, empty cluster. kubectl uses it from now on.
start_cluster() { # NAME [kwok|real [FLAGS OF cluster up...]]
  local dir=$work/$1
  HOME=$real_home "$cluster_tool" up --dir "$dir" --node "${2:-kwok}" "${@:3}" >"$work/cluster-up.log" 2>&1 ||
    die "the cluster does not start: $(cat "$work/cluster-up.log")"
  clusters+=("$dir")
  export KUBECONFIG=$dir/kubeconfig
  # A real node has its own network. `cluster up` prints the prefix of commands in it.
  BED_PREFIX=$(sed -n 's/^  \(nsenter .*[^ ]\) *$/\1/p' "$work/cluster-up.log" | grep -v kubectl | head -n 1 || true)
  # shellcheck disable=SC2034 # tests that source this file use it
  audit_log=$dir/logs/audit.log
}

# Writes a kubeconfig with a token of a ServiceAccount: it has the rights of the ServiceAccount's Pods.
kubeconfig_of() { # NAMESPACE SERVICEACCOUNT FILE
  local token
  token=$(kubectl create token "$2" -n "$1" --duration=1h)
  kubectl config view --raw --minify -o json |
    jq --arg token "$token" '.users[0].user = {token: $token}' >"$3"
}

# Starts the operator as a process with the rights of its Pod. KWOK simulates the Pods of its Deployment, which run no program.
start_operator() { # [FLAGS...]
  kubeconfig_of "$system" "$manager" "$work/operator.kubeconfig"
  # The API server needs a moment until new rights take effect.
  until kubectl --kubeconfig "$work/operator.kubeconfig" get leases -n "$system" none --ignore-not-found >/dev/null 2>&1; do
    [ "$SECONDS" -lt 1800 ] || die "the operator's rights are not in force"
    sleep 0.2
  done
  # A copy, so that a build during the test does not replace the program.
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

# Runs a command until it succeeds. On a slow cluster the command itself takes longer, so each second of the command extends the
# time limit by 5 s.
eventually() { # TEXT COMMAND...
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

# Checks that a command succeeds and that its output (both streams) contains a text.
says() { # TEXT COMMAND...
  local text=$1 output
  shift
  output=$("$@" 2>&1) || die "failed: $*: $output"
  grep -qF -- "$text" <<<"$output" || die "'$text' is not in the output of '$*': $output"
  passed "$* says: $text"
}

# Checks that a command fails and that its output contains a text.
refuses() { # TEXT COMMAND...
  local text=$1 output
  shift
  if output=$("$@" 2>&1); then die "was accepted: $*: $output"; fi
  grep -qF -- "$text" <<<"$output" || die "'$text' is not in the refusal of '$*': $output"
  passed "$* is refused: $text"
}

same() { # TEXT EXPECTED ACTUAL
  [ "$2" = "$3" ] || die "$1: expected '$2', not '$3'"
  passed "$1"
}

# Prints a part of a MetadataServices.
part() { # NAMESPACE NAME JSONPATH
  kubectl get metadataservices "$2" -n "$1" -o "jsonpath={$3}"
}

# Prints a MetadataServices with a rollout of a few seconds.
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

# Returns whether a resource is Stable and its active release has a storage tag.
serves() { # NAMESPACE NAME TAG
  kubectl get metadataservices "$2" -n "$1" -o json | jq -e --arg tag "$3" '
    .status.deploymentPhase == "Stable" and .status.observedGeneration == .metadata.generation
    and .status.activeReleaseVersion as $active
    | any(.status.releaseHistory[]; .version == $active and .storageTag == $tag and .status == "Active")'
}

# Prints names and UIDs of the Pods of a resource. They change if a Pod was replaced.
pods_of() { # NAMESPACE NAME
  kubectl get pods -n "$1" -l "app=$2" -o json |
    jq -r '[.items[] | select(.metadata.deletionTimestamp == null) | "\(.metadata.name) \(.metadata.uid)"] | sort[]'
}
