#!/usr/bin/env bash
# Installs what building llama.cpp needs and a fresh machine may lack. Does nothing if all is there.
set -euo pipefail

missing=()
need() { # command, package, why
  command -v "$1" >/dev/null 2>&1 && return
  echo "missing: $1 ($3); package $2"
  missing+=("$2")
}
need gcc gcc "compiles llama.cpp's C"
need g++ g++ "compiles llama.cpp's C++"
need make make "runs this project's targets"

[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null 2>&1; then
  echo "install these yourself: ${missing[*]}" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
