#!/usr/bin/env bash
# Installs a missing command.
#
#   hack/install-package.sh COMMAND [PACKAGE]
#
# As root on Debian and Ubuntu it prints a line and installs the package. Otherwise it prints the remedy and exits with 1.
set -euo pipefail

command=${1:?usage: install-package.sh COMMAND [PACKAGE]}
package=${2:-$command}
if command -v "$command" >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "error: $command is missing. Remedy: install the package $package" >&2
  exit 1
fi
echo "$command is missing: installing the package $package"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q "$package" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q "$package" >/dev/null; }
