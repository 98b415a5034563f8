#!/usr/bin/env bash
# Lays out what a release publishes, in DIRECTORY: the files that the upgrade guide downloads, both charts as a Helm
# repository, the scripts, the notes, checksums; the image and an SBOM unless --no-image is given.
#
#   hack/release.sh [--no-image] DIRECTORY
#
# Refuses if a version somewhere differs from Cargo.toml's, or if the CRD of this version was released and differs.
set -euo pipefail
cd "$(dirname "$0")/.."

with_image=true
if [ "${1:-}" = --no-image ]; then
  with_image=false
  shift
fi
out=${1:?usage: hack/release.sh [--no-image] DIRECTORY}
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
crd=crds/metadataservices.e6data.io.yaml
released=crds/released/crd-v$version.yaml
tool=${CLUSTER_TOOL:-${CARGO_TARGET_DIR:-target}/debug/cluster}
helm=$("$tool" path helm)
kubectl=$("$tool" path kubectl)

fail() {
  echo "error: $*" >&2
  exit 1
}

for file in charts/*/Chart.yaml; do
  [ "$(grep -cE "^(version|appVersion): $version$" "$file")" = 2 ] ||
    fail "$file has another version than Cargo.toml ($version)"
done
grep -q "image: e6data/e6-operator:$version$" config/manager/manager.yaml ||
  fail "config/manager/manager.yaml has another image tag than $version"
grep -q "image.version=\"$version\"" Dockerfile || fail "Dockerfile has another version label than $version"
grep -q "crd-version: v$version$" "$crd" || fail "$crd is of another version: run make generate"
[ -f "docs/release-notes/v$version.md" ] || fail "docs/release-notes/v$version.md is missing"
if [ -f "$released" ]; then
  cmp -s "$crd" "$released" || fail "$released differs from $crd: version $version was released with another CRD, raise the version"
else
  echo "note: $released is not there yet; a release commits it: cp $crd $released"
fi

rm -rf "$out"
mkdir -p "$out"
cp "$crd" "$out/"
cp "$crd" "$out/crd-v$version.yaml" # for the way back to it
cp crds/legacy/metadataservices.e6data.io.yaml "$out/metadataservices.e6data.io-legacy.yaml"
cp scripts/*.sh "$out/"
cp "docs/release-notes/v$version.md" "$out/release-notes.md"
"$kubectl" kustomize config/default >"$out/install.yaml"
"$kubectl" kustomize config/policy >"$out/rollback-policy.yaml"
for chart in charts/*; do "$helm" package "$chart" --destination "$out" >/dev/null; done
"$helm" repo index "$out"

if $with_image; then
  hack/image.sh "e6-operator:$version"
  hack/image-archive.sh "e6-operator:$version" "$out/e6-operator-$version-image.tar"
  if command -v cargo-cyclonedx >/dev/null 2>&1; then
    # One is written for each crate of the workspace, with this directory's path in it, dated by the last commit.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
      cargo cyclonedx --quiet --format json --target "$(uname -m)-unknown-linux-gnu" --override-filename sbom.cdx
    sed "s|path+file://$PWD#|pkg:cargo/|g" sbom.cdx.json >"$out/sbom.cdx.json"
    rm -f sbom.cdx.json hack/*/sbom.cdx.json
  else
    echo "note: no SBOM: install it with: cargo install --locked cargo-cyclonedx"
  fi
fi
sums=$(cd "$out" && sha256sum -- *)
echo "$sums" >"$out/SHA256SUMS"
echo "Release $version is in $out:"
ls -l "$out"
