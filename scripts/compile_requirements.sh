#!/usr/bin/env bash
# Pins what `make setup`, the images and `make sbom` install: reads pyproject.toml and requirements/*.in,
# writes requirements/*.txt with the hash of every file that may be installed.
# Needs `uv` (pip install uv). Run it after a change of dependencies, or to take newer versions:
#   scripts/compile_requirements.sh            keeps the pins that still fit
#   scripts/compile_requirements.sh --upgrade  takes the newest that fit
set -euo pipefail
cd "$(dirname "$0")/.."

uv=$(command -v uv || true)
[ -n "$uv" ] || uv=.venv/bin/uv
[ -x "$uv" ] || { echo "uv is missing: pip install uv" >&2; exit 2; }

compile() { # output, source, further arguments of uv
  local output=$1 source=$2
  shift 2
  echo "$output" >&2
  "$uv" pip compile "$source" "$@" --output-file "$output" --universal --python-version 3.11 \
    --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --no-config --quiet
  [ "$source" != - ] || source=pyproject.toml
  local title="# Made by scripts/compile_requirements.sh from $source; do not edit."
  printf '%s\n%s\n' "$title" "$(grep -vxF "$title" "$output")" >"$output"
}

# llama-cpp-python has only a source distribution: it stands alone, because it is built with flags of
# our own (scripts/llama_wheel.py). What it depends on is in dev.txt.
compile requirements/dev.txt pyproject.toml --extra dev --no-emit-package llama-cpp-python "$@"
grep -om1 'llama-cpp-python==[0-9.]*' pyproject.toml |
  compile requirements/llama.txt - --no-deps --no-annotate "$@"
compile requirements/build.txt requirements/build.in "$@"

# One file for each image, with the versions that dev.txt has and the tests ran with.
image() { # name, further arguments of uv
  local name=$1
  shift
  compile "requirements/$name.txt" pyproject.toml --constraints requirements/dev.txt --no-annotate \
    --no-emit-package llama-cpp-python "$@"
}
for name in gateway rest-bridge worker-llama worker-onnx worker-onnx-gpu models; do
  image "$name" --extra "$name" "$@"
done
image policy requirements/policy.in --extra gateway "$@"
compile requirements/sbom.txt requirements/sbom.in "$@"

# The other servers that benches measure beside ours, each in an environment of its own.
for source in requirements/peers/*.in; do
  compile "${source%.in}.txt" "$source" "$@"
done
