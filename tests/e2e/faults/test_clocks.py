"""The wall clock jumps: limits, time limits and measured times do not."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from inference_mesh.client import MeshClient
from tests.e2e.faults.conftest import Paced, entry, write_keys, write_yaml
from tests.support.load import at_rate, one_call

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
DAY_S = 86_400


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_f20_a_jump_of_the_clock_changes_no_rate_and_no_measured_time(
    paced: Paced, tmp_path: Path, jump_s: int
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("+0")
    worker = paced.worker(slots=16, service_s=0.005)
    keys = write_keys(tmp_path / "keys.yaml", ["blue"])
    limits = {"requests_per_second": 20, "burst": 5}
    write_yaml(tmp_path / "tenants.yaml", {"tenants": [{"name": "blue", "limits": limits}]})
    models = write_yaml(tmp_path / "models.yaml", {"version": 1, "models": [entry([worker])]})
    gateway = paced.group.start(
        "gateway",
        *("--models", str(models), "--grpc-port", "0", "--http-port", "0"),
        *("--keys", str(tmp_path / "keys.yaml"), "--tenants", str(tmp_path / "tenants.yaml")),
        environment=_faked_clock(clock),
    )
    gateway.wait_until_ready()
    async with MeshClient(gateway.grpc_target, api_key=keys["blue"]) as client:
        assert (await one_call(lambda: client.infer("chat", SHORT))).error is None
        started = time.monotonic()
        before = await at_rate(lambda: client.infer("chat", SHORT), per_s=60, seconds=1)
        clock.write_text(f"{jump_s:+d}")
        after = await at_rate(lambda: client.infer("chat", SHORT), per_s=60, seconds=1)
        elapsed_s = time.monotonic() - started
    admitted = sum(one.error is None for one in (*before, *after))
    assert 20 <= admitted <= 5 + 20 * elapsed_s
    assert all(one.is_refused for one in (*before, *after) if one.error is not None)
    logged = [json.loads(line) for line in gateway.log_text().splitlines() if line.startswith("{")]
    told = [datetime.datetime.fromisoformat(line["time"]) for line in logged]
    assert (told[-1] - told[0]).total_seconds() == pytest.approx(jump_s, abs=60), "the clock jumped"
    durations = [line["duration_s"] for line in logged if "duration_s" in line]
    assert len(durations) >= 100
    assert min(durations) >= 0
    assert max(durations) < 60


def _faked_clock(clock: Path) -> dict[str, str]:
    """Environment in which a process's wall clock is off by what a file says."""
    library = subprocess.run(
        ["faketime", "now", "printenv", "LD_PRELOAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    return {
        **os.environ,
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
