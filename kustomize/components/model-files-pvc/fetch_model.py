"""Fetches a model's files before its worker starts; the standard library is all it has.

MODEL_FILES: URLs, each with `#sha256=` and its digest, separated by blanks. ALLOWED_URLS:
beginnings of URLs that may be asked. What is there with the right digest is not fetched again;
what arrives with another one is never seen under its name.
"""  # noqa: INP001  # no package: kustomize puts it into a ConfigMap

from __future__ import annotations

import hashlib
import http.client
import os
import re
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import IO

CHUNK_BYTES = 1024 * 1024
SILENCE_LIMIT_S = 60
SOURCE = re.compile(
    r"(?P<url>https?://[^\s#]+/(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*))#sha256=(?P<sha256>[0-9a-f]{64})"
)


class Redirections(urllib.request.HTTPRedirectHandler):
    """Follows only to where it may ask."""

    def __init__(self, allowed: list[str]) -> None:
        self._allowed = allowed

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: object, newurl: str
    ) -> urllib.request.Request | None:
        """The next request. Exits if its URL is not among the allowed ones."""
        check_allowed(newurl, self._allowed)
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


def main() -> None:
    """Fetch all that is missing into the folder of the model; exits with a sentence if one cannot be had."""
    folder = Path(sys.argv[1]) / os.environ["MESH_WORKER_NAME"]
    allowed = os.environ.get("ALLOWED_URLS", "").split()
    folder.mkdir(parents=True, exist_ok=True)
    for source in os.environ.get("MODEL_FILES", "").split():
        wanted = SOURCE.fullmatch(source)
        if wanted is None:
            sys.exit(f"MODEL_FILES: '{source}' is not URL#sha256=DIGEST with a plain file name")
        check_allowed(wanted["url"], allowed)
        target = folder / wanted["name"]
        if target.is_file() and digest_of(target) == wanted["sha256"]:
            say(f"{target}: is there")
            continue
        fetch(wanted["url"], target, wanted["sha256"], allowed)
        say(f"{target}: fetched")


def check_allowed(url: str, allowed: list[str]) -> None:
    """Exits unless the URL begins like one that is allowed."""
    if not any(url.startswith(one) for one in allowed if one.endswith("/")):
        sys.exit(f"'{url}' begins like none of ALLOWED_URLS: {' '.join(allowed) or 'there are none'}")


def fetch(url: str, target: Path, sha256: str, allowed: list[str]) -> None:
    """Put the file in its place whole and right, or not at all; replicas may do so at the same time."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        digest = hashlib.sha256()
        with os.fdopen(handle, "wb") as stream:
            for chunk in chunks_of(url, allowed):
                digest.update(chunk)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
        if digest.hexdigest() != sha256:
            sys.exit(f"{url}: its sha256 is {digest.hexdigest()}, not {sha256}")
        Path(name).chmod(0o444)
        Path(name).rename(target)
    except (OSError, http.client.HTTPException) as error:
        sys.exit(f"{url}: {error}")
    finally:
        Path(name).unlink(missing_ok=True)


def chunks_of(url: str, allowed: list[str]) -> Iterator[bytes]:
    """What the URL answers."""
    # No proxies from the environment: they would be asked for any URL.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), Redirections(allowed))
    with opener.open(url, timeout=SILENCE_LIMIT_S) as answer:
        while chunk := answer.read(CHUNK_BYTES):
            yield chunk


def digest_of(path: Path) -> str:
    """The SHA-256 of a file, hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def say(line: str) -> None:
    """One line for the log of the container."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
