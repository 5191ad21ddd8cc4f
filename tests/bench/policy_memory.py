"""How much memory the policy holds, in a process of its own that `policy` starts.

Prints one JSON object: resident MiB before, with 10,000 keys and 1,000 models loaded, and as
100,000 calls go over them.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import tempfile
from pathlib import Path

import psutil

from inference_mesh.telemetry import configure_logging
from tests.bench.policy_scene import Scene, SceneSize

SIZE = SceneSize(keys=10_000, tenants=200, models=1_000, replicas=1)
CALLS = 100_000
SAMPLE_EVERY = 2_500


def main() -> None:
    """Load, call, print."""
    configure_logging("bench", "error")
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(asyncio.run(_measure(Path(folder)))))


async def _measure(folder: Path) -> dict[str, object]:
    before = _resident_mib()
    scene = Scene(folder, SIZE, None)
    async with scene.opened():
        loaded = _resident_mib()
        during = []
        for number in range(CALLS):
            await scene.call(scene.asker(number))
            if number % SAMPLE_EVERY == SAMPLE_EVERY - 1:
                await asyncio.sleep(0.01)
                during.append(_resident_mib())
        return {"before": before, "loaded": loaded, "during": during}


def _resident_mib() -> float:
    gc.collect()
    return float(psutil.Process(os.getpid()).memory_info().rss) / 2**20


if __name__ == "__main__":
    main()
