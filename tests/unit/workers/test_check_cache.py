"""What was found out about a file is remembered where it can be, and found out again where not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from workers.check_cache import CheckCache


def test_a_text_is_kept_for_the_next_start(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    assert CheckCache(folder).get("key") is None
    CheckCache(folder).put("key", "sound")
    assert CheckCache(folder).get("key") == "sound"
    assert [path.name for path in folder.iterdir()] == ["key"]


def test_a_folder_that_cannot_be_made_is_no_failure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = CheckCache(tmp_path / "file" / "folder")
    cache.put("key", "sound")
    assert cache.get("key") is None


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0));"
        "from pathlib import Path; from workers.check_cache import CheckCache;"
        f"cache = CheckCache(Path({str(tmp_path)!r})); cache.put('key', 'sound'); print(cache.get('key'))"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "None"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"soun", b"", b"\xff\n", b"x" * 10_000 + b"\n"])
def test_what_is_not_whole_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "key").write_bytes(content)
    assert CheckCache(tmp_path).get("key") is None


@pytest.mark.parametrize("key", ["../key", "", ".hidden", "a/b"])
def test_a_key_never_leaves_the_folder(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key"):
        CheckCache(tmp_path).get(key)


def test_a_user_without_a_home_has_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MESH_CACHE_DIR", os.devnull)
    cache = CheckCache()
    cache.put("key", "sound")
    assert cache.get("key") is None
