#!/usr/bin/env bash
# Runs shellcheck over every shell script of the repository.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! hack/install-package.sh shellcheck; then
  echo "SKIPPED shellcheck"
  exit 0
fi
git ls-files -z --cached --others --exclude-standard '*.sh' 'hack/hooks/*' | xargs -0 shellcheck -x --source-path=SCRIPTDIR
