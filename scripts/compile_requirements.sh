#!/usr/bin/env bash
# Pins what `make setup` installs: reads pyproject.toml and requirements/build.in, writes
# requirements/{dev,llama,build}.txt with the hash of every file that may be installed.
# Needs `uv` (pip install uv). Run it after a change of dependencies, or to take newer versions:
#   scripts/compile_requirements.sh            keeps the pins that still fit
#   scripts/compile_requirements.sh --upgrade  takes the newest that fit
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(command -v uv || true)
[ -n "$uv" ] || uv=.venv/bin/uv
[ -x "$uv" ] || { echo "uv is missing: pip install uv" >&2; exit 2; }

compile() {
  local output=$1
  shift
  echo "$output" >&2
  "$uv" pip compile "$@" --output-file "$output" --universal --python-version 3.11 --generate-hashes \
    --no-header --no-emit-index-url --no-emit-find-links --no-config --quiet
  local title="# Made by scripts/compile_requirements.sh from ${1}; do not edit."
  printf '%s\n%s\n' "$title" "$(grep -vxF "$title" "$output")" >"$output"
}

# llama-cpp-python has only a source distribution: it stands alone, because pip must not build it
# with everything else. What it depends on is in dev.txt.
compile requirements/dev.txt pyproject.toml --extra dev --no-emit-package llama-cpp-python "$@"
compile requirements/llama.txt pyproject.toml --extra worker-llama --no-deps --no-annotate "$@"
compile requirements/build.txt requirements/build.in "$@"
