#!/usr/bin/env bash
# Checks all shell scripts of the repository with shellcheck.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! hack/install-package.sh shellcheck; then
  echo "SKIPPED shellcheck: it is not installed"
  exit 0
fi
git ls-files -z --cached --others --exclude-standard '*.sh' 'hack/hooks/*' | xargs -0 shellcheck -x --source-path=SCRIPTDIR
