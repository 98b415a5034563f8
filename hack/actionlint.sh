#!/usr/bin/env bash
# Checks the workflows: each make target that they call exists, and actionlint finds no problem.
# actionlint is built from the Go module that hack/tools/actionlint/go.mod pins.
set -euo pipefail
cd "$(dirname "$0")/.."

workflows=(.github/workflows/*.yaml)
missing=0
called=$(sed -nE 's/^.*run: (sudo .* )?make ([a-z0-9-]+).*$/\2/p; s/^ *target: \[(.*)\]$/\1/p' "${workflows[@]}" | tr -d ,)
for target in $called; do
  grep -qE "^$target:" Makefile hack/*.mk hack/cluster/*.mk || {
    echo "a workflow calls \"make $target\", and no such target exists: correct .github/workflows or the Makefile" >&2
    missing=1
  }
done

if command -v go >/dev/null 2>&1; then
  actionlint=$(realpath -m "${CARGO_TARGET_DIR:-target}")/actionlint
  go build -C hack/tools/actionlint -o "$actionlint" github.com/rhysd/actionlint/cmd/actionlint
  "$actionlint" "${workflows[@]}"
else
  echo "SKIPPED actionlint: it is built with Go 1.26 or newer, and there is no go on the PATH"
fi
exit "$missing"
