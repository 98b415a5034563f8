#!/usr/bin/env bash
# Builds the operator as a static binary and puts it into an image by the Dockerfile.
set -euo pipefail

image=${1:?usage: hack/image.sh IMAGE}
target="$(uname -m)-unknown-linux-gnu"

echo "Building a static binary for $target ..."
RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target "$target"
mkdir -p target/image
cp "target/$target/release/e6-operator" target/image/e6-operator
ls -l target/image/e6-operator

if ! command -v buildah >/dev/null && ! docker info >/dev/null 2>&1 && ! command -v podman >/dev/null; then
  hack/install-package.sh buildah || true
fi
for builder in buildah docker podman; do
  if command -v "$builder" >/dev/null 2>&1; then
    case "$builder" in
      buildah) exec buildah --storage-driver "${STORAGE_DRIVER:-vfs}" build --isolation chroot -t "$image" -f Dockerfile . ;;
      docker) docker info >/dev/null 2>&1 || continue; exec docker build -t "$image" . ;;
      podman) exec podman build -t "$image" . ;;
    esac
  fi
done
echo "No image builder was found: install buildah, podman, or docker with a running engine. The binary is in target/image/." >&2
exit 1
