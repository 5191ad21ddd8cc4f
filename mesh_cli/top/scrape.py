"""Fetching pages of metrics: each within a time and a size, whatever answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import httpx

from mesh_cli.top.change import Scrape
from mesh_cli.top.page import PageError, parse_page
from mesh_cli.top.targets import Target

TIMEOUT_S = 3.0
MAX_PAGE_BYTES = 8 * 2**20
MAX_CONNECTIONS = 32
HEADERS = {"accept": "text/plain;version=0.0.4", "accept-encoding": "identity"}


def open_client() -> httpx.AsyncClient:
    """A client for `scrape_all`; it takes no proxy from the environment."""
    # A connection that is kept may be closed by the other side just when it is used again.
    limits = httpx.Limits(max_connections=MAX_CONNECTIONS, max_keepalive_connections=0)
    return httpx.AsyncClient(trust_env=False, timeout=TIMEOUT_S, limits=limits, headers=HEADERS)


async def scrape_all(client: httpx.AsyncClient, targets: Sequence[Target]) -> list[Scrape]:
    """What each process answered, all asked at once; what went wrong is the problem of its scrape."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(_scrape(client, target)) for target in targets]
    return [task.result() for task in tasks]


async def _scrape(client: httpx.AsyncClient, target: Target) -> Scrape:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            body = await _fetch(client, target.url)
        at_s = time.monotonic()
        page = await asyncio.to_thread(parse_page, body.decode(errors="replace"))
    except PageError as error:
        return Scrape(target, time.monotonic(), problem=str(error))
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        return Scrape(target, time.monotonic(), problem=_problem(error))
    return Scrape(target, at_s, page)


async def _fetch(client: httpx.AsyncClient, url: str) -> bytes:
    """The answer's body. Raises PageError, httpx.HTTPError, OSError."""
    body = bytearray()
    async with client.stream("GET", url) as answer:
        if answer.status_code != httpx.codes.OK:
            raise PageError(f"it answers with HTTP status {answer.status_code}")
        async for piece in answer.aiter_raw():
            body += piece
            if len(body) > MAX_PAGE_BYTES:
                raise PageError(f"its page is larger than {MAX_PAGE_BYTES // 2**20} MiB")
    return bytes(body)


def _problem(error: Exception) -> str:
    """Without the words of the error, which may be those of the other side."""
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:g} s"
    if isinstance(error, httpx.ConnectError):
        return "no connection"
    return f"no answer that is HTTP ({type(error).__name__})"
