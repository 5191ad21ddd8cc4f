"""Which sources the compiled policy is used for: the very ones that it was made from."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from gateway import compiled


def manifest(folder: Path, **changed: str) -> Path:
    name = "gateway/policy/facts.py"
    digests = {"python": sys.version, "mypy": "1", name: compiled.digest_of(name), **changed}
    (folder / compiled.MANIFEST).write_text(json.dumps(digests))
    return folder


def test_what_was_made_of_these_sources_fits(tmp_path: Path) -> None:
    assert compiled.fits(manifest(tmp_path))


def test_nothing_fits_where_nothing_was_compiled(tmp_path: Path) -> None:
    assert not compiled.fits(tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"gateway/policy/facts.py": "another"}, {"gateway/policy/gone.py": "one"}, {"python": "3.99"}],
    ids=["edited", "removed", "another Python"],
)
def test_what_was_made_of_other_sources_does_not_fit(tmp_path: Path, changed: dict[str, str]) -> None:
    assert not compiled.fits(manifest(tmp_path, **changed))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"python": 3}'])
def test_a_damaged_manifest_fits_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / compiled.MANIFEST).write_text(text)
    assert not compiled.fits(tmp_path)


def test_the_switch_leaves_everything_interpreted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = list(sys.path)
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert not compiled.use(manifest(tmp_path))
    assert sys.path == before
