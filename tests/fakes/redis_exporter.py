"""The few series of a Redis exporter that rules and dashboards read, of a real redis-server.

The exporter itself is a program that is not here; names, kinds and meanings are its own.
"""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator

from tests.fakes.text_page import text_pages
from tests.support.redis_server import RedisServer

FIELDS = {"redis_memory_used_bytes": "used_memory", "redis_memory_max_bytes": "maxmemory"}


@contextlib.contextmanager
def redis_exporter(redis: RedisServer) -> Iterator[str]:
    """The URL of an exporter of this server; it goes on when the server is gone."""
    with text_pages({"/metrics": lambda: "\n".join(_lines(redis.port)) + "\n"}) as url:
        yield url


def _lines(port: int) -> Iterator[str]:
    try:
        info = _info(port)
    except OSError:
        yield "redis_up 0"
        return
    yield "redis_up 1"
    for name, field in FIELDS.items():
        found = re.search(rf"^{field}:(\d+)\r?$", info, re.MULTILINE)
        if found:
            yield f"{name} {found[1]}"


def _info(port: int) -> str:
    """What INFO says of the memory."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        connection.sendall(b"INFO memory\r\nQUIT\r\n")
        with connection.makefile("rb") as reader:
            return reader.read().decode()
