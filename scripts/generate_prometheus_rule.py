"""Writes the rules of Prometheus as an object of the Prometheus operator, for kustomize/.

`--check` changes nothing and says whether it is current.
"""

from __future__ import annotations

import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
RULES = ROOT / "observability" / "prometheus" / "rules"
TARGET = ROOT / "kustomize" / "components" / "monitoring-operator" / "prometheus-rule.yaml"
HEAD = "# Made by scripts/generate_prometheus_rule.py from observability/prometheus/rules; do not edit.\n"


def main() -> int:
    """Write the file, or compare; 0 if all is well."""
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text())
        return 0
    if TARGET.exists() and TARGET.read_text() == text():
        return 0
    print(f"{TARGET.relative_to(ROOT)}: not current; run make generate", file=sys.stderr)
    return 1


def text() -> str:
    """The PrometheusRule, as YAML."""
    files = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    document = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "inference-mesh", "namespace": "ai-observability"},
        "spec": {"groups": [group for file in files for group in file["groups"]]},
    }
    return HEAD + yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)


if __name__ == "__main__":
    sys.exit(main())
