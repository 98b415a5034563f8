# Sourced by guide.sh: local replacements of the guide's external services, and functions that run the guide's blocks.
# shellcheck shell=bash
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# Kind of node: kwok or real.
bed=${1:-kwok}
use_tools kubectl helm

# === Replacements of external services ===
site=$work/site
mkdir -p "$site/charts" "$site/e6data/e6-operator/releases/download/v$version" "$site/repos/e6data/e6-operator/releases"
HOME=$real_home "$root/hack/release.sh" --no-image "$work/release" >/dev/null
cp "$work"/release/* "$site/e6data/e6-operator/releases/download/v$version/"
cp "$work"/release/*.tgz "$site/charts/"
for chart in e6-operator e6-operator-crds; do
  helm package "$root/charts/$chart" --version 0.1.0 --app-version 0.1.0 -d "$site/charts" >/dev/null
done
helm repo index "$site/charts"
jq -Rs --arg tag "v$version" '{tag_name: $tag, body: .}' "$work/release/release-notes.md" \
  >"$site/repos/e6data/e6-operator/releases/latest"
repository=$work/repository/e6-operator.git
mkdir -p "$repository"
(
  cd "$root" || exit
  git ls-files -z --cached --others --exclude-standard | tar --null -T - --ignore-failed-read -cf - 2>/dev/null | tar -xf - -C "$repository"
  cd "$repository" || exit
  git init -q -b main .
  git add -A
  git -c user.name=test -c user.email=test@example.com commit -q -m "this work tree"
  git tag "v$version"
)
git config --global "url.$work/repository/.insteadOf" https://github.com/e6data/
git config --global advice.detachedHead false
real_curl=$(command -v curl)
write_tool curl "exec \${BED_PREFIX:-} $real_curl \"\${@/#https:\\/\\/api.github.com\\//http:\\/\\/127.0.0.1:\$SITE_PORT\\/}\""
real_kubectl=$work/bin/real-kubectl
mv "$work/bin/kubectl" "$real_kubectl"
write_tool kubectl "exec $real_kubectl \"\${@/#https:\\/\\/github.com\\//http:\\/\\/127.0.0.1:\$SITE_PORT\\/}\""
write_tool edit-tags "sed -i 's/imageTag: 1.0.437-old/imageTag: 1.0.500-new/; s/imageTag: 1.0.547-old/imageTag: 1.0.600-new/' \"\$1\""
export KUBE_EDITOR=edit-tags SITE_PORT TERM=xterm
mkdir -p "$HELM_DATA_HOME/plugins/diff"
cat >"$HELM_DATA_HOME/plugins/diff/plugin.yaml" <<'PLUGIN'
name: diff
version: 0.0.1
usage: compares the deployed manifests with the manifests of an upgrade
description: replaces helm-diff
command: $HELM_PLUGIN_DIR/diff.sh
PLUGIN
cat >"$HELM_DATA_HOME/plugins/diff/diff.sh" <<'PLUGIN'
#!/usr/bin/env bash
# helm diff upgrade RELEASE CHART ...: prints the changes of an upgrade. Fails if two renderings differ.
set -euo pipefail
shift
release=$1
shift
namespace=$HELM_NAMESPACE
would() { helm upgrade "$release" "$@" --namespace "$namespace" --dry-run=server --hide-notes | sed -n '/^MANIFEST:/,$p' | sed 1d; }
[ "$(would "$@")" = "$(would "$@")" ] || { echo "error: two renderings of the chart differ" >&2; exit 1; }
diff -u <(helm get manifest "$release" --namespace "$namespace") <(would "$@") || true
PLUGIN
chmod +x "$HELM_DATA_HOME/plugins/diff/diff.sh"

serve_site() {
  if [ -n "${site_pid:-}" ]; then kill "$site_pid" 2>/dev/null || true; fi
  "$real_kubectl" proxy --port=0 --www="$site" --www-prefix=/ --api-prefix=/cluster-api/ >"$work/site.log" 2>&1 &
  site_pid=$!
  site_pids+=("$site_pid")
  until SITE_PORT=$(sed -n 's/^Starting to serve on .*:\([0-9]*\)$/\1/p' "$work/site.log") && [ -n "$SITE_PORT" ]; do sleep 0.2; done
}
site_pids=()
session=$work/session
mkdir "$session"
commands=0
said=

# Runs a block of the guide as printed, at a terminal if the block uses one. There kubectl attaches to a running container and
# loses earlier output. So the replacement of curl waits for Enter, and this function sends it.
guide() { # [NEEDED TEXT IN THE OUTPUT]; the block is on standard input
  local block
  block=$(cat)
  run_block() { bash -c "$block" </dev/null; }
  if [[ $block == *"run -it"* ]]; then
    run_block() { echo "$block" >"$work/block" && echo | script -qec "bash '$work/block'" /dev/null; }
  fi
  said=$(cd "$session" && run_block 2>&1) || die "the guide's block failed: $block: $said"
  [ -z "${1:-}" ] || grep -qF -- "$1" <<<"$said" || die "'$1' is not in the output of the guide's block: $block: $said"
  commands=$((commands + 1))
  passed "$(one_line <<<"$block")"
}
# Runs a block that needs running Pods.
guide_on_node() {
  if [ "$bed" = real ]; then
    guide "$@"
  else
    echo "  SKIPPED (needs a real node): $(one_line)"
  fi
}
settled() { [ "$(part autoscalingv2 "$1" .status.phase)/$(part autoscalingv2 "$1" .status.deploymentPhase)" = "${2:-Stable/Stable}" ]; }
# With KWOK no Pod runs, so the operator runs as a process with the rights of its Pod.
beside_the_cluster() { [ "$bed" = real ] || start_operator --log-level info; }
at_end() { for pid in "${site_pids[@]}"; do kill "$pid" 2>/dev/null || true; done; }

one_line() { tr -s ' \n' ' ' | cut -c 1-140; }

# === Images, for a node without a registry ===
# Writes a docker archive with other image names.
renamed() { # ARCHIVE FILE NAME...
  local dir
  dir=$(mktemp -d "$work/image.XXXXXX")
  tar -xf "$1" -C "$dir"
  jq -c --args '.[0].RepoTags = $ARGS.positional' "${@:3}" <"$dir/manifest.json" >"$dir/names" && mv "$dir/names" "$dir/manifest.json"
  tar -cf "$2" -C "$dir" .
  rm -rf "$dir"
}
# Writes a docker archive with a single layer, the contents of a directory.
packed() { # DIRECTORY FILE CONFIG NAME...
  local dir
  dir=$(mktemp -d "$work/image.XXXXXX")
  tar -cf "$dir/layer.tar" -C "$1" .
  jq -n --argjson config "$3" --arg layer "sha256:$(sha256sum "$dir/layer.tar" | cut -d ' ' -f 1)" \
    --arg arch "$(uname -m | sed 's/x86_64/amd64/; s/aarch64/arm64/')" \
    '{architecture: $arch, os: "linux", config: $config, rootfs: {type: "layers", diff_ids: [$layer]}}' >"$dir/config.json"
  jq -n --args '[{Config: "config.json", Layers: ["layer.tar"], RepoTags: $ARGS.positional}]' "${@:4}" >"$dir/manifest.json"
  tar -cf "$2" -C "$dir" .
  rm -rf "$dir"
}
# Checks the image's properties in docs/operations.md: a static program, an unprivileged user, the version label. hack/image.sh
# checks the size, because this image holds the program of a test profile.
check_image() {
  local dir config
  dir=$(mktemp -d "$work/image.XXXXXX")
  tar -xf "$E6_TEST_IMAGE" -C "$dir"
  config=$(cat "$dir/$(jq -r '.[0].Config' "$dir/manifest.json")")
  same "user, entry point, layers and version of the image" "65532:65532 /e6-operator 1 $version" "$(jq -r \
    '"\(.config.User) \(.config.Entrypoint[0]) \(.rootfs.diff_ids | length) \(.config.Labels["org.opencontainers.image.version"])"' <<<"$config")"
  says "statically linked" ldd "$root/target/image/e6-operator"
  rm -rf "$dir"
}
# Builds the images of the guide: the operator from hack/image.sh, storage and schema from examples/workload.rs, and curl. The
# node has no DNS, so curl finds Services by environment variables of the Pod. It starts after Enter at its terminal.
make_images() {
  local component port tags program file
  [ -f "${E6_TEST_IMAGE:-}" ] || die "E6_TEST_IMAGE must name the image's archive (hack/image-archive.sh)"
  [ -x "${E6_TEST_WORKLOAD:-}" ] || die "E6_TEST_WORKLOAD must name the static program of examples/workload.rs"
  check_image
  renamed "$E6_TEST_IMAGE" "$work/operator.tar" "docker.io/e6data/e6-operator:$version" docker.io/e6data/e6-operator:0.1.0 \
    "docker.io/your-registry/e6-operator:$version"
  mkdir "$work/workload" "$work/curl"
  cp "$E6_TEST_WORKLOAD" "$work/workload/workload"
  for component in storage schema; do
    port=9005 tags=(1.0.437-old 1.0.500-new)
    if [ "$component" = schema ]; then port=9006 tags=(1.0.547-old 1.0.600-new 1.0.601-new); fi
    packed "$work/workload" "$work/$component.tar" \
      "{\"Entrypoint\": [\"/workload\"], \"User\": \"65532:65532\", \"Env\": [\"COMPONENT=$component\", \"PORT=$port\"]}" \
      "${tags[@]/#/docker.io/e6data/$component:}"
  done
  # The curl of this machine with its libraries.
  for program in "$real_curl" "$(command -v tr)" "$(readlink -f /bin/sh)"; do
    { echo "$program" && ldd "$program" | grep -oE '/[^ ]+'; } | while read -r file; do
      mkdir -p "$work/curl/$(dirname "$file")"
      cp -L "$file" "$work/curl/$file"
    done
  done
  mkdir -p "$work/curl/stand-in"
  cat >"$work/curl/stand-in/curl" <<'CURL'
read -r enter
url=${2#http://}
variable=$(echo "${url%:*}" | tr a-z- A-Z_)_SERVICE_HOST
eval "address=\$$variable"
exec REAL "$1" -sS --max-time 10 --connect-to "::$address:" "$2"
CURL
  sed -i "1i #!$(readlink -f /bin/sh)" "$work/curl/stand-in/curl"
  sed -i "s|REAL|$real_curl|" "$work/curl/stand-in/curl"
  chmod +x "$work/curl/stand-in/curl"
  packed "$work/curl" "$work/curl.tar" '{"Env": ["PATH=/stand-in:/usr/bin:/bin"]}' docker.io/curlimages/curl:latest
}
import_images() {
  local image
  [ -f "$work/curl.tar" ] || make_images
  for image in operator storage schema curl; do
    "$cluster_tool" import "$work/$image.tar" --dir "$(dirname "$KUBECONFIG")" >/dev/null || die "$image is not imported"
  done
  # kubelet always pulls an image without a tag, even if the node has the image.
  kubectl apply -f - >/dev/null <<'POLICY'
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicy
metadata:
  name: no-registry
spec:
  matchConstraints:
    resourceRules:
      - {apiGroups: [""], apiVersions: [v1], operations: [CREATE], resources: [pods]}
  matchConditions:
    - name: without-a-tag
      expression: object.spec.containers.exists(c, c.image == 'curlimages/curl')
  reinvocationPolicy: Never
  mutations:
    - patchType: JSONPatch
      jsonPatch:
        expression: '[JSONPatch{op: "replace", path: "/spec/containers/0/imagePullPolicy", value: "IfNotPresent"}]'
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingAdmissionPolicyBinding
metadata:
  name: no-registry
spec:
  policyName: no-registry
POLICY
}
# Installs metrics-server for `kubectl top`, from its own manifests. The patches set the image's name and accept the self-signed
# certificate of kubelet.
install_metrics_server() {
  local manifests
  manifests=$(HOME=$real_home "$cluster_tool" path metrics-server-manifests)
  mkdir "$work/metrics-server" "$work/metrics-program"
  cp "$manifests"/*.yaml "$work/metrics-server"
  chmod -R u+w "$work/metrics-server"
  cp "$(HOME=$real_home "$cluster_tool" path metrics-server)" "$work/metrics-program/metrics-server"
  packed "$work/metrics-program" "$work/metrics-server.tar" '{"Entrypoint": ["/metrics-server"]}' docker.io/e6data/metrics-server:bed
  "$cluster_tool" import "$work/metrics-server.tar" --dir "$(dirname "$KUBECONFIG")" >/dev/null || die "metrics-server is not imported"
  { echo && cat; } >>"$work/metrics-server/kustomization.yaml" <<'PATCH'
patches:
  - target: {kind: Deployment}
    patch: |
      - {op: replace, path: /spec/template/spec/containers/0/image, value: e6data/metrics-server:bed}
      - {op: add, path: /spec/template/spec/containers/0/args/-, value: --kubelet-insecure-tls}
PATCH
  kubectl apply -k "$work/metrics-server" >/dev/null
}
