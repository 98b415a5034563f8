#!/usr/bin/env bash
# Runs one phase of the tests. Its output goes to target/phases/NAME.log. At the end the script prints a line with its time
# and number of tests, and after a failure the end of the log.
#
#   hack/phase.sh NAME COMMAND [ARGUMENT...]
set -uo pipefail

name=${1:?usage: hack/phase.sh NAME COMMAND [ARGUMENT...]}
shift
cd "$(dirname "$0")/.." || exit 1
dir=target/phases
mkdir -p "$dir"
log=$dir/$name.log
rm -f "$dir/$name.result"

SECONDS=0
"$@" >"$log" 2>&1 </dev/null
code=$?

# Counts the tests of cargo and the checks of tests/install: passed, failed, skipped.
read -r passed failed skipped <<<"$(awk '
  /^test result: / { for (i = 1; i < NF; i++) {
    if ($(i + 1) ~ /^passed/) passed += $i
    if ($(i + 1) ~ /^failed/) failed += $i
    if ($(i + 1) ~ /^ignored/) skipped += $i
  } }
  /^[a-z0-9]+: [0-9]+ checks passed in / { passed += $2 }
  /SKIPPED/ { skipped++ }
  END { print passed + 0, failed + 0, skipped + 0 }
' "$log")"
# A phase can fail without a failed test, for example if the code does not compile.
if [ "$code" -ne 0 ] && [ "$failed" -eq 0 ]; then failed=1; fi
verdict=ok
if [ "$code" -ne 0 ]; then verdict=FAILED; fi
printf '%s %s %d %d %d %d\n' "$name" "$verdict" "$SECONDS" "$passed" "$failed" "$skipped" >"$dir/$name.result"

if [ "$verdict" = ok ]; then
  printf '%-7s %-18s %5d s  %5d passed\n' ok "$name" "$SECONDS" "$passed"
  grep -h SKIPPED "$log" || true
  exit 0
fi
printf '%-7s %-18s %5d s  the end of %s:\n' FAILED "$name" "$SECONDS" "$log"
tail -n "${E6_TEST_TAIL:-60}" "$log" | sed 's/^/    /'
# The names of the failed tests may be further up in the log.
grep -hE '^test .* \.\.\. FAILED$|^failed: ' "$log" | sed 's/^/    /'
exit "$code"
