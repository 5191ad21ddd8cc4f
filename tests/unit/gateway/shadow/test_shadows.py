from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from prometheus_client import CollectorRegistry

from gateway.shadow.metrics import CopyResult, ShadowMetrics
from gateway.shadow.report import MAX_DIFFERENCES, ShadowReport
from gateway.shadow.shadow_call import INLINE_BYTES, MAX_COMPARED_BYTES, ShadowCall, ShadowRequest
from gateway.shadow.shadows import CopyFacts, Shadows
from inference_mesh.background import Background
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.errors import OverloadedError, UnavailableError
from inference_mesh.metadata import MAX_TOKENS, MODEL, PRIORITY, TENANT, VERSION
from inference_mesh.v1 import inference_pb2, payload_pb2

NOW_S = 1.7e9
REQUEST = inference_pb2.InferRequest(model="alias", version="1").SerializeToString()
PRIMARY_METADATA = ((MODEL, "chat"), (VERSION, "1"), (PRIORITY, "high"), (TENANT, "salt"), (MAX_TOKENS, "7"))


def entry(name: str = "chat", **changes: object) -> ModelEntry:
    versions = [
        {"version": "1", "weight": 1, "endpoints": ["127.0.0.1:1"]},
        {"version": "2", "endpoints": ["127.0.0.1:2"]},
    ]
    shadow = {"version": "2", "share": 1.0, "max_in_flight": 2}
    return ModelEntry.model_validate({"name": name, "versions": versions, "shadow": shadow, **changes})


def answer(*tokens: int, text: str = "") -> list[bytes]:
    output = payload_pb2.Output(generate=payload_pb2.Generated(text=text, tokens=tokens))
    return [inference_pb2.InferResponse(output=output).SerializeToString()]


class Gateway:
    """Shadows of one registry, a worker that answers when told, and what was counted."""

    def __init__(self, background: Background) -> None:
        self.registry = CollectorRegistry()
        self.draw = 0.0
        self.waiting = 0
        self.sent: list[ShadowRequest] = []
        self.answers: list[asyncio.Future[Sequence[bytes]]] = []
        self.shadows = Shadows(
            ShadowMetrics(self.registry),
            background.spawn,
            self._send,
            lambda _model, _version: self.waiting,
            lambda: self.draw,
            lambda: NOW_S,
        )
        self.shadows.replace([entry()])

    async def _send(self, request: ShadowRequest) -> Sequence[bytes]:
        self.sent.append(request)
        self.answers.append(asyncio.get_running_loop().create_future())
        return await self.answers[-1]

    def offer(self, method: str = "Infer", version: str = "1") -> ShadowCall | None:
        facts = CopyFacts("call-1", method, version, PRIMARY_METADATA)
        return self.shadows.offer("chat", facts, REQUEST)

    async def copy(self) -> ShadowCall:
        """A copy that a worker has got."""
        before = len(self.sent)
        copy = self.offer()
        assert copy is not None
        await until(lambda: len(self.sent) > before)
        return copy

    @property
    def report(self) -> ShadowReport:
        found = self.shadows.report("chat")
        assert found is not None
        return found

    def counted(self, result: CopyResult) -> float | None:
        labels = {"model": "chat", "result": result.value}
        return self.registry.get_sample_value("mesh_gateway_shadow_calls_total", labels)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[Gateway]:
    background = Background()
    await background.open()
    gateway = Gateway(background)
    try:
        yield gateway
    finally:
        await background.close()
        assert gateway.shadows.in_flight == 0


@pytest.mark.parametrize("is_shadow_first", [True, False])
async def test_a_copy_is_compared_once_both_answers_are_there(is_shadow_first: bool) -> None:
    async with running() as gateway:
        copy = await gateway.copy()
        if is_shadow_first:
            gateway.answers[0].set_result(answer(1, 2, 3, 9))
            await asyncio.sleep(0)
            copy.finish(answer(1, 2, 3, 4))
        else:
            copy.finish(answer(1, 2, 3, 4))
            copy.discard()  # as a caller does in its `finally`
            gateway.answers[0].set_result(answer(1, 2, 3, 9))
        await until(lambda: gateway.shadows.in_flight == 0)
        assert gateway.counted(CopyResult.DIFFERED) == 1
        message = gateway.report.message()
        assert (message.compared, message.agreed, message.failed, message.dropped) == (1, 0, 0, 0)
        found = message.differences[0]
        assert (found.request_id, found.at_s, found.measure, found.value) == (
            "call-1",
            NOW_S,
            "token_agreement",
            0.75,
        )
        labels = {"model": "chat", "measure": "token_agreement"}
        assert gateway.registry.get_sample_value("mesh_gateway_shadow_difference_sum", labels) == 0.75


