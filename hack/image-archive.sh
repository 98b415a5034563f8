#!/usr/bin/env bash
# Writes an image of hack/image.sh to a docker archive, for import on a machine without a registry.
set -euo pipefail

image=${1:?usage: hack/image-archive.sh IMAGE FILE}
file=${2:?usage: hack/image-archive.sh IMAGE FILE}
rm -f "$file"
if command -v buildah >/dev/null 2>&1; then
  exec buildah --storage-driver "${STORAGE_DRIVER:-vfs}" push -q "$image" "docker-archive:$file:$image"
fi
for engine in docker podman; do
  if command -v "$engine" >/dev/null 2>&1 && "$engine" info >/dev/null 2>&1; then exec "$engine" save -o "$file" "$image"; fi
done
echo "error: no image builder found. Remedy: install buildah, podman, or docker with a running engine" >&2
exit 1
