"""`mesh keys` as real processes: make, list, renew and revoke."""

from __future__ import annotations

import datetime
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.policy.identity.api_keys import authenticate
from inference_mesh.config.keys_file import ApiKey, parse_keys
from tests.support.meshes import ROOT, mesh

NOW = datetime.datetime.now(datetime.UTC)


def keys_in(folder: Path) -> dict[str, ApiKey]:
    return {key.id: key for key in parse_keys((folder / "keys.yaml").read_text())}


def made(folder: Path, *options: str) -> dict[str, Any]:
    ended = mesh("keys", "create", *options, "--json", cwd=folder)
    assert ended.returncode == 0, ended.stderr
    facts: dict[str, Any] = json.loads(ended.stdout)
    return facts


def works(folder: Path, plain: str, *, in_s: float = 0.0) -> bool:
    return authenticate(plain, keys_in(folder), time.time() + in_s) is not None


def test_a_key_is_made_with_its_rights_and_its_end(tmp_path: Path) -> None:
    limits = (
        "--requests-per-second",
        "5",
        "--burst",
        "20",
        "--concurrency",
        "4",
        "--tokens",
        "100000/minute",
    )
    rights = ("--tenant", "acme", "--scope", "infer", "--scope", "admin", "--expires-in", "30d")
    facts = made(tmp_path, *rights, *limits)
    key = keys_in(tmp_path)[facts["id"]]
    assert (key.tenant, key.scopes) == ("acme", ("infer", "admin"))
    assert key.limits is not None
    assert key.limits.tokens is not None
    assert (key.limits.requests_per_second, key.limits.burst, key.limits.concurrency) == (5, 20, 4)
    assert (key.limits.tokens.amount, key.limits.tokens.per) == (100_000, "minute")
    assert key.expires is not None
    now = datetime.datetime.now(datetime.UTC)
    assert abs(key.expires - now - datetime.timedelta(days=30)) < datetime.timedelta(minutes=5)
    assert works(tmp_path, facts["key"])
    assert not works(tmp_path, facts["key"], in_s=31 * 86_400)


def test_a_key_without_options_has_no_limits_and_no_end(tmp_path: Path) -> None:
    facts = made(tmp_path)
    key = keys_in(tmp_path)[facts["id"]]
    assert (key.expires, key.limits, key.tenant) == (None, None, "default")
    assert facts["limits"] == {}


def test_the_secret_is_shown_once_and_alone_on_standard_output(tmp_path: Path) -> None:
    shown = mesh("keys", "create", cwd=tmp_path)
    plain = shown.stdout.strip()
    assert shown.stdout == f"{plain}\n"
    assert plain not in shown.stderr
    secret = plain.rpartition("_")[2]
    listed = mesh("keys", "list", cwd=tmp_path).stdout + mesh("keys", "list", "--json", cwd=tmp_path).stdout
    assert secret not in listed + (tmp_path / "keys.yaml").read_text()
    assert plain.split("_")[1] in listed


def test_a_revoked_key_is_gone_and_the_others_stay(tmp_path: Path) -> None:
    first, second = made(tmp_path, "--tenant", "a"), made(tmp_path, "--tenant", "b")
    ended = mesh("keys", "revoke", first["id"], "--json", cwd=tmp_path)
    assert json.loads(ended.stdout) == {"id": first["id"], "tenant": "a", "revoked": True}
    assert not works(tmp_path, first["key"])
    assert works(tmp_path, second["key"])


def test_a_leaked_key_can_be_revoked_by_its_whole_text(tmp_path: Path) -> None:
    facts = made(tmp_path)
    ended = mesh("keys", "revoke", facts["key"], cwd=tmp_path)
    assert ended.returncode == 0
    assert facts["key"] not in ended.stdout + ended.stderr
    assert "no keys" in ended.stderr
    assert keys_in(tmp_path) == {}


