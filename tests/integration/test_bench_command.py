"""`mesh bench` against a gateway and a bridge in this process."""

from __future__ import annotations

import asyncio
import json
import sys

import pytest

from tests.support.bridge import running_bridge


async def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mesh bench`."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_cli", "bench", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, complaints = await program.communicate()
    return program.returncode or 0, output.decode(), complaints.decode()


@pytest.mark.parametrize("dialect", ["native", "infer", "openai"])
async def test_a_load_by_each_dialect_is_answered_and_told_as_json(dialect: str) -> None:
    async with running_bridge() as bridge:
        url = str(bridge.http.base_url)
        told = ("--target", bridge.gateway.target, "--url", url, "-d", dialect, "-n", "12", "--json")
        code, output, complaints = await run("chat", *told, "--stream")
    assert code == 0, complaints
    document = json.loads(output)
    assert (document["calls"], document["answered"], document["errors"]) == (12, 12, {})
    assert document["time_to_first_token_s"]["p50"] > 0
    assert document["completion_tokens_per_s"] > 0


async def test_failures_are_counted_by_name_and_none_answered_is_exit_1() -> None:
    async with running_bridge() as bridge:
        told = ("--target", bridge.gateway.target, "--url", "http://127.0.0.1:1", "-d", "infer", "-n", "3")
        code, output, complaints = await run("chat", *told, "--json")
    assert code == 1
    assert json.loads(output)["errors"] == {"ConnectError": 3}
    assert complaints.strip() == "error: no call was answered"


async def test_an_unknown_model_is_one_line() -> None:
    async with running_bridge() as bridge:
        code, _, complaints = await run("nobody", "--target", bridge.gateway.target)
    assert code == 1
    assert complaints.count("\n") == 1
    assert "NOT_FOUND" in complaints
