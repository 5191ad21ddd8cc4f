"""What a gateway tells a worker, and what the worker does and answers, over the wire with a real model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest

from inference_mesh import load_report, metadata
from inference_mesh.error_status import error_from_rpc
from inference_mesh.errors import InvalidInputError, MeshError, TokenBudgetError
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.support.llama_engine import ENDLESS, PATIENCE_S, Counts, begun, generate, question, running, until
from tests.support.processes import metric_sum
from tests.support.workers import ServedWorker, served_worker
from workers.llama.engine import LlamaEngine

PROMPT_TOKENS = 12
LONGEST = 2000


@pytest.fixture
async def engine() -> AsyncIterator[LlamaEngine]:
    async with running(slots=1) as loaded:
        yield loaded


@pytest.fixture
async def worker(engine: LlamaEngine) -> AsyncIterator[ServedWorker]:
    async with served_worker(engine) as served:
        yield served


def _native(worker: ServedWorker) -> Any:
    return inference_pb2_grpc.InferenceServiceStub(worker.channel)


def _payload(**fields: Any) -> payload_pb2.Payload:
    return question("Who are you?", **{"sampling": ENDLESS, "max_tokens": LONGEST, **fields}).payload


def _request(**fields: Any) -> inference_pb2.InferRequest:
    return inference_pb2.InferRequest(model="tiny", payload=_payload(**fields))


def _stream_request(**fields: Any) -> inference_pb2.InferStreamRequest:
    return inference_pb2.InferStreamRequest(model="tiny", payload=_payload(**fields))


def _open_inference_request() -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name="tiny")
    text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"Who are you?")
    request.parameters["max_tokens"].int64_param = 5
    return request


async def _error_of(call: Any) -> MeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def test_a_stream_tells_the_exact_prompt_length_before_its_turn_has_come(
    worker: ServedWorker, engine: LlamaEngine
) -> None:
    busy = await begun(engine, generate("Once", max_tokens=LONGEST, sampling=ENDLESS))
    call = _native(worker).InferStream(_stream_request())
    told = metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS)
    assert told == str(PROMPT_TOKENS)
    assert (engine.load_now().running, engine.load_now().queued) == (1, 1)
    call.cancel()
    await busy.aclose()
    await until(lambda: engine.load_now().running + engine.load_now().queued == 0)


async def test_a_whole_answer_has_the_exact_prompt_length_too(worker: ServedWorker) -> None:
    call = _native(worker).Infer(_request(max_tokens=1))
    told = metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS)
    assert told == str(PROMPT_TOKENS) == str((await call).usage.prompt_tokens)


async def test_a_stream_that_reaches_its_budget_ends_there_and_says_so(worker: ServedWorker) -> None:
    sent = ((metadata.TOKEN_BUDGET, str(PROMPT_TOKENS + 7)),)
    pieces = [piece async for piece in _native(worker).InferStream(_stream_request(), metadata=sent)]
    last = pieces[-1]
    assert all(piece.output.HasField("generate") for piece in pieces)
    assert (pieces[0].model, last.usage.completion_tokens) == ("tiny", 7)
    assert last.output.generate.finish_reason == payload_pb2.FINISH_REASON_LENGTH
    assert last.output.generate.length_reason == payload_pb2.LENGTH_REASON_TOKEN_BUDGET


async def test_the_clamp_and_the_budget_hold_in_every_protocol(worker: ServedWorker) -> None:
    sent = ((metadata.MAX_TOKENS, "6"), (metadata.TOKEN_BUDGET, "1000"))
    answer = await _native(worker).Infer(_request(), metadata=sent)
    assert answer.output.generate.length_reason == payload_pb2.LENGTH_REASON_CLAMP
    assert answer.usage.completion_tokens == 6
    body = {"messages": [{"role": "user", "content": "Who are you?"}], "max_tokens": LONGEST}
    async with httpx.AsyncClient(base_url=worker.url) as http:
        limits = {metadata.TOKEN_BUDGET: str(PROMPT_TOKENS + 3)}
        cut = await http.post("/infer", json=body, headers=limits)
        spent = await http.post("/infer", json=body, headers={metadata.TOKEN_BUDGET: "4"})
    assert (cut.json()["finish_reason"], cut.json()["length_reason"]) == ("length", "token_budget")
    assert (spent.status_code, spent.json()["error"]["code"]) == (429, "RESOURCE_EXHAUSTED")


async def test_a_budget_that_the_prompt_fills_is_refused_as_a_spent_budget(worker: ServedWorker) -> None:
    sent = ((metadata.TOKEN_BUDGET, str(PROMPT_TOKENS)),)
    assert type(await _error_of(_native(worker).Infer(_request(), metadata=sent))) is TokenBudgetError


async def test_malformed_terms_are_refused(worker: ServedWorker) -> None:
    for sent in ((metadata.TOKEN_BUDGET, "many"), (metadata.PRIORITY, "top"), (metadata.DEFAULTS, b"\xff")):
        error = await _error_of(_native(worker).Infer(_request(), metadata=(sent,)))
        assert type(error) is InvalidInputError


async def test_a_tenants_defaults_stand_in_for_what_the_request_leaves_out(worker: ServedWorker) -> None:
    defaults = payload_pb2.Generate(max_tokens=4, sampling=ENDLESS)
    sent = ((metadata.DEFAULTS, defaults.SerializeToString()),)
    bare = _request(max_tokens=0, sampling=payload_pb2.Sampling(top_k=0))
    own = _request(max_tokens=9, sampling=payload_pb2.Sampling(temperature=0, logit_bias={0: -100, 2: -100}))
    filled = await _native(worker).Infer(bare, metadata=sent)
    again = await _native(worker).Infer(bare, metadata=sent)
    kept = await _native(worker).Infer(own, metadata=sent)
    assert filled.output.generate.text == again.output.generate.text
    assert [answer.usage.completion_tokens for answer in (filled, kept)] == [4, 9]
    assert filled.output.generate.length_reason == payload_pb2.LENGTH_REASON_MAX_TOKENS


async def test_the_load_report_and_the_model_say_how_many_requests_run_at_once(
    worker: ServedWorker,
) -> None:
    call = _native(worker).Infer(_request(max_tokens=1))
    await call
    trailers = tuple(await call.trailing_metadata())
    report = load_report.decode(metadata.bytes_of(trailers, metadata.LOAD_REPORT) or b"")
    assert report is not None
    assert report.slots == 1
    listed = await _native(worker).ListModels(inference_pb2.ListModelsRequest())
    assert listed.models[0].slots == 1
    async with httpx.AsyncClient(base_url=worker.url) as http:
        page = (await http.get("/metrics")).text
    assert metric_sum(page, "mesh_worker_slots") == 1


async def test_open_inference_answers_hold_no_empty_piece_for_the_prompts_length(
    worker: ServedWorker,
) -> None:
    stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(worker.channel)
    call = stub.ModelStreamInfer(iter([_open_inference_request()]))
    told = metadata.value_of(tuple(await call.initial_metadata()), metadata.PROMPT_TOKENS)
    responses = [answer.infer_response async for answer in call]
    assert all(response.outputs for response in responses)
    unary = await stub.ModelInfer(_open_inference_request())
    assert unary.outputs
    assert told is not None
    assert int(told) > 0


async def test_deadlines_that_pass_in_the_queue_are_counted_as_expired_and_as_drops() -> None:
    counts = Counts()
    async with running(slots=1, observer=counts) as engine, served_worker(engine) as worker:
        busy = await begun(engine, generate("Once", max_tokens=LONGEST, sampling=ENDLESS))
        calls = [_native(worker).Infer(_request(), timeout=0.2) for _ in range(30)]
        ends = await asyncio.gather(*calls, return_exceptions=True)
        codes = {end.code() for end in ends if isinstance(end, grpc.aio.AioRpcError)}
        assert codes == {grpc.StatusCode.DEADLINE_EXCEEDED}
        await busy.aclose()
        await until(lambda: engine.load_now().running + engine.load_now().queued == 0)
        page = await _page_of_an_idle_worker(worker)
    assert max(counts.batches) == 1
    # On a busy machine a call may end before it reaches the worker, or the queue.
    expired = metric_sum(page, "mesh_worker_expired_total")
    assert 0 < counts.dropped <= expired <= len(ends)
    assert metric_sum(page, "mesh_worker_requests_total", code="DEADLINE_EXCEEDED") == expired


async def _page_of_an_idle_worker(worker: ServedWorker) -> str:
    """The metrics of a worker once no call is in it."""
    async with httpx.AsyncClient(base_url=worker.url) as http, asyncio.timeout(PATIENCE_S):
        while metric_sum(page := (await http.get("/metrics")).text, "mesh_worker_in_flight") > 0:
            await asyncio.sleep(0.01)
        return page