async def test_an_answer_that_agrees_is_counted_and_not_sampled() -> None:
    async with running() as gateway:
        copy = await gateway.copy()
        copy.finish(answer(1, 2))
        gateway.answers[0].set_result(answer(1, 2))
        await until(lambda: gateway.shadows.in_flight == 0)
        message = gateway.report.message()
        assert (message.compared, message.agreed, len(message.differences)) == (1, 1, 0)
        assert (message.primary.version, message.shadow.model, message.shadow.version) == ("1", "chat", "2")


async def test_a_shadow_gets_the_same_bytes_under_its_own_name_and_the_lowest_priority() -> None:
    async with running() as gateway:
        (await gateway.copy()).discard()
        sent = gateway.sent[0]
        assert (sent.message, sent.method, sent.target) == (REQUEST, "Infer", ("chat", "2"))
        assert sorted(sent.metadata) == sorted(
            [(MODEL, "chat"), (VERSION, "2"), (PRIORITY, "bulk"), (TENANT, "salt"), (MAX_TOKENS, "7")]
        )


async def test_a_shadow_without_a_version_is_not_asked_for_the_callers() -> None:
    async with running() as gateway:
        other = ModelEntry.model_validate({"name": "new", "endpoints": ["127.0.0.1:3"]})
        gateway.shadows.replace([entry(shadow={"model": "new", "share": 1.0}), other])
        (await gateway.copy()).discard()
        request = inference_pb2.InferRequest.FromString(gateway.sent[0].message)
        assert (request.model, request.version) == ("alias", "")
        assert VERSION not in dict(gateway.sent[0].metadata)


async def test_a_call_is_not_copied_outside_the_share_nor_to_where_it_is_answered() -> None:
    async with running() as gateway:
        gateway.shadows.replace([entry(shadow={"version": "2", "share": 0.5})])
        gateway.draw = 0.5
        assert gateway.offer() is None
        gateway.draw = 0.4
        assert gateway.offer(version="2") is None
        assert gateway.offer(method="ModelStreamInfer") is None
        assert gateway.shadows.offer("other", CopyFacts("", "Infer", "", ()), REQUEST) is None
        assert gateway.report.message().dropped == 0


async def test_more_copies_than_allowed_at_once_are_dropped() -> None:
    async with running() as gateway:
        copies = [gateway.offer() for _ in range(3)]
        assert [copy is not None for copy in copies] == [True, True, False]
        assert gateway.report.message().dropped == 1
        for copy in copies:
            if copy is not None:
                copy.discard()
        assert gateway.shadows.in_flight == 0
        assert gateway.offer() is not None


async def test_copies_end_first_when_callers_wait_for_their_target() -> None:
    async with running() as gateway:
        older, younger = await gateway.copy(), await gateway.copy()
        gateway.waiting = 1
        assert gateway.shadows.set_pressure("chat", "1") == 0
        assert gateway.shadows.set_pressure("chat", "2") == 1
        await until(gateway.answers[1].cancelled)
        assert not gateway.answers[0].done()
        younger.finish(answer(1))  # too late, and harmless
        assert gateway.offer() is None
        assert gateway.shadows.cancel_one("chat", "2")
        assert not gateway.shadows.cancel_one("chat", "2")
        older.discard()
        assert gateway.report.message().dropped == 3
        assert gateway.counted(CopyResult.DROPPED) == 3


async def test_a_call_without_an_answer_ends_its_copy() -> None:
    async with running() as gateway:
        (await gateway.copy()).discard()
        await until(gateway.answers[0].cancelled)
        assert gateway.counted(CopyResult.UNPAIRED) == 1
        message = gateway.report.message()
        assert (message.compared, message.failed, message.dropped) == (0, 0, 0)


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (UnavailableError("no replica"), CopyResult.FAILED),
        (OverloadedError("no room"), CopyResult.DROPPED),
        (ZeroDivisionError(), CopyResult.FAILED),
    ],
)
async def test_a_copy_that_fails_is_sent_once_and_counted(error: Exception, result: CopyResult) -> None:
    async with running() as gateway:
        copy = await gateway.copy()
        gateway.answers[0].set_exception(error)
        await until(lambda: gateway.shadows.in_flight == 0)
        copy.finish(answer(1))
        assert gateway.counted(result) == 1
        assert len(gateway.sent) == 1


