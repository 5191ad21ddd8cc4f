"""Broken configuration under load: the last good one stays, no call notices, a good one is live soon."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from inference_mesh.client import MeshClient
from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import parse_keys
from inference_mesh.config.models_file import parse_models
from inference_mesh.config.tenants_file import parse_tenants
from tests.e2e.faults.conftest import Paced, Scale, entry, write_keys, write_yaml
from tests.support.load import at_concurrency, failures
from tests.support.processes import MeshProcess, http_text_of, metric_sum

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
PARSERS: dict[str, Callable[[str], object]] = {
    "models": parse_models,
    "keys": parse_keys,
    "tenants": parse_tenants,
}
METRICS = {"models": "registry", "keys": "keys", "tenants": "tenants"}
GRAMMAR = (
    "{",
    "}",
    "[",
    "]",
    ":",
    "-",
    "&a",
    "*a",
    "!!int ''",
    "\t",
    "\x00",
    "\n",
    "null",
    "1e999",
    "'",
    "#",
)


def _mutated(text: str, rng: random.Random) -> str:
    """The text with one to three changes of the kinds that people and half-written files make."""
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        kind = rng.randrange(6)
        if kind == 0:
            text = text[:at]
        elif kind == 1:
            text = text[:at] + text[at + rng.randint(1, 20) :]
        elif kind == 2:
            text = text[:at] + rng.choice(GRAMMAR) + text[at:]
        elif kind == 3:
            lines = text.splitlines(keepends=True)
            text = "".join(lines + lines[: rng.randrange(len(lines) + 1)])
        elif kind == 4:
            lines = text.splitlines(keepends=True)
            rng.shuffle(lines)
            text = "".join(lines)
        else:
            text = text.replace(rng.choice(text.split() or ["a"]), rng.choice(("x", "-1", "[]", "")), 1)
    return text


def _is_bad(kind: str, text: str) -> bool:
    """Whether the file is refused: one that is good but says something else may well end calls."""
    try:
        PARSERS[kind](text)
    except ConfigError:
        return True
    return False


async def test_f19_mutations_of_the_three_files_fail_no_call_and_a_good_file_is_live_within_2_s(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    worker = paced.worker(slots=16, service_s=0.005)
    keys = write_keys(tmp_path / "keys.yaml", ["blue"])
    write_yaml(tmp_path / "tenants.yaml", {"tenants": [{"name": "blue", "models": ["chat"]}]})
    files = {kind: tmp_path / f"{kind}.yaml" for kind in PARSERS}
    gateway = paced.gateway(
        tmp_path,
        [entry([worker])],
        *("--keys", str(files["keys"]), "--tenants", str(files["tenants"])),
    )
    good = {kind: file.read_text() for kind, file in files.items()}
    rng = random.Random(20261123)
    mutations = int(scale.of(50, 1000))
    async with MeshClient(gateway.grpc_target, api_key=keys["blue"]) as client:
        await client.infer("chat", SHORT)
        breaking = asyncio.ensure_future(_break(files, good, gateway, rng, mutations))
        outcomes = []
        while not breaking.done():
            outcomes += await at_concurrency(lambda: client.infer("chat", SHORT), clients=4, seconds=1)
        slowest_s = await breaking
    assert failures(outcomes) == []
    assert len(outcomes) > mutations
    assert slowest_s < 2.0


async def _break(
    files: dict[str, Path], good: dict[str, str], gateway: MeshProcess, rng: random.Random, mutations: int
) -> float:
    """Write broken files, and after every tenth one a good one; the slowest of these to be live."""
    slowest_s = 0.0
    for number in range(mutations):
        kind = rng.choice(tuple(files))
        text = _mutated(good[kind], rng)
        while not _is_bad(kind, text):
            text = _mutated(good[kind], rng)
        if number % 2:
            files[kind].write_text(text)  # in place, as an editor does: half of it may be read
        else:
            temporary = files[kind].with_suffix(".new")
            temporary.write_text(text)
            temporary.replace(files[kind])
        await asyncio.sleep(0.02)
        if number % 10 == 9:
            for one, file in files.items():
                file.write_text(good[one] + f"# {number}\n")
            slowest_s = max(slowest_s, await asyncio.to_thread(_until_good, gateway))
    return slowest_s


def _until_good(gateway: MeshProcess) -> float:
    """Seconds until every file is told to be good again."""
    started = time.monotonic()
    while time.monotonic() - started < 10:
        page = http_text_of(f"{gateway.url}/metrics")
        states = [
            metric_sum(page, f"mesh_gateway_{name}_last_reload_successful") for name in METRICS.values()
        ]
        if all(states):
            return time.monotonic() - started
        time.sleep(0.05)
    raise AssertionError("a good file was not live within 10 s")


async def test_f19_a_change_of_a_mounted_folder_is_live_within_2_s_and_never_half(
    paced: Paced, tmp_path: Path, scale: Scale
) -> None:
    worker = paced.worker(slots=16, service_s=0.005)
    mount = tmp_path / "mount"
    mount.mkdir()

    def swap(number: int) -> None:
        """As the kubelet does it: a new folder, and `..data` is moved over to it in one step."""
        folder = mount / f"..{number}"
        folder.mkdir()
        name = f"v{number}"
        document = {"version": 1, "models": [entry([worker], aliases=[name])]}
        (folder / "models.yaml").write_text(yaml.safe_dump(document))
        link = mount / "..data_tmp"
        link.symlink_to(folder.name)
        link.replace(mount / "..data")

    swap(0)
    (mount / "models.yaml").symlink_to("..data/models.yaml")
    gateway = paced.group.gateway(mount / "models.yaml")
    gateway.wait_until_ready()
    async with MeshClient(gateway.grpc_target) as client:
        for number in range(1, int(scale.of(4, 100))):
            swap(number)
            swapped = time.monotonic()
            while f"v{number}" not in (await client.model("chat")).aliases:
                await client.infer("chat", SHORT)
                assert time.monotonic() - swapped < 2.0
