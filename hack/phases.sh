#!/usr/bin/env bash
# Runs phases of the tests, each a target of the Makefile, and prints a table of their times.
#
#   hack/phases.sh [--keep-going] PHASE...
#
# PHASE is NAME, or NAME:AFTER[,AFTER...] if it begins after other phases have passed. Phases begin in the order of the
# arguments.
#
# A plus sign after the name marks a CPU-bound phase. These run one at a time, at low priority. The other phases mostly wait
# for a cluster: E6_TEST_PHASES of them run in parallel (default: the number of cores). An exclamation mark after the name
# marks a phase that runs alone: on a real node, kubelet's probes of good Pods time out beside other work.
#
# After a failure the script stops the other phases. With --keep-going it only omits the phases that depend on the failed one.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

keep_going=
if [ "${1:-}" = --keep-going ]; then
  keep_going=yes
  shift
fi
most=${E6_TEST_PHASES:-$(nproc)}
rm -rf target/phases
mkdir -p target/phases

order=()
declare -A after lane state pid_of
for spec in "$@"; do
  marked=${spec%%:*}
  name=${marked%[+!]}
  after[$name]=
  if [ "$marked" != "$spec" ]; then after[$name]=${spec#*:}; fi
  case "$marked" in
    *+) lane[$name]=cpu ;;
    *!) lane[$name]=alone ;;
    *) lane[$name]=waits ;;
  esac
  state[$name]=waiting
  order+=("$name")
done

# Each job gets its own process group, so that the script can end the job and its child processes together.
set -m
stop_all() {
  local name
  for name in "${order[@]}"; do
    case "${state[$name]}" in
      running)
        kill -TERM -- "-${pid_of[$name]}" 2>/dev/null
        state[$name]=stopped
        ;;
      waiting) state[$name]=left-out ;;
    esac
  done
  wait
}
trap 'trap - INT TERM; stop_all; exit 130' INT TERM

# Prints whether a phase may begin: yes, no, or never, if a phase before it has failed.
may_begin() {
  local name before
  declare -A count=([waits]=0 [cpu]=0 [alone]=0)
  for before in ${after[$1]//,/ }; do
    case "${state[$before]:-missing}" in
      ok) ;;
      waiting | running) echo no && return ;;
      *) echo never && return ;;
    esac
  done
  for name in "${order[@]}"; do
    if [ "${state[$name]}" = running ]; then count[${lane[$name]}]=$((count[${lane[$name]}] + 1)); fi
  done
  case "${lane[$1]}" in
    cpu) [ $((count[cpu] + count[alone])) -eq 0 ] ;;
    waits) [ "${count[alone]}" -eq 0 ] && [ "${count[waits]}" -lt "$most" ] ;;
    alone) [ $((count[cpu] + count[waits] + count[alone])) -eq 0 ] ;;
  esac && echo yes || echo no
}

begin() {
  local name=$1 nice=()
  if [ "${lane[$name]}" = cpu ]; then nice=(nice -n 10); fi
  printf '%-7s %-18s %5d s after the start\n' begin "$name" "$SECONDS"
  hack/phase.sh "$name" "${nice[@]}" "${MAKE:-make}" --no-print-directory "$name" &
  pid_of[$name]=$!
  state[$name]=running
}

# Records the result of ended phases.
reap() {
  local name
  for name in "${order[@]}"; do
    if [ "${state[$name]}" = running ] && ! kill -0 "${pid_of[$name]}" 2>/dev/null; then
      if wait "${pid_of[$name]}"; then state[$name]=ok; else state[$name]=failed; fi
      if [ "${state[$name]}" = failed ] && [ -z "$keep_going" ]; then
        echo "Stopping the other phases."
        stop_all
      fi
    fi
  done
}

running() {
  local name
  for name in "${order[@]}"; do
    if [ "${state[$name]}" = running ]; then printf ' %s' "$name"; fi
  done
}

SECONDS=0
reported=0
while :; do
  for name in "${order[@]}"; do
    [ "${state[$name]}" = waiting ] || continue
    case "$(may_begin "$name")" in
      yes) begin "$name" ;;
      never) state[$name]=left-out ;;
    esac
  done
  now=$(running)
  [ -n "$now" ] || break
  if [ $((SECONDS - reported)) -ge 60 ]; then
    reported=$SECONDS
    printf '%-7s%s, %d s after the start\n' runs "$now" "$SECONDS"
  fi
  sleep 0.5
  reap
done

printf '\n%-18s %-9s %7s %7s %7s %8s\n' phase result seconds passed failed skipped
sum_passed=0 sum_failed=0 sum_skipped=0 code=0
for name in "${order[@]}"; do
  if [ "${state[$name]}" != ok ]; then code=1; fi
  verdict=${state[$name]} seconds=- passed=0 failed=0 skipped=0
  if [ -f "target/phases/$name.result" ]; then
    read -r _ verdict seconds passed failed skipped <"target/phases/$name.result"
  fi
  printf '%-18s %-9s %7s %7d %7d %8d\n' "$name" "$verdict" "$seconds" "$passed" "$failed" "$skipped"
  echo "| \`$name\` | $seconds | $passed |" >>target/phases/table.md
  sum_passed=$((sum_passed + passed)) sum_failed=$((sum_failed + failed)) sum_skipped=$((sum_skipped + skipped))
done
printf 'all phases took %d s; the logs are in target/phases\n\n' "$SECONDS"
echo "$sum_passed passed, $sum_failed failed, $sum_skipped skipped"
exit "$code"
