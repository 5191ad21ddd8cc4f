"""What the llama.cpp engine takes from the CPU: against llama.cpp's own programs, and against itself.

Prints a table, and writes `build/bench/engines_llama.json`. The first run builds llama-server and
llama-bench (about 13 CPU-minutes) and makes a model of random weights; both are kept in the cache.
"""

from __future__ import annotations

import argparse
import os
import sys

from tests.bench.engines import llama_latency, llama_limits, llama_loop, llama_prefixes, llama_streams
from tests.bench.engines.llama_build import programs
from tests.bench.report import Figure, print_table, write_report

COMMAND = "python -m tests.bench.engines.llama"
ROUNDS = 4
QUICK_ROUNDS = 1


def measure(rounds: int = ROUNDS) -> list[Figure]:
    """All figures. rounds: of the interleaved ones (about 10 minutes with 4)."""
    programs()
    # The loop is measured in this process: libgomp reads this when it is loaded with llama.cpp.
    os.environ.update(OMP_WAIT_POLICY="passive", GGML_NO_BACKTRACE="1")
    return [
        *llama_streams.measure(rounds),
        *llama_loop.measure(rounds),
        *llama_prefixes.measure(rounds),
        *llama_latency.measure(rounds),
        *llama_limits.measure(),
    ]


def main() -> int:
    """Measure, print, write; 1 if a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round of everything")
    is_quick: bool = parser.parse_args().quick
    figures = measure(QUICK_ROUNDS if is_quick else ROUNDS)
    print_table(
        ["figure", "value", "target", "holds"],
        [[one.figure, f"{one.value:g}", one.target or "-", "yes" if one.holds else "NO"] for one in figures],
    )
    print(f"report: {write_report('engines_llama', figures)}")
    return 0 if all(figure.holds for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
