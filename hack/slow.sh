#!/usr/bin/env bash
# Runs a command with a CPU quota, to test on a slower machine. Needs root.
#
#   hack/slow.sh PERCENT COMMAND [ARGUMENT...]     100 percent is one core
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
# Remaining processes of the command may need a moment to end.
trap 'for _ in $(seq 50); do rmdir "$group" 2>/dev/null && break; sleep 0.2; done' EXIT
# The shell joins the group, so all processes of the command belong to it.
(echo "$BASHPID" >"$group/cgroup.procs" && exec "$@")
