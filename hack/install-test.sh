#!/usr/bin/env bash
# Runs tests of tests/install by name. Three run at a time, because they mostly wait. `guide` runs on a real node as root;
# otherwise KWOK simulates the Pods.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! hack/install-package.sh jq; then
  echo "SKIPPED the tests of scripts and guide: they need jq"
  exit 0
fi
export CLUSTER_TOOL=${CARGO_TARGET_DIR:-$PWD/target}/debug/cluster

guide() {
  if [ "$(id -u)" -ne 0 ]; then
    echo "SKIPPED the guide on a real node: it needs root. KWOK simulates the Pods instead."
    tests/install/guide.sh kwok
    return
  fi
  hack/install-package.sh curl
  PROFILE=test-image hack/image.sh e6-operator:test
  hack/image-archive.sh e6-operator:test target/image/e6-operator.tar
  E6_TEST_WORKLOAD=$("$CLUSTER_TOOL" path workload)
  export E6_TEST_WORKLOAD E6_TEST_IMAGE=$PWD/target/image/e6-operator.tar
  tests/install/guide.sh real
}

run() {
  case "$1" in
    guide) guide ;;
    helm3) tests/install/helm.sh helm3 ;;
    *) "tests/install/$1.sh" ;;
  esac
}

logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
failed=()
running=()
# Waits for the oldest running test and prints its result.
reap() {
  local name=${running[0]%% *} pid=${running[0]##* }
  running=("${running[@]:1}")
  if wait "$pid"; then
    grep SKIPPED "$logs/$name" || true
    tail -n 1 "$logs/$name"
  else
    cat "$logs/$name"
    failed+=("$name")
  fi
}
for name in "$@"; do
  if [ "${#running[@]}" -ge 3 ]; then reap; fi
  echo "tests/install: $name"
  run "$name" >"$logs/$name" 2>&1 &
  running+=("$name $!")
done
while [ "${#running[@]}" -gt 0 ]; do reap; done
if [ "${#failed[@]}" -gt 0 ]; then
  echo "failed: ${failed[*]}" >&2
  exit 1
fi
