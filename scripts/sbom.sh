#!/usr/bin/env bash
# Writes a bill of materials (CycloneDX JSON) for each image to build/sbom, from the requirements that the
# Dockerfile installs. The tool has an environment of its own, pinned by hash, beside the project's.
#   scripts/sbom.sh [IMAGE…]
set -euo pipefail
cd "$(dirname "$0")/.."

venv=build/sbom/venv
wanted=$(sha256sum requirements/sbom.txt)
if [ "$(cat "$venv/made-from" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$venv"
  "${PYTHON:-python3}" -m venv "$venv"
  "$venv/bin/python" -m pip --disable-pip-version-check install --quiet --only-binary :all: --require-hashes \
    --requirement requirements/sbom.txt
  printf '%s\n' "$wanted" >"$venv/made-from"
fi
exec "$venv/bin/python" -m scripts.write_sbom "$@"
