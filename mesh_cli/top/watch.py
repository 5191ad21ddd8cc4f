"""The loop of `mesh top`: read, show, wait, until a signal or after one table."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import signal
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx

from mesh_cli.top.change import Meter
from mesh_cli.top.choices import Grouping, SortKey
from mesh_cli.top.report import Report, report_of
from mesh_cli.top.scrape import open_client, scrape_all
from mesh_cli.top.targets import Target
from mesh_cli.top.views import View


@dataclasses.dataclass(frozen=True, slots=True)
class TopOptions:
    """What `mesh top` is told. find_targets: asked anew for each table. max_tables: None = until a signal."""

    find_targets: Callable[[], Sequence[Target]]
    interval_s: float
    grouping: Grouping
    sort: SortKey
    max_tables: int | None = None


def watch(options: TopOptions, view: View) -> None:
    """Show tables until their number is reached, or until SIGINT, SIGTERM or SIGHUP."""
    asyncio.run(_until_signal(_show_tables(options, view)))


async def _show_tables(options: TopOptions, view: View) -> None:
    meter, tables = Meter(), 0

    async def read(client: httpx.AsyncClient) -> Report:
        readings = meter.read(await scrape_all(client, options.find_targets()))
        return report_of(readings, options.grouping, options.sort, time.time(), options.interval_s)

    async with open_client() as client:
        # rich ends the program when the reader of a pipe has gone; for a loop that is a good end.
        with contextlib.suppress(SystemExit), view:
            first = await read(client)
            if view.shows_first:
                view.show(first)
            while options.max_tables is None or tables < options.max_tables:
                # After the last answer: the time that rates are over is never shorter.
                await asyncio.sleep(options.interval_s)
                view.show(await read(client))
                tables += 1


async def _until_signal(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, or until a signal that asks for it."""
    loop = asyncio.get_running_loop()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(work)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, task.cancel)
