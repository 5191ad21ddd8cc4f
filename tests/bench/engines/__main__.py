"""`make bench-engines`: both engines beside the raw limit and their peers, in build/bench/engines.json."""

from __future__ import annotations

import argparse
import dataclasses

from tests.bench.engines import llama, onnx
from tests.bench.report import print_table, write_report

COMMAND = "make bench-engines"


def main() -> None:
    """Measure, print and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, sentences and tokens")
    is_quick: bool = parser.parse_args().quick
    found = [
        *onnx.measure(onnx.QUICK if is_quick else onnx.FULL),
        *llama.measure(llama.QUICK_ROUNDS if is_quick else llama.ROUNDS),
    ]
    figures = [dataclasses.replace(figure, command=COMMAND) for figure in found]
    print_table(
        ["figure", "value", "target", "holds"],
        [
            [one.figure, f"{one.value:.4g}", one.target or "-", "yes" if one.holds else "NO"]
            for one in figures
        ],
    )
    print(f"report: {write_report('engines', figures)}")


if __name__ == "__main__":
    main()
