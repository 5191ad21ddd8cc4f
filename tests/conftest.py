"""How generated input is run: a short form in every test run, a long one by `make fuzz`."""

from __future__ import annotations

import signal
import sys

import pytest
from hypothesis import HealthCheck, settings

EXAMPLES = 100
LONG_EXAMPLES = 100 * EXAMPLES

# No deadline: a busy machine is not a failure of the code under test.
settings.register_profile(
    "short", max_examples=EXAMPLES, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("long", settings.get_profile("short"), max_examples=LONG_EXAMPLES)
settings.load_profile("short")


# What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    """`make faults` runs the fault tests in full; every other run has their short form."""
    parser.addoption("--full-faults", action="store_true", help="run the fault tests in full length")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what has generated input as `fuzz`, and what starts the whole mesh as `e2e`."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
            item.add_marker(pytest.mark.fuzz)
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)


def pytest_unconfigure() -> None:
    """Close what llama-cpp-python leaves open, so that pytest's summary is the last line printed."""
    opened = sys.modules.get("llama_cpp._utils")
    for name in ("outnull_file", "errnull_file"):
        file = getattr(opened, name, None)
        if file is not None:
            file.close()
