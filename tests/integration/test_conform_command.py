"""`mesh conform` against a bridge and a fake gateway in this process: options, reports and exit codes."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.support.bridge import RunningBridge, running_bridge

HEALTH = ("--suite", "oip-rest", "--check", "a-server-is-live")
BROKEN = ("--suite", "oip-rest", "--check", "metadata-describes-each-tensor", "--tensors", "nobody")


async def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `mesh conform`."""
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "mesh_cli", "conform", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(60):
        output, complaints = await program.communicate()
    return program.returncode or 0, output.decode(), complaints.decode()


def url_of(bridge: RunningBridge) -> str:
    """Where the bridge listens, with the slash at the end that people leave there."""
    return f"{bridge.http.base_url}/"


async def test_what_holds_is_exit_0_and_told_in_three_forms(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    async with running_bridge() as bridge:
        code, output, complaints = await run(url_of(bridge), *HEALTH, "--json", "--junit", str(report))
        assert code == 0, complaints
        document = json.loads(output)
        table = await run(url_of(bridge), *HEALTH)
    assert document["counts"] == {"holds": 1, "breaks": 0, "skipped": 0}
    [finding] = document["findings"]
    assert (finding["suite"], finding["check"]) == ("oip-rest", "a-server-is-live")
    assert finding["verdict"] == "holds"
    [suite] = ElementTree.parse(report).getroot()  # noqa: S314 - our own file
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == ("oip-rest", "1", "0")
    assert table[0] == 0
    assert "1 holds, 0 breaks, 0 skipped" in table[1]


async def test_a_breach_is_exit_1_and_a_failure_for_ci(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    async with running_bridge() as bridge:
        code, output, _ = await run(url_of(bridge), *BROKEN, "--json", "--junit", str(report))
    assert code == 1
    [finding] = json.loads(output)["findings"]
    assert finding["verdict"] == "breaks"
    [failure] = ElementTree.parse(report).getroot().iter("failure")  # noqa: S314 - our own file
    assert failure.get("message") == finding["detail"]
    assert failure.text == finding["claim"]


async def test_a_protocol_that_is_not_spoken_is_left_out_unless_it_is_named() -> None:
    async with running_bridge() as bridge:
        target = bridge.gateway.target
        left_out = await run(target, "--check", "health-check-of-the-server", "--json")
        named = await run(target, "--suite", "oip-grpc", "--check", "server-is-live", "--json")
    assert [one["suite"] for one in json.loads(left_out[1])["findings"]] == ["native"]
    assert "oip-grpc: not spoken there" in left_out[2]
    assert named[0] == 1
    assert json.loads(named[1])["counts"]["breaks"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("ftp://somewhere",), "http://host:port"),
        (("127.0.0.1",), "host:port"),
        (("127.0.0.1:1", "127.0.0.1:2"), "two gRPC endpoints"),
        (("127.0.0.1:1", "--suite", "openai"), "--suite openai needs an endpoint of the form http://"),
        (("127.0.0.1:1", "--tls-name", "x"), "--tls-ca"),
    ],
)
async def test_wrong_options_are_one_line_and_exit_2(arguments: tuple[str, ...], said: str) -> None:
    code, output, complaints = await run(*arguments)
    assert (code, output, complaints.count("\n")) == (2, "", 1)
    assert said in complaints


async def test_a_name_that_no_check_has_is_exit_2() -> None:
    async with running_bridge() as bridge:
        code, _, complaints = await run(url_of(bridge), "--suite", "openai", "--check", "nothing-*")
    assert code == 2
    assert "--list" in complaints


@pytest.mark.parametrize("endpoint", ["127.0.0.1:9", "http://127.0.0.1:9"])
async def test_nobody_there_is_exit_3(endpoint: str) -> None:
    code, _, complaints = await run(endpoint, "--timeout", "1")
    assert (code, complaints.count("\n")) == (3, 1)


async def test_no_endpoint_and_no_mesh_is_exit_3(tmp_path: Path) -> None:
    code, _, complaints = await run("--state-dir", str(tmp_path))
    assert code == 3
    assert "mesh up" in complaints


async def test_the_list_has_every_suite_and_asks_nobody() -> None:
    code, output, _ = await run("--list")
    assert code == 0
    assert {line.partition("/")[0] for line in output.splitlines()} == {
        "native",
        "oip-grpc",
        "oip-rest",
        "openai",
    }
