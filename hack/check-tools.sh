#!/usr/bin/env bash
# Prints the missing prerequisites of the README and their remedies, before any build starts.
set -euo pipefail

missing=0
need() { # command, remedy
  if ! command -v "$1" >/dev/null 2>&1; then
    echo "$1 is missing: $2" >&2
    missing=1
  fi
}

need cargo "install Rust with rustup, which reads rust-toolchain.toml"
need cc "install a C linker, on Debian and Ubuntu: apt-get install gcc"
need git "install git"

if [ -z "${KUBEBUILDER_ASSETS:-}" ] && [ -z "${E6_KUBECONFIG:-}" ]; then
  need go "install Go 1.26 or newer, or set KUBEBUILDER_ASSETS to a control plane or E6_KUBECONFIG to a cluster"
  if command -v go >/dev/null 2>&1; then
    version=$(go env GOVERSION)
    case "$version" in
      go1.[0-9] | go1.[0-9].* | go1.1[0-9]* | go1.2[0-5] | go1.2[0-5].*)
        echo "$version is too old: install Go 1.26 or newer, or set KUBEBUILDER_ASSETS or E6_KUBECONFIG" >&2
        missing=1
        ;;
    esac
  fi
fi
exit "$missing"