async def test_an_answer_of_another_kind_is_a_failure() -> None:
    async with running() as gateway:
        copy = await gateway.copy()
        copy.finish(answer(1))
        gateway.answers[0].set_result([b"\xff"])
        await until(lambda: gateway.shadows.in_flight == 0)
        assert gateway.report.message().failed == 1


async def test_a_copy_that_takes_longer_than_the_model_may_is_a_failure() -> None:
    async with running() as gateway:
        gateway.shadows.replace([entry(timeout_s=0.01)])
        copy = await gateway.copy()
        copy.finish(answer(1))
        await until(lambda: gateway.report.message().failed == 1)


async def test_a_copy_whose_call_is_never_ended_gives_its_place_back() -> None:
    async with running() as gateway:
        gateway.shadows.replace([entry(timeout_s=0.05)])
        await gateway.copy()
        gateway.answers[0].set_result(answer(1))
        await until(lambda: gateway.shadows.in_flight == 0)
        assert gateway.counted(CopyResult.UNPAIRED) == 1


async def test_long_answers_are_compared_beside_the_event_loop_and_huge_ones_not_at_all() -> None:
    async with running() as gateway:
        for size_bytes in (INLINE_BYTES, MAX_COMPARED_BYTES):
            copy = await gateway.copy()
            copy.finish(answer(1, text="x" * size_bytes))
            gateway.answers[-1].set_result(answer(2, text="y" * size_bytes))
        await until(lambda: gateway.shadows.in_flight == 0)
        message = gateway.report.message()
        assert (message.compared, message.failed) == (1, 1)


async def test_the_report_keeps_a_sample_of_the_latest_differences() -> None:
    async with running() as gateway:
        gateway.shadows.replace([entry(shadow={"version": "2", "share": 1.0, "report_share": 0.5})])
        for number in range(MAX_DIFFERENCES + 3):
            copy = await gateway.copy()
            copy.request_id = f"call-{number}"
            copy.finish(answer(1))
            gateway.draw = 0.9 if number == MAX_DIFFERENCES + 1 else 0.1
            gateway.answers[-1].set_result(answer(2))
            await until(lambda: gateway.shadows.in_flight == 0)
            gateway.draw = 0.0
        message = gateway.report.message()
        assert message.compared == MAX_DIFFERENCES + 3
        ids = [one.request_id for one in message.differences]
        assert len(ids) == MAX_DIFFERENCES
        assert ids[:2] == [f"call-{MAX_DIFFERENCES + 2}", f"call-{MAX_DIFFERENCES}"]


async def test_tensors_without_a_number_between_them_do_not_spoil_the_histogram() -> None:
    def tensors(*shape: int) -> list[bytes]:
        tensor = payload_pb2.Tensor(name="y", datatype="UINT8", shape=shape, data=bytes(math.prod(shape)))
        output = payload_pb2.Output(tensors=payload_pb2.Tensors(tensors=[tensor]))
        return [inference_pb2.InferResponse(output=output).SerializeToString()]

    async with running() as gateway:
        copy = await gateway.copy()
        copy.finish(tensors(2))
        gateway.answers[0].set_result(tensors(3))
        await until(lambda: gateway.shadows.in_flight == 0)
        assert gateway.report.message().differences[0].value == math.inf
        labels = {"model": "chat", "measure": "tensor_max_abs_diff"}
        assert gateway.registry.get_sample_value("mesh_gateway_shadow_difference_sum", labels) is None


async def test_a_changed_shadow_begins_anew_and_an_unchanged_one_keeps_its_report() -> None:
    async with running() as gateway:
        await gateway.copy()
        gateway.shadows.cancel_one("chat", "2")
        gateway.shadows.replace([entry(timeout_s=7.0)])
        assert gateway.report.message().dropped == 1
        await gateway.copy()
        assert gateway.sent[-1].timeout_s == 7.0
        gateway.shadows.replace([entry(shadow={"version": "2", "share": 0.9})])
        await until(gateway.answers[-1].cancelled)
        assert gateway.report.message().dropped == 0


async def test_a_shadow_that_is_no_more_leaves_no_series() -> None:
    async with running() as gateway:
        await gateway.copy()
        gateway.shadows.replace([entry(shadow=None)])
        await until(gateway.answers[0].cancelled)
        assert gateway.shadows.report("chat") is None
        assert gateway.offer() is None
        assert all(not metric.samples for metric in gateway.registry.collect())


async def test_the_end_of_the_gateway_ends_every_copy() -> None:
    async with running() as gateway:
        await gateway.copy()
        await gateway.copy()
    assert all(one.cancelled() for one in gateway.answers)
