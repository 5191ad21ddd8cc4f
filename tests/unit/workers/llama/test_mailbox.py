"""Progress reaches its reader joined, in order, and an error after the text before it."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from inference_mesh.errors import InternalError
from inference_mesh.v1 import payload_pb2
from workers.llama.job import Job, Progress
from workers.llama.mailbox import Mailbox
from workers.llama.sampling import SamplingParams
from workers.llama.text_stream import TextStream

JOB = Job([1], 1, 10, SamplingParams(), TextStream(), 0.0)


async def test_a_slow_reader_gets_one_large_piece() -> None:
    mailbox = Mailbox()
    mailbox.put(Progress(JOB, "a", (1,)))
    mailbox.put(Progress(JOB, "b", (2, 3), payload_pb2.FINISH_REASON_STOP))
    assert await mailbox.take() == [Progress(JOB, "ab", (1, 2, 3), payload_pb2.FINISH_REASON_STOP)]


async def test_answers_of_one_request_are_joined_apart() -> None:
    mailbox, other = Mailbox(), dataclasses.replace(JOB, index=1)
    logprobs = payload_pb2.TokenLogprob(token=1), payload_pb2.TokenLogprob(token=3)
    mailbox.put(Progress(JOB, "a", (1,), logprobs=logprobs[:1]))
    mailbox.put(Progress(other, "x", (2,)))
    mailbox.put(Progress(JOB, "b", (3,), logprobs=logprobs[1:]))
    assert await mailbox.take() == [
        Progress(JOB, "ab", (1, 3), logprobs=logprobs),
        Progress(other, "x", (2,)),
    ]


async def test_text_that_came_before_an_error_is_given_first() -> None:
    mailbox = Mailbox()
    mailbox.put(Progress(JOB, "a", (1,)))
    mailbox.put(Progress(JOB, error=InternalError()))
    assert (await mailbox.take())[0].text == "a"
    with pytest.raises(InternalError):
        await mailbox.take()


async def test_a_reader_waits_for_progress() -> None:
    mailbox = Mailbox()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        reading = group.create_task(mailbox.take())
        await asyncio.sleep(0)
        assert not reading.done()
        mailbox.put(Progress(JOB, "a"))
    assert reading.result()[0].text == "a"


async def test_pieces_of_a_fast_model_keep_a_distance() -> None:
    mailbox, now_s = Mailbox(interval_s=0.02), asyncio.get_running_loop().time
    mailbox.put(Progress(JOB, "a"))
    await mailbox.take()
    first_s = now_s()
    mailbox.put(Progress(JOB, "b"))
    async with asyncio.TaskGroup() as group:
        reading = group.create_task(mailbox.take())
        await asyncio.sleep(0)
        mailbox.put(Progress(JOB, "c"))
    assert reading.result()[0].text == "bc"
    assert now_s() - first_s >= 0.02


async def test_the_end_keeps_no_distance() -> None:
    mailbox = Mailbox(interval_s=1e6)
    mailbox.put(Progress(JOB, "a"))
    await mailbox.take()
    mailbox.put(Progress(JOB, "b", (), payload_pb2.FINISH_REASON_STOP))
    async with asyncio.timeout(5):
        assert (await mailbox.take())[0].text == "b"
