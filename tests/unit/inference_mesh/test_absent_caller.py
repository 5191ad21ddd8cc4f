"""Why a caller cannot be told anything any more."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import grpc
import pytest

from gateway.call import Call
from gateway.upstream.worker_call import send_initial, write
from inference_mesh.absent_caller import absence
from inference_mesh.errors import CancelledByCallerError, DeadlineExceededError


class Absent:
    """What is left of a caller."""

    async def send_initial_metadata(self, metadata: Any) -> None:
        raise grpc.aio.InternalError('Failed "execute_batch"')

    async def write(self, message: bytes) -> None:
        raise grpc.aio.InternalError('Failed "execute_batch"')


def call_of(timeout_s: float) -> Call:
    now_s = asyncio.get_running_loop().time()
    return Call("Infer", cast("Any", Absent()), (), now_s, now_s + timeout_s)


async def test_a_caller_whose_time_is_over_is_told_apart_from_one_who_left() -> None:
    now_s = asyncio.get_running_loop().time()
    assert isinstance(absence(now_s - 1), DeadlineExceededError)
    assert isinstance(absence(now_s + 60), CancelledByCallerError)
    assert isinstance(absence(None), CancelledByCallerError)


@pytest.mark.parametrize(
    ("timeout_s", "expected"), [(-0.01, DeadlineExceededError), (60, CancelledByCallerError)]
)
async def test_no_part_of_an_answer_to_nobody_is_a_fault_of_ours(
    timeout_s: float, expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        await send_initial(call_of(timeout_s), ())
    with pytest.raises((expected, DeadlineExceededError)):
        await write(call_of(timeout_s), b"")
