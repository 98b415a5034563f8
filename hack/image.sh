#!/usr/bin/env bash
# Builds the operator as a static binary, and the image from it with the Dockerfile.
#
#   [ARCH=amd64|arm64] [PROFILE=test-image] hack/image.sh IMAGE
#
# Tests use PROFILE=test-image, which is not optimized for size and builds in a fraction of the time.
# An architecture other than the machine's needs its Rust target and a linker (docs/operations.md).
set -euo pipefail

image=${1:?usage: [ARCH=amd64|arm64] hack/image.sh IMAGE}
case "${ARCH:-$(uname -m)}" in
  amd64 | x86_64) arch=amd64 machine=x86_64 ;;
  arm64 | aarch64) arch=arm64 machine=aarch64 ;;
  *)
    echo "error: unknown architecture ${ARCH:-$(uname -m)}. Remedy: set ARCH to amd64 or arm64" >&2
    exit 1
    ;;
esac
target=$machine-unknown-linux-gnu
if [ "$machine" != "$(uname -m)" ]; then
  # Debian's name of the linker, unless the variable is set.
  linker=CARGO_TARGET_$(tr a-z- A-Z_ <<<"$target")_LINKER
  export "$linker=${!linker:-$machine-linux-gnu-gcc}"
fi

profile=${PROFILE:-release}
echo "Building a static binary for $target ..."
RUSTFLAGS="-C target-feature=+crt-static" cargo build --profile "$profile" --locked --target "$target"
mkdir -p target/image
cp "target/$target/$profile/e6-operator" target/image/e6-operator
ls -l target/image/e6-operator
# The image holds nothing but the program, and docs/operations.md states its size.
size=$(stat -c %s target/image/e6-operator)
if [ "$profile" = release ] && [ "$size" -gt 15000000 ]; then
  echo "error: the program of a release has $size bytes, more than 15000000. Remedy: find the dependency or code that grew, or raise the limit with a reason" >&2
  exit 1
fi

if ! command -v buildah >/dev/null && ! docker info >/dev/null 2>&1 && ! command -v podman >/dev/null; then
  hack/install-package.sh buildah || true
fi
for builder in buildah docker podman; do
  if command -v "$builder" >/dev/null 2>&1; then
    case "$builder" in
      buildah) exec buildah --storage-driver "${STORAGE_DRIVER:-vfs}" build --isolation chroot --platform "linux/$arch" -t "$image" -f Dockerfile . ;;
      docker) docker info >/dev/null 2>&1 || continue; exec docker build --platform "linux/$arch" -t "$image" . ;;
      podman) exec podman build --platform "linux/$arch" -t "$image" . ;;
    esac
  fi
done
echo "error: no image builder found. Remedy: install buildah, podman, or docker with a running engine. The binary is in target/image/" >&2
exit 1
