#!/usr/bin/env bash
# Checks the workflows: each make target that they call exists, and actionlint reports no problem.
# The script builds actionlint from the Go module that hack/tools/actionlint/go.mod pins.
set -euo pipefail
cd "$(dirname "$0")/.."

workflows=(.github/workflows/*.yaml)
missing=0
called=$(sed -nE 's/^.*run: (sudo .* )?make ([a-z0-9-]+).*$/\2/p; s/^ *target: \[(.*)\]$/\1/p' "${workflows[@]}" | tr -d ,)
for target in $called; do
  grep -qE "^$target:" Makefile hack/*.mk hack/cluster/*.mk || {
    echo "error: a workflow calls the missing target \"make $target\". Remedy: correct .github/workflows or the Makefile" >&2
    missing=1
  }
done

if command -v go >/dev/null 2>&1; then
  actionlint=$(realpath -m "${CARGO_TARGET_DIR:-target}")/actionlint
  go build -C hack/tools/actionlint -o "$actionlint" github.com/rhysd/actionlint/cmd/actionlint
  "$actionlint" "${workflows[@]}"
else
  echo "SKIPPED actionlint: the PATH has no go. Remedy: install Go 1.26 or newer"
fi
exit "$missing"
