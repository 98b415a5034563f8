#!/usr/bin/env bash
# install-package.sh COMMAND [PACKAGE]: makes sure that a command is there. On Debian and Ubuntu root installs its package,
# after saying so; everybody else is told, and the exit code is 1.
set -euo pipefail

command=${1:?usage: install-package.sh COMMAND [PACKAGE]}
package=${2:-$command}
if command -v "$command" >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "$command is missing: install the package $package" >&2
  exit 1
fi
echo "$command is missing: installing the package $package"
export DEBIAN_FRONTEND=noninteractive
apt-get install -y -q "$package" >/dev/null 2>&1 || { apt-get update -q >/dev/null && apt-get install -y -q "$package" >/dev/null; }
