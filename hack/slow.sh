#!/usr/bin/env bash
# Runs a command with a quota of the CPU (root), to try the tests on a slower machine.
#
#   hack/slow.sh PERCENT COMMAND [ARGUMENT...]     100 is one core
set -euo pipefail

percent=${1:?usage: hack/slow.sh PERCENT COMMAND [ARGUMENT...]}
shift
name=slow-$$
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  group=/sys/fs/cgroup/$name
  mkdir "$group"
  echo "$((percent * 1000)) 100000" >"$group/cpu.max"
else
  group=/sys/fs/cgroup/cpu/$name
  mkdir "$group"
  echo 100000 >"$group/cpu.cfs_period_us"
  echo "$((percent * 1000))" >"$group/cpu.cfs_quota_us"
fi
# Processes that the command left may need a moment to end.
trap 'for _ in $(seq 50); do rmdir "$group" 2>/dev/null && break; sleep 0.2; done' EXIT
# The shell joins the group, and with it all that the command starts.
(echo "$BASHPID" >"$group/cgroup.procs" && exec "$@")
