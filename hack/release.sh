#!/usr/bin/env bash
# Writes the files of a release to DIRECTORY: the downloads of the upgrade guide, both charts as a Helm repository, scripts,
# release notes and checksums. Without --no-image it also writes the image and an SBOM.
#
#   hack/release.sh [--no-image] DIRECTORY
#
# It fails if a file has another version than Cargo.toml, or if this version was already released with another CRD.
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
    fail "$file has another version than Cargo.toml ($version). Remedy: set version and appVersion to $version"
done
grep -q "image: e6data/e6-operator:$version$" config/manager/manager.yaml ||
  fail "config/manager/manager.yaml has another image tag than $version. Remedy: set the tag to $version"
grep -q "image.version=\"$version\"" Dockerfile ||
  fail "Dockerfile has another version label than $version. Remedy: set the label to $version"
grep -q "crd-version: v$version$" "$crd" || fail "$crd has another version than $version. Remedy: run make generate"
[ -f "docs/release-notes/v$version.md" ] || fail "docs/release-notes/v$version.md is missing. Remedy: write it"
if [ -f "$released" ]; then
  cmp -s "$crd" "$released" ||
    fail "version $version was released with another CRD: $crd differs from $released. Remedy: raise the version"
else
  echo "note: $released does not exist yet. The release commits it: cp $crd $released"
fi

rm -rf "$out"
mkdir -p "$out"
cp "$crd" "$out/"
cp "$crd" "$out/crd-v$version.yaml" # the CRD to apply at a rollback to this version
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
    # cargo-cyclonedx writes an SBOM for each crate of the workspace. SOURCE_DATE_EPOCH sets its date to the last commit's.
    SOURCE_DATE_EPOCH=$(git log -1 --format=%ct) \
      cargo cyclonedx --quiet --format json --target "$(uname -m)-unknown-linux-gnu" --override-filename sbom.cdx
    # The SBOM must not contain the path of this directory.
    sed "s|path+file://$PWD#|pkg:cargo/|g" sbom.cdx.json >"$out/sbom.cdx.json"
    rm -f sbom.cdx.json hack/*/sbom.cdx.json
  else
    echo "note: no SBOM, because cargo-cyclonedx is missing: cargo install --locked cargo-cyclonedx"
  fi
fi
sums=$(cd "$out" && sha256sum -- *)
echo "$sums" >"$out/SHA256SUMS"
echo "Release $version is in $out:"
ls -l "$out"
