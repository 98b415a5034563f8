#!/usr/bin/env bash
# The operator is replaced by one of another version, and that one by the first again, in every step of a rollout: no workload is
# touched, the rollout goes on. Also on a status that is a day old.
#
#   UPDATE=1 upgrade.sh     writes the statuses of this version to tests/golden (see tests/goldens.rs)
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
use_tools kubectl
start_cluster main
kubectl apply -k "$root/config/default" >"$work/apply.log"
kubectl wait crd metadataservices.e6data.io --for=condition=Established >/dev/null
kubectl create namespace shop >/dev/null

# The same program, but for what it calls itself: only that a version is in what it makes would tell the two apart.
other=0.2.9
[ "${#version}" = "${#other}" ] || die "choose a version of the length of $version"
cp "$target/debug/e6-operator" "$work/this"
LC_ALL=C sed "s/${version//./\\.}/$other/g" "$work/this" >"$work/other"
chmod +x "$work/other"
same "its version" "e6-operator $other" "$("$work/other" --version)"
running=this
run_as() { # this|other
  stop_operator
  running=$1
  cp -f "$work/$1" "$work/e6-operator"
  start_operator --log-level info
}
replace() { if [ "$running" = this ]; then run_as other; else run_as this; fi; }

golden=$root/tests/golden/$version/statuses
keep() { # NAME: the status, for the corpus
  [ -n "${UPDATE:-}" ] || return 0
  mkdir -p "$golden"
  kubectl get metadataservices sample1 -n shop -o json | jq -S .status >"$golden/$1.json"
}
step() { part shop sample1 .status.rollout.step; }
is_in() { [ "$(step)" = "$1" ]; }
tag=500
ask() { kubectl patch metadataservices sample1 -n shop --type=merge -p "{\"spec\":{\"storage\":{\"imageTag\":\"$1\"}}}" >/dev/null; }
to_next() { tag=$((tag + 1)) && ask "1.0.$tag"; }
# What the operator did to Deployments since a time: nothing but the end of the old ones is due.
deeds_since() { # TIME
  jq -r --arg since "$1" 'select(.requestReceivedTimestamp >= $since) | select(.objectRef.resource == "deployments")
    | select(.user.username | endswith(":e6-operator-controller-manager")) | select(.verb | IN("create", "update", "patch")) | "\(.verb) \(.objectRef.name)"' "$audit_log"
}
both_colors() { [ "$(kubectl get deployments -n shop -o name | wc -l)" = 4 ]; }
hold() { # a finalizer on the ReplicaSets of the color that goes, so that Prune lasts
  local color
  color=$(part shop sample1 .status.activeStrategy)
  kubectl get replicasets -n shop -l "app=sample1,strategy=$color" -o name |
    xargs -I % kubectl patch % -n shop --type=merge -p '{"metadata":{"finalizers":["example.com/hold"]}}' >/dev/null
}
release() {
  kubectl get replicasets -n shop -o name | xargs -I % kubectl patch % -n shop --type=merge -p '{"metadata":{"finalizers":null}}' >/dev/null
}

run_as this
# Long enough in each step to be met there.
sample sample1 1.0.500 1.0.600 | sed -E 's/(gracePeriodSeconds|switchDwellSeconds|cleanupDelaySeconds): ./\1: 4/' |
  kubectl apply -n shop -f - >/dev/null
eventually "the first release serves" serves shop sample1 1.0.500
keep stable
before=$(pods_of shop sample1)
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
replace
sleep 5
same "at rest nothing is touched" "$before $(deeds_since "$since")" "$(pods_of shop sample1) "

for wanted in Deploying Switching Watching Prune; do
  if [ "$wanted" = Prune ]; then hold; fi
  to_next
  eventually "step $wanted under the operator that calls itself by $running version" is_in "$wanted"
  if [ "$wanted" = Deploying ]; then eventually "both colors are there" both_colors; fi
  keep "$(tr '[:upper:]' '[:lower:]' <<<"$wanted")"
  since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
  sleep 1 # the log's times are finer
  replace
  if [ "$wanted" = Prune ]; then sleep 5 && release; fi
  eventually "the rollout goes on to its end" serves shop sample1 "1.0.$tag"
  same "no workload was created or changed by the other one" "" "$(deeds_since "$since")"
done

# The way back, asked for by editing back in Watching.
serving=1.0.$tag
to_next
eventually "step Watching again" is_in Watching
before=$(pods_of shop sample1)
ask "$serving"
eventually "step RollingBack under the operator that calls itself by $running version" is_in RollingBack
keep rollingback
since=$(date -u +%Y-%m-%dT%H:%M:%SZ)
sleep 1
replace
eventually "the way back goes on to its end" serves shop sample1 "$serving"
same "no workload was created or changed by the other one" "" "$(deeds_since "$since")"
same "no pod came" "" \
  "$(comm -13 <(sort <<<"$before") <(pods_of shop sample1 | sort))"

# A rollout that was left a day ago, by the other version.
to_next
eventually "step Deploying again" is_in Deploying
eventually "both colors are there" both_colors
stop_operator
kubectl get metadataservices sample1 -n shop -o json |
  jq '.status |= walk(if type == "string" and test("^[0-9-]{10}T[0-9:]{8}Z$") then (fromdate - 86400 | todate) else . end)' |
  kubectl replace --subresource=status -f - >/dev/null
replace
eventually "it is taken up after a day" serves shop sample1 "1.0.$tag"
ask 1.0.600-crash
degraded() { [ "$(part shop sample1 .status.phase)" = Degraded ] && is_in Stable; }
eventually "a bad release is rolled back" degraded
keep degraded
same "nothing was logged as an error" "" "$(grep -F ' ERROR ' "$work/operator.log" || true)"