def test_a_rotated_key_has_the_same_rights_and_the_old_one_ends_after_the_overlap(tmp_path: Path) -> None:
    old = made(tmp_path, "--tenant", "acme", "--scope", "admin", "--concurrency", "4")
    ended = mesh("keys", "rotate", old["id"], "--json", cwd=tmp_path)
    new = json.loads(ended.stdout)
    stored = keys_in(tmp_path)
    same = ("tenant", "scopes", "limits")
    assert [getattr(stored[new["id"]], name) for name in same] == [
        getattr(stored[old["id"]], name) for name in same
    ]
    assert stored[new["id"]].expires is None
    assert new["replaces"]["id"] == old["id"]
    assert works(tmp_path, old["key"], in_s=23 * 3600)
    assert not works(tmp_path, old["key"], in_s=25 * 3600)
    assert works(tmp_path, new["key"], in_s=25 * 3600)


def test_without_an_overlap_the_old_key_ends_at_once(tmp_path: Path) -> None:
    old = made(tmp_path)
    new = mesh("keys", "rotate", old["key"], "--overlap", "0s", cwd=tmp_path)
    assert works(tmp_path, new.stdout.strip())
    assert not works(tmp_path, old["key"])
    again = mesh("keys", "rotate", old["id"], cwd=tmp_path)
    assert again.returncode == 2
    assert json.loads(mesh("keys", "list", "--json", cwd=tmp_path).stdout)[0]["expired"] is True


def test_an_overlap_makes_no_key_live_longer(tmp_path: Path) -> None:
    old = made(tmp_path, "--expires-in", "1h")
    assert mesh("keys", "rotate", old["id"], cwd=tmp_path).returncode == 2
    assert mesh("keys", "rotate", old["id"], "--expires-in", "30d", cwd=tmp_path).returncode == 0
    assert not works(tmp_path, old["key"], in_s=2 * 3600)


def test_a_file_written_by_hand_keeps_what_its_keys_say(tmp_path: Path) -> None:
    old = made(tmp_path)
    stored = yaml.safe_load((tmp_path / "keys.yaml").read_text())
    stored["keys"][0].update({"requests_per_second": 2.5, "burst": 7})
    (tmp_path / "keys.yaml").write_text(yaml.safe_dump(stored))
    new = json.loads(mesh("keys", "rotate", old["id"], "--json", cwd=tmp_path).stdout)
    rotated = keys_in(tmp_path)[new["id"]]
    assert (rotated.requests_per_second, rotated.burst) == (2.5, 7)


@pytest.mark.parametrize(
    "command",
    [
        ("create", "--expires-in", "30"),
        ("create", "--expires-in", "-1d"),
        ("create", "--expires-in", "999999999w"),
        ("create", "--tenant", "a b"),
        ("create", "--requests-per-second", "0"),
        ("create", "--requests-per-second", "nan"),
        ("create", "--burst", "5"),
        ("create", "--concurrency", "0"),
        ("create", "--tokens", "100"),
        ("create", "--tokens", "0/minute"),
        ("create", "--tokens", "5/week"),
        ("create", "--file", "no/folder/keys.yaml"),
        ("revoke", "nosuchid"),
        ("rotate", "nosuchid"),
        ("revoke",),
    ],
)
def test_wrong_use_is_told_and_changes_nothing(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "keys.yaml").write_text("keys: []  # mine\n")
    ended = mesh("keys", *command, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "keys.yaml").read_text() == "keys: []  # mine\n"


def test_a_file_that_is_wrong_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("keys: 5\n")
    for command in (("create",), ("list",), ("revoke", "a"), ("rotate", "a")):
        ended = mesh("keys", *command, cwd=tmp_path)
        assert ended.returncode == 2
        assert ended.stderr.startswith("keys.yaml: ")
    assert (tmp_path / "keys.yaml").read_text() == "keys: 5\n"


def test_keys_that_are_made_at_once_are_all_kept(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mesh_cli", "keys", "create", "--file", str(tmp_path / "keys.yaml")]
    makers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    shown = [maker.communicate(timeout=60)[0].strip() for maker in makers]
    assert len(keys_in(tmp_path)) == 4
    assert all(works(tmp_path, plain) for plain in shown)
