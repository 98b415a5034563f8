#!/usr/bin/env bash
# Runs the demo on the cluster of E6_KUBECONFIG, on the running cluster in CLUSTER_DIR, or on a new cluster there.
# With KEEP=1 the cluster keeps running. `make demo` builds the programs.
set -euo pipefail

bin="${CARGO_TARGET_DIR:-target}/debug"
dir="${CLUSTER_DIR:-.cluster}"
if [[ -z "${E6_KUBECONFIG:-}" ]] && ! "$bin/cluster" status --dir "$dir" >/dev/null; then
  echo "Starting a Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,"
  echo "and KWOK, which simulates the node and its Pods ..."
  trap '[[ "${KEEP:-0}" =~ ^(|0|n|no|f|false|off)$ ]] && "$bin/cluster" down --dir "$dir"' EXIT
  "$bin/cluster" up --dir "$dir"
  echo
fi
"$bin/demo" --operator "$bin/e6-operator" --dir "$dir" --kubeconfig "${E6_KUBECONFIG:-$dir/kubeconfig}"
