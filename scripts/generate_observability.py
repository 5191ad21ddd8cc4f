"""Writes the rules of Prometheus and the dashboards of Grafana that observability/ makes.

`--check` changes nothing and says whether they are current.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from observability.dashboards import dashboard_files
from observability.rules import rule_files

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "observability" / "prometheus" / "rules"
DASHBOARDS = ROOT / "observability" / "grafana" / "dashboards"


def main() -> int:
    """Write the files, or compare; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="change nothing; exit 1 if a file is not current"
    )
    options = parser.parse_args()
    if not options.check:
        _write(files())
        return 0
    stale = differences()
    for name in stale:
        print(f"{name}: not current; run make generate", file=sys.stderr)
    return 1 if stale else 0


def files() -> dict[Path, str]:
    """The generated files."""
    rules = {RULES / name: text for name, text in rule_files().items()}
    return rules | {DASHBOARDS / name: text for name, text in dashboard_files().items()}


def differences() -> list[str]:
    """Committed files that are missing, not current, or not generated any more."""
    wanted = files()
    there = {*RULES.iterdir(), *DASHBOARDS.iterdir()}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    return sorted(path.relative_to(ROOT).as_posix() for path in {*stale, *(there - wanted.keys())})


def _write(texts: dict[Path, str]) -> None:
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
