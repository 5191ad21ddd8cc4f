"""What a mesh must not have left once its callers are gone: running calls, taken slots, open files."""

from __future__ import annotations

from collections.abc import Sequence

import httpx
import psutil

from tests.support.processes import MeshProcess, http_text_of, metric_sum, wait_until

MORE_FILES = 3
"""Open files that a gateway may have more than before: connections that are about to close."""
GATEWAY_GAUGES = ("mesh_gateway_in_flight", "mesh_gateway_queue_depth")


class Leftovers:
    """Owns what a gateway had open before a test's load came."""

    def __init__(self, gateway: MeshProcess) -> None:
        self._gateway = gateway
        self._process = psutil.Process(gateway.pid)
        self._files_before = self._process.num_fds()

    def wait_until_none(self, paced: Sequence[MeshProcess], limit_s: float = 5.0) -> None:
        """Wait until nothing is left. paced: the paced workers that still run."""
        for worker in paced:
            wait_until(lambda one=worker: calls_at(one) == 0, f"{worker.name} works for nobody", limit_s)
        wait_until(lambda: self._calls() == 0, "the gateway has no call", limit_s)
        wait_until(lambda: self._more_files() <= MORE_FILES, "the gateway closed its files", limit_s)

    def _calls(self) -> float:
        page = http_text_of(f"{self._gateway.url}/metrics")
        return sum(metric_sum(page, name) for name in GATEWAY_GAUGES)

    def _more_files(self) -> int:
        return self._process.num_fds() - self._files_before


def calls_at(paced: MeshProcess) -> int:
    """Calls that a paced worker has: in its slots, or waiting for one."""
    stats = httpx.get(f"{paced.url}/stats").json()
    return int(stats["running"]) + int(stats["waiting"])


def calls_started(paced: MeshProcess) -> int:
    """Calls that a paced worker began to work on since its start."""
    return int(httpx.get(f"{paced.url}/stats").json()["started"])
