"""What was found out about model files, kept between the starts of workers.

Owns one folder of small text files. It is a memory and nothing more: where it cannot be read or
written, everything is found out again.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
from pathlib import Path

from inference_mesh import telemetry
from inference_mesh.cache import cache_dir

log = telemetry.get_logger(__name__)

FOLDER = "checks"
MAX_BYTES = 4096
KEY = re.compile(r"[A-Za-z0-9._-]{1,200}")


class CheckCache:
    """A memory of short texts by key; usable from any thread and process at a time."""

    def __init__(self, folder: Path | None = None) -> None:
        """folder: made when it is first written to; None = below the user's cache."""
        self._folder = folder or _users_folder()

    def get(self, key: str) -> str | None:
        """The text of a key; None if there is none, or none that can be read."""
        try:
            with (self._folder / _checked(key)).open("rb") as file:
                text = file.read(MAX_BYTES + 1).decode()
        except (OSError, UnicodeDecodeError):
            return None
        # The mark at its end tells a whole file from one that a full disk cut off.
        return text[:-1] if text.endswith("\n") and len(text) <= MAX_BYTES else None

    def put(self, key: str, text: str) -> None:
        """Keep a text, whole or not at all; nothing happens where nothing can be written."""
        path = self._folder / _checked(key)
        temporary = path.with_name(f".{secrets.token_hex(8)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            temporary.write_text(f"{text[: MAX_BYTES // 4]}\n")
            os.replace(temporary, path)
        except OSError as error:
            log.info("nothing is kept of this check", folder=str(self._folder), reason=error.strerror)
            with contextlib.suppress(OSError):
                temporary.unlink()


def _users_folder() -> Path:
    try:
        return cache_dir() / FOLDER
    except RuntimeError:  # a user without a home: nothing can be made below a device
        return Path(os.devnull) / FOLDER


def _checked(key: str) -> str:
    if KEY.fullmatch(key) is None or key.startswith("."):
        raise ValueError(f"{key!r} is no key of the cache")
    return key
