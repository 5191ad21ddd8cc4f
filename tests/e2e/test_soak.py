"""The short form of `make soak`."""

from __future__ import annotations

from pathlib import Path

from tests.bench.hops import start_mesh
from tests.bench.soak import MAX_LEFT_OVER, soak
from tests.support.processes import ProcessGroup

SECONDS = 20.0
MAX_GROWTH_MIB = 8.0


async def test_mixed_load_with_cancels_fails_no_call_and_leaves_nothing_behind(
    group: ProcessGroup, tmp_path: Path
) -> None:
    outcome = await soak(start_mesh(group, tmp_path), SECONDS)
    assert outcome.failures == []
    assert outcome.calls > 200
    for name, usage in outcome.usage.items():
        assert usage.growth_mib() < MAX_GROWTH_MIB, name
        assert usage.files_after - usage.files_before <= MAX_LEFT_OVER, name
