#!/usr/bin/env bash
# Runs all fault cases in PARTS parts, each on its own cluster, and prints the number of cases and violations. A new run
# continues an interrupted one, and repeats the failed cases.
set -euo pipefail

parts=$1
operator=$(realpath "$2")
done_file=${E6_TEST_FAULTS_DONE:-$(pwd)/target/faults.txt}
start=$SECONDS
failed=0

${CARGO:-cargo} test --locked --no-run --test faults
for part in $(seq 1 "$parts"); do
  echo "Part $part of $parts ..."
  E6_TEST_FAULTS=$part/$parts E6_TEST_FAULTS_DONE=$done_file E6_TEST_OPERATOR=$operator \
    ${CARGO:-cargo} test -q --locked --test faults -- --nocapture every_write || failed=1
done

${CARGO:-cargo} test -q --locked --test faults -- --nocapture --ignored || failed=1

# The last line of each case counts.
awk -v seconds=$((SECONDS - start)) '
  NR > 1 { line[$1] = $0 }
  END {
    for (name in line) {
      cases++
      split(line[name], word, " ")
      violations += word[5]
      missed += word[2] == "missed"
      if (word[3] > slowest) slowest = word[3]
    }
    printf "faults: %d cases, %d violations, %d faults without effect, slowest case %.1f s, %d s in this run\n", \
      cases, violations, missed, slowest, seconds
  }' "$done_file"
exit "$failed"
