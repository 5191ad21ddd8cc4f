#!/usr/bin/env bash
# Installs what this project needs of a Debian-like system and cannot bring itself. Says what and why;
# does nothing, and needs no rights, if all is there.
set -euo pipefail

missing=()
need() { # package, why, command that succeeds if it is there
  local package=$1 why=$2
  shift 2
  "$@" >/dev/null 2>&1 && return
  echo "MISSING: $package ($why)" >&2
  missing+=("$package")
}

python_that_fits() {
  local python
  for python in "${PYTHON:-python3}" python3.11 python3.12 python3.13 python3.14; do
    "$python" -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && return
  done
  return 1
}

has_headers() {
  "${PYTHON:-python3}" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())'
}

need make "runs this project's targets" make --version
need git "tells which files belong to the project" git --version
need gcc "compiles llama.cpp" gcc --version
need g++ "compiles llama.cpp" g++ --version
need python3-dev "Python's headers, to compile the policy" has_headers
need redis-server "the tests of limits that gateways share run a real one" redis-server --version
need prometheus "its promtool checks the alerts, and a test has it fire them" promtool --version
need faketime "the tests of clocks that jump" faketime --version
need nodejs "the tests of clients run one in Node" node --version
need npm "installs the packages of that client" npm --version
need curl "a test asks as its users would" curl --version
need python3-venv "Python 3.11 or newer that can make a virtual environment" python_that_fits

[ ${#missing[@]} -eq 0 ] && exit 0
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
  echo "Install these yourself: ${missing[*]}" >&2
  exit 1
fi
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
python_that_fits || { echo "This system has no Python 3.11 or newer." >&2; exit 1; }
