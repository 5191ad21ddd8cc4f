"""The search for canaries finds what it is to find: it fails for a process that tells one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from inference_mesh.config.keys_file import new_key
from tests.support import canaries
from tests.support.canaries import MARK, leaks_in, marked
from tests.support.processes import process_group
from tests.support.tokens import claims, ec_key

LINE = '{"event": "call", "key": "k1", "detail": "%s"}\n'


@pytest.mark.parametrize(
    ("what", "canary"),
    [
        ("a user's text", marked("Who are you?")),
        ("an API key", new_key()[0]),
        ("a token", ec_key("one").sign(claims(time.time()))),
    ],
)
def test_a_leak_is_found_and_not_repeated(what: str, canary: str) -> None:
    (leak,) = leaks_in("log", LINE % "fine" + LINE % canary)
    assert (leak.what, leak.line) == (what, 2)
    assert canary not in str(leak)
    with pytest.raises(AssertionError, match=what):
        canaries.check([("log", LINE % canary)])


def test_ids_of_keys_and_of_traces_are_no_leak() -> None:
    _, stored = new_key()
    assert leaks_in("log", LINE % stored.id + LINE % f"{2**127:032x}" + LINE % stored.sha256) == []


def test_a_process_that_tells_a_prompt_fails_its_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="log of leaky"):
        _run_a_leaky_process(tmp_path)


def _run_a_leaky_process(folder: Path) -> None:
    with process_group(folder) as group:
        leaky = group.start(f"no_module_{MARK}", name="leaky")  # Python says that name on its way out
        assert leaky.popen.wait(20) != 0
