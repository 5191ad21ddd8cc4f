"""Progress reaches its reader joined, in order, and an error after the text before it."""

from __future__ import annotations

import asyncio

import pytest

from inference_mesh.errors import InternalError
from inference_mesh.v1 import payload_pb2
from workers.llama.job import Job, Progress
from workers.llama.mailbox import Mailbox
from workers.llama.sampling import SamplingParams
from workers.llama.text_stream import TextStream

JOB = Job([1], 1, 10, SamplingParams(), TextStream(), 0.0)


async def test_a_slow_reader_gets_one_large_piece() -> None:
    mailbox = Mailbox(JOB)
    mailbox.put(Progress(JOB, "a", (1,)))
    mailbox.put(Progress(JOB, "b", (2, 3), payload_pb2.FINISH_REASON_STOP))
    assert await mailbox.take() == Progress(JOB, "ab", (1, 2, 3), payload_pb2.FINISH_REASON_STOP)


async def test_text_that_came_before_an_error_is_given_first() -> None:
    mailbox = Mailbox(JOB)
    mailbox.put(Progress(JOB, "a", (1,)))
    mailbox.put(Progress(JOB, error=InternalError()))
    assert (await mailbox.take()).text == "a"
    with pytest.raises(InternalError):
        await mailbox.take()


async def test_a_reader_waits_for_progress() -> None:
    mailbox = Mailbox(JOB)
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(mailbox.take())
        await asyncio.sleep(0)
        assert not reading.done()
        mailbox.put(Progress(JOB, "a"))
    assert reading.result().text == "a"
