from __future__ import annotations

import asyncio

import pytest

from inference_mesh.errors import CancelledByCallerError, ShuttingDownError
from rest_bridge.client_watch import while_wanted


async def _leaves() -> dict[str, str]:
    return {"type": "http.disconnect"}


async def _stays() -> dict[str, str]:
    await asyncio.Event().wait()
    return {}


async def test_a_client_who_leaves_cancels_the_block() -> None:
    with pytest.raises(CancelledByCallerError):
        async with while_wanted(_leaves, asyncio.Event()):
            await asyncio.Event().wait()


async def test_a_bridge_that_must_end_cancels_the_block() -> None:
    cut_off = asyncio.Event()
    cut_off.set()
    with pytest.raises(ShuttingDownError):
        async with while_wanted(_stays, cut_off):
            await asyncio.Event().wait()


async def test_a_second_reason_to_end_while_the_block_cleans_up_changes_nothing() -> None:
    cut_off = asyncio.Event()
    with pytest.raises(CancelledByCallerError):
        async with while_wanted(_leaves, cut_off):
            await _ends_slowly(cut_off)


async def _ends_slowly(cut_off: asyncio.Event) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        cut_off.set()
        for _ in range(10):
            await asyncio.sleep(0)
