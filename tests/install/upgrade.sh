#!/usr/bin/env bash
# Replaces the operator by another version, and that version by the first again, in every step of a rollout. The new operator
# changes no workload and continues the rollout, also from a status that is a day old.
#
#   UPDATE=1 upgrade.sh     writes the statuses of this version to tests/golden (see tests/goldens.rs)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main
kubectl apply -k "$root/config/default" >"$work/apply.log"
kubectl wait crd metadataservices.e6data.io --for=condition=Established >/dev/null
kubectl create namespace shop >/dev/null

# The same program with another version number. A difference in its objects can only come from the number.
other=0.2.9
[ "${#version}" = "${#other}" ] || die "choose a version of the length of $version"
cp "$target/debug/e6-operator" "$work/this"
LC_ALL=C sed "s/${version//./\\.}/$other/g" "$work/this" >"$work/other"
chmod +x "$work/other"
same "the version of the other program" "e6-operator $other" "$("$work/other" --version)"
running=this
run_as() { # this|other
  stop_operator
  running=$1
  cp -f "$work/$1" "$work/e6-operator"
  start_operator --log-level info
}
replace() { if [ "$running" = this ]; then run_as other; else run_as this; fi; }

golden=$root/tests/golden/$version/statuses
keep() { # NAME: saves the status as a golden file
  [ -n "${UPDATE:-}" ] || return 0
  mkdir -p "$golden"
  kubectl get metadataservices sample1 -n shop -o json | jq -S .status >"$golden/$1.json"
}
step() { part shop sample1 .status.rollout.step; }
is_in() { [ "$(step)" = "$1" ]; }
tag=500
ask() { kubectl patch metadataservices sample1 -n shop --type=merge -p "{\"spec\":{\"storage\":{\"imageTag\":\"$1\"}}}" >/dev/null; }
to_next() { tag=$((tag + 1)) && ask "1.0.$tag"; }
# Prints the operator's writes to Deployments since a time, except deletions. None is expected.
deeds_since() { # TIME
  jq -r --arg since "$1" 'select(.requestReceivedTimestamp >= $since) | select(.objectRef.resource == "deployments")
    | select(.user.username | endswith(":e6-operator-controller-manager")) | select(.verb | IN("create", "update", "patch")) | "\(.verb) \(.objectRef.name)"' "$audit_log"
}
both_colors() { [ "$(kubectl get deployments -n shop -o name | wc -l)" = 4 ]; }
hold() { # sets a finalizer on the ReplicaSets of the previous color, so that Prune lasts
  local color
  color=$(part shop sample1 .status.activeStrategy)
  kubectl get replicasets -n shop -l "app=sample1,strategy=$color" -o name |
    xargs -I % kubectl patch % -n shop --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}' >/dev/null
}
release() {
  kubectl get replicasets -n shop -o name | xargs -I % kubectl patch % -n shop --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null
}

run_as this
# Each step lasts long enough for the test to replace the operator in it.
sample sample1 1.0.500 1.0.600 | sed -E 's/(gracePeriodSeconds|switchDwellSeconds|cleanupDelaySeconds): ./\1: 4/' |
  kubectl apply -n shop -f - >/dev/null
eventually "the first release is active" serves shop sample1 1.0.500
keep stable
before=$(pods_of shop sample1)
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
replace
sleep 5
same "at rest the new operator changes no workload" "$before $(deeds_since "$since")" "$(pods_of shop sample1) "

for wanted in Deploying Switching Watching Prune; do
  if [ "$wanted" = Prune ]; then hold; fi
  to_next
  eventually "step $wanted with the operator of $running version" is_in "$wanted"
  if [ "$wanted" = Deploying ]; then eventually "both colors exist" both_colors; fi
  keep "$(tr '[:upper:]' '[:lower:]' <<<"$wanted")"
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  sleep 1 # the times in the log have fractions of a second
  replace
  if [ "$wanted" = Prune ]; then sleep 5 && release; fi
  eventually "the other operator completes the rollout" serves shop sample1 "1.0.$tag"
  same "the other operator created or changed no workload" "" "$(deeds_since "$since")"
done

# A rollback: the user restores the previous spec in step Watching.
serving=1.0.$tag
to_next
eventually "step Watching again" is_in Watching
before=$(pods_of shop sample1)
ask "$serving"
eventually "step RollingBack with the operator of $running version" is_in RollingBack
keep rollingback
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
replace
eventually "the other operator completes the rollback" serves shop sample1 "$serving"
same "the other operator created or changed no workload" "" "$(deeds_since "$since")"
same "no Pod was created" "" \
  "$(comm -13 <(sort <<<"$before") <(pods_of shop sample1 | sort))"

# A rollout that the other version left a day ago.
to_next
eventually "step Deploying again" is_in Deploying
eventually "both colors exist" both_colors
stop_operator
kubectl get metadataservices sample1 -n shop -o json |
  jq '.status |= walk(if type == "string" and test("^[0-9-]{10}T[0-9:]{8}Z$") then (fromdate - 86400 | todate) else . end)' |
  kubectl replace --subresource=status -f - >/dev/null
replace
eventually "the operator continues the rollout after a day" serves shop sample1 "1.0.$tag"
ask 1.0.600-crash
degraded() { [ "$(part shop sample1 .status.phase)" = Degraded ] && is_in Stable; }
eventually "the operator rolls back a failing release" degraded
keep degraded
same "nothing was logged as an error" "" "$(grep -F ' ERROR ' "$work/operator.log" || true)"
