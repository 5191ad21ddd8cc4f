"""The wall clock jumps: limits, time limits and measured times do not; the ends of tokens do."""

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
from tests.support.canaries import marked
from tests.support.load import at_rate, one_call
from tests.support.processes import MeshProcess
from tests.support.tokens import AUDIENCE, ISSUER, claims, jwks, rsa_key

pytestmark = pytest.mark.faults

SHORT: dict[str, Any] = {"prompt": marked("a"), "max_tokens": 4, "temperature": 0}
DAY_S = 86_400
KEY = rsa_key("one")


@pytest.mark.parametrize("jump_s", [DAY_S, -DAY_S])
async def test_f20_a_jump_of_the_clock_changes_no_rate_and_no_measured_time(
    paced: Paced, tmp_path: Path, jump_s: int
) -> None:
    worker = paced.worker(slots=16, service_s=0.005)
    keys = write_keys(tmp_path / "keys.yaml", ["blue"])
    limits = {"requests_per_second": 20, "burst": 5}
    write_yaml(tmp_path / "tenants.yaml", {"tenants": [{"name": "blue", "limits": limits}]})
    gateway = _gateway(paced, tmp_path, [entry([worker])], "--keys", str(tmp_path / "keys.yaml"))
    async with MeshClient(gateway.grpc_target, api_key=keys["blue"]) as client:
        assert (await one_call(lambda: client.infer("chat", SHORT))).error is None
        started = time.monotonic()
        before = await at_rate(lambda: client.infer("chat", SHORT), per_s=60, seconds=1)
        _jump(tmp_path, jump_s)
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


@pytest.mark.parametrize(
    ("jump_s", "known_is_good", "unknown_is_good"),
    [
        # What was verified is believed until its end: a clock that goes back asks nothing anew.
        pytest.param(-DAY_S, True, False, id="a day before it begins"),
        pytest.param(-20, True, True, id="before it begins, within the leeway"),
        pytest.param(660, True, True, id="after its end, within the leeway"),
        pytest.param(720, False, False, id="after its end and the leeway"),
        pytest.param(DAY_S, False, False, id="a day after it began"),
    ],
)
async def test_f20_a_token_is_good_by_the_wall_clock_wherever_it_jumps(
    paced: Paced, tmp_path: Path, jump_s: int, known_is_good: bool, unknown_is_good: bool
) -> None:
    issuer = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_file": "keys.json", "leeway_s": 60}
    (tmp_path / "keys.json").write_text(jwks(KEY))
    write_yaml(tmp_path / "tenants.yaml", {"tenants": [{"name": "acme"}], "issuers": [issuer]})
    gateway = _gateway(paced, tmp_path, [entry([paced.worker()])])
    now_s = time.time()
    known, unknown = (KEY.sign(claims(now_s, jti=name, exp=now_s + 630)) for name in ("known", "unknown"))
    assert await _is_believed(gateway, known)
    _jump(tmp_path, jump_s)
    assert await _is_believed(gateway, known) is known_is_good
    assert await _is_believed(gateway, unknown) is unknown_is_good
    _jump(tmp_path, 0)
    assert await _is_believed(gateway, known)


async def _is_believed(gateway: MeshProcess, token: str) -> bool:
    async with MeshClient(gateway.grpc_target, api_key=token) as client:
        error = (await one_call(lambda: client.infer("chat", SHORT))).error
    assert error is None or error.reason == "UNAUTHENTICATED"
    return error is None


def _gateway(paced: Paced, folder: Path, entries: list[dict[str, Any]], *arguments: str) -> MeshProcess:
    """A gateway whose wall clock `_jump` moves; its tenants are in the folder already."""
    _jump(folder, 0)
    models = write_yaml(folder / "models.yaml", {"version": 1, "models": entries})
    gateway = paced.group.start(
        "gateway",
        *("--models", str(models), "--grpc-port", "0", "--http-port", "0"),
        *("--tenants", str(folder / "tenants.yaml"), *arguments),
        environment=_faked_clock(folder / "clock"),
    )
    gateway.wait_until_ready()
    return gateway


def _jump(folder: Path, seconds: int) -> None:
    """Have the gateway's wall clock so many seconds ahead; in one step, as it is read all the time."""
    fresh = folder / "clock.new"
    fresh.write_text(f"{seconds:+d}")
    fresh.replace(folder / "clock")


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
