"""Broken configuration under load: the last good one stays, no call notices, a good one is live soon."""

from __future__ import annotations

import asyncio
import math
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
from tests.support.load import Outcome, at_concurrency, failures, one_call
from tests.support.processes import MeshProcess, http_text_of, metric_sum

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1800)]

SHORT: dict[str, Any] = {"prompt": "a", "max_tokens": 4, "temperature": 0}
PARSERS: dict[str, Callable[[str], object]] = {
    "models": parse_models,
    "keys": parse_keys,
    "tenants": parse_tenants,
}
METRICS = {"models": "registry", "keys": "keys", "tenants": "tenants"}
"""How the gateway's metrics name each file."""
STATES_PER_ROUND = 3
TOO_LARGE = "#" * 10_000_000
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
    breaker = _Breaker(files, gateway, entry([worker]))
    async with MeshClient(gateway.grpc_target, api_key=keys["blue"]) as client:
        await client.infer("chat", SHORT)
        breaking = asyncio.ensure_future(breaker.run(client, mutations=int(scale.of(50, 1000))))
        outcomes = []
        while not breaking.done():
            outcomes += await at_concurrency(lambda: client.infer("chat", SHORT), clients=4, seconds=0.5)
        await breaking
    assert failures(outcomes) == []
    assert len(outcomes) > 100
    assert breaker.slowest_s < 2.0


class _Breaker:
    """Breaks all three files again and again, and in between writes good ones, which must be live soon.

    slowest_s: until a good registry was live and every file was told to be good.
    """

    def __init__(self, files: dict[str, Path], gateway: MeshProcess, model: dict[str, Any]) -> None:
        self._files = files
        self._good = {kind: file.read_text() for kind, file in files.items()}
        self._gateway = gateway
        self._model = model
        self._rng = random.Random(20261123)
        self.slowest_s = 0.0

    async def run(self, client: MeshClient, *, mutations: int) -> None:
        """First what files are without a mutation, then so many mutations, each seen and refused."""
        for break_file in (_emptied, _too_large, _deleted):
            await self._break_all(break_file)
        await self._mend(client, "v0")
        rounds = math.ceil(mutations / len(self._files) / STATES_PER_ROUND)
        for number in range(rounds):
            for _ in range(STATES_PER_ROUND):
                await self._break_all(self._mutate)
            await self._mend(client, f"v{number + 1}")

    async def _break_all(self, break_file: Callable[[str, Path], None]) -> None:
        """Break each file, and wait until the gateway has read and refused all of them."""
        before = await asyncio.to_thread(self._refusals)
        for kind, file in self._files.items():
            break_file(kind, file)
        started = time.monotonic()
        while any(
            now <= then for now, then in zip(await asyncio.to_thread(self._refusals), before, strict=True)
        ):
            assert time.monotonic() - started < 10, "a broken file was not told"
            await asyncio.sleep(0.02)
        assert await asyncio.to_thread(self._states) == 0

    def _mutate(self, kind: str, file: Path) -> None:
        text = self._good[kind]
        was = file.read_text() if file.exists() else ""
        while text == was or not _is_bad(kind, text):
            text = _mutated(self._good[kind], self._rng)
        if self._rng.random() < 0.5 and _is_bad(kind, ""):
            file.write_text(text)  # in place, as an editor does: nothing or half of it may be read
        else:
            _replace(file, text)

    async def _mend(self, client: MeshClient, alias: str) -> None:
        """Good files, the registry with a new alias; waits until it can be called by it."""
        for kind in ("keys", "tenants"):
            _replace(self._files[kind], self._good[kind])
        write_yaml(self._files["models"], {"version": 1, "models": [self._model | {"aliases": [alias]}]})
        started = time.monotonic()
        while (await one_call(lambda: client.infer(alias, SHORT))).error is not None or (
            await asyncio.to_thread(self._states) < len(self._files)
        ):
            assert time.monotonic() - started < 10, "a good file was not live"
            await asyncio.sleep(0.02)
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)

    def _states(self) -> int:
        """How many of the files were good when they were last read."""
        page = http_text_of(f"{self._gateway.url}/metrics")
        names = (f"mesh_gateway_{name}_last_reload_successful" for name in METRICS.values())
        return int(sum(metric_sum(page, name) for name in names))

    def _refusals(self) -> list[float]:
        """How often each file was refused."""
        page = http_text_of(f"{self._gateway.url}/metrics")
        names = (f"mesh_gateway_{METRICS[kind]}_reloads_total" for kind in self._files)
        return [metric_sum(page, name, result="failure") for name in names]


def _replace(file: Path, text: str) -> None:
    temporary = file.with_suffix(".new")
    temporary.write_text(text)
    temporary.replace(file)


def _emptied(kind: str, file: Path) -> None:
    """Nothing where that is refused; a file without keys or tenants is good, and lets nobody in."""
    _replace(file, "" if _is_bad(kind, "") else "{")


def _too_large(kind: str, file: Path) -> None:
    file.write_text(TOO_LARGE)


def _deleted(kind: str, file: Path) -> None:
    file.unlink()


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
    is_over = asyncio.Event()
    async with MeshClient(gateway.grpc_target) as client:
        load = asyncio.ensure_future(_called_until(is_over, client))
        for number in range(1, int(scale.of(4, 100))):
            swap(number)
            swapped = time.monotonic()
            while (aliases := list((await client.model("chat")).aliases)) != [f"v{number}"]:
                assert aliases == [f"v{number - 1}"], "neither the old one nor the new one"
                assert time.monotonic() - swapped < 2.0
                await asyncio.sleep(0.02)
        is_over.set()
        outcomes = await load
    assert failures(outcomes) == []
    assert len(outcomes) > 50


async def _called_until(is_over: asyncio.Event, client: MeshClient) -> list[Outcome]:
    outcomes = []
    while not is_over.is_set():
        outcomes.append(await one_call(lambda: client.infer("chat", SHORT)))
    return outcomes
