#!/usr/bin/env bash
# Runs .tflite files in LiteRT on an emulated ARM64 processor and here, and demands the same integers.
#
#   scripts/arm64_check.sh MODEL.tflite [...]                          # on noise
#   scripts/arm64_check.sh MODEL.tflite --dataset=digits               # on test images, as tools/export_tflite.py
#   scripts/arm64_check.sh MODEL.tflite --images=pixels.npy --count=64 # uint8 (n, height, width, channels), also .npz
#
# The emulator comes from the package registries and is kept in the cache directory; no root is needed.
set -euo pipefail

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)"
exec "$root/.venv/bin/python" "$root/scripts/arm64_check.py" "$@"
