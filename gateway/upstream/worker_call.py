"""What a worker tells beside its answers, and how its answers reach the client.

Owns the reading of a worker's metadata: prompt length, usage and load are noted, and all of it
goes to the client. Nothing here decides.
"""

from __future__ import annotations

import asyncio
from typing import Any

from google.protobuf.message import DecodeError

from gateway.call import Call
from gateway.forwarded_metadata import Pairs, worker_metadata_for_client
from inference_mesh import load_report
from inference_mesh.absent_caller import NOBODY_LISTENS, absence
from inference_mesh.errors import DeadlineExceededError
from inference_mesh.load_report import LoadReport
from inference_mesh.metadata import LOAD_REPORT, PROMPT_TOKENS, USAGE, Metadata, bytes_of, value_of
from inference_mesh.v1 import payload_pb2

LONGEST_COUNT = 9
"""Digits of a number of tokens; whoever says more says nothing."""


async def initial_metadata(upstream: Any) -> Pairs:
    """What the worker says before its answer; nothing if it fails first."""
    return tuple(await upstream.initial_metadata() or ())


async def trailing_metadata(upstream: Any) -> Pairs:
    """What the worker says after its answer."""
    return tuple(await upstream.trailing_metadata() or ())


def note_prompt(call: Call, metadata: Metadata) -> None:
    """Note the exact length of the prompt, and give back what was reserved beyond it.

    Where there are fallbacks it is kept: the same prompt may be longer there.
    """
    text = value_of(metadata, PROMPT_TOKENS) or ""
    if not (text.isascii() and text.isdigit()) or len(text) > LONGEST_COUNT:
        return
    call.prompt_tokens = int(text)
    if call.fallback_from or call.admitted.model.fallback:
        return
    now_s = asyncio.get_running_loop().time()
    for grant in call.grants:
        grant.prompt_is(call.prompt_tokens, now_s)


def note_usage(call: Call, metadata: Metadata) -> None:
    """Note what the call consumed."""
    data = bytes_of(metadata, USAGE)
    if data is None:
        return
    try:
        call.usage = payload_pb2.Usage.FromString(data)
    except DecodeError:
        return


def load_of(metadata: Metadata) -> LoadReport | None:
    """How busy the worker says it is."""
    data = bytes_of(metadata, LOAD_REPORT)
    return None if data is None else load_report.decode(data)


async def send_initial(call: Call, metadata: Metadata) -> None:
    """Tell the client what the worker and the gateway say before the answer.

    Raises DeadlineExceededError or CancelledByCallerError if it is there no more.
    """
    told = (*worker_metadata_for_client(metadata), *call.initial_metadata())
    try:
        await call.context.send_initial_metadata(told)
    except NOBODY_LISTENS:
        raise absence(call.deadline) from None


async def write(call: Call, message: bytes) -> None:
    """Write one answer; a client who does not read holds the worker no longer than the call may last."""
    try:
        async with asyncio.timeout_at(call.deadline):
            await call.context.write(message)
    except TimeoutError:
        raise DeadlineExceededError("the deadline passed before the answer was read") from None
    except NOBODY_LISTENS:
        raise absence(call.deadline) from None


def is_cancelled() -> bool:
    """True if this very task is to end."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
