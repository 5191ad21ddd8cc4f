"""The protocols of the mesh, each as one way to make the same call and to read what came of it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import httpx
from google.rpc import error_details_pb2, status_pb2

from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2
from tests.integration.parity.engine import WORDS

TEXT = "".join(WORDS).strip()
MAX_TOKENS = 16
STREAM_BY_STATUS = (("triton_grpc_error", "true"),)


@dataclasses.dataclass(frozen=True)
class Question:
    """One call, whatever the protocol. key: None = none is sent."""

    model: str = "chat"
    prompt: str = "hello"
    key: str | None = None
    temperature: float = 0.0
    timeout_s: float = 20.0


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What a client of a protocol sees.

    code: name of the gRPC status, "" over REST; IN_BAND where an error came inside the stream.
    status: of HTTP, 0 over gRPC. text: the answer. retry_s: when to come back, as told. decision:
    x-mesh-decision. kind: by which a program tells the error: over gRPC the reason of ErrorInfo, over
    REST as its dialect writes it.
    """

    code: str = ""
    status: int = 0
    text: str = ""
    message: str = ""
    retry_s: float | None = None
    decision: str = ""
    kind: str = ""


IN_BAND = "IN_BAND"


@dataclasses.dataclass(frozen=True)
class Doors:
    """Where the mesh listens."""

    channel: grpc.aio.Channel
    http: httpx.AsyncClient


Ask = Callable[[Doors, Question], Awaitable[Outcome]]


@dataclasses.dataclass(frozen=True)
class Face:
    """A protocol. method: what the gateway's metrics call it."""

    name: str
    method: str
    ask: Ask

    @property
    def is_rest(self) -> bool:
        """Whether it comes by HTTP."""
        return self.name.startswith("rest-")


def _payload(question: Question) -> payload_pb2.Payload:
    sampling = payload_pb2.Sampling(temperature=question.temperature)
    generate = payload_pb2.Generate(prompt=question.prompt, max_tokens=MAX_TOKENS, sampling=sampling)
    return payload_pb2.Payload(generate=generate)


def _metadata(question: Question) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {question.key}"),) if question.key else ()


async def _by_grpc(call: Any, text_of: Callable[[Any], str]) -> Outcome:
    """What came of a call: all its messages' texts, or its status."""
    texts: list[str] = []
    try:
        if hasattr(call, "__aiter__"):
            texts = [text_of(message) async for message in call]
        else:
            texts.append(text_of(await call))
    except grpc.aio.AioRpcError as error:
        trailers = {str(key): value for key, value in error.trailing_metadata() or ()}
        pushback = trailers.get("grpc-retry-pushback-ms")
        return Outcome(
            code=error.code().name,
            message=error.details() or "",
            retry_s=None if pushback is None else int(str(pushback)) / 1000,
            kind=_reason_of(trailers),
        )
    trailers = {str(key): value for key, value in await call.trailing_metadata() or ()}
    return Outcome(code="OK", text="".join(texts).strip(), decision=str(trailers.get("x-mesh-decision", "")))


def _reason_of(trailers: dict[str, Any]) -> str:
    """The reason of google.rpc.ErrorInfo."""
    status = status_pb2.Status.FromString(trailers.get("grpc-status-details-bin", b""))
    for detail in status.details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""


async def native_infer(doors: Doors, question: Question) -> Outcome:
    stub: Any = inference_pb2_grpc.InferenceServiceStub(doors.channel)
    request = inference_pb2.InferRequest(model=question.model, payload=_payload(question))
    call = stub.Infer(request, metadata=_metadata(question), timeout=question.timeout_s)
    return await _by_grpc(call, lambda answer: str(answer.output.generate.text))


async def native_stream(doors: Doors, question: Question) -> Outcome:
    stub: Any = inference_pb2_grpc.InferenceServiceStub(doors.channel)
    request = inference_pb2.InferStreamRequest(model=question.model, payload=_payload(question))
    call = stub.InferStream(request, metadata=_metadata(question), timeout=question.timeout_s)
    return await _by_grpc(call, lambda piece: str(piece.output.generate.text))


def _oip_request(question: Question) -> oip.ModelInferRequest:
    request = oip.ModelInferRequest(model_name=question.model, id="parity")
    tensor = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    tensor.contents.bytes_contents.append(question.prompt.encode())
    request.parameters["max_tokens"].int64_param = MAX_TOKENS
    request.parameters["temperature"].double_param = question.temperature
    return request


def _oip_text(answer: oip.ModelInferResponse) -> str:
    texts = []
    for place, tensor in enumerate(answer.outputs):
        if tensor.name == "text_output":
            raw = answer.raw_output_contents
            texts += [raw[place][4:]] if raw else list(tensor.contents.bytes_contents)
    return b"".join(texts).decode()


async def oip_infer(doors: Doors, question: Question) -> Outcome:
    stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(doors.channel)
    call = stub.ModelInfer(_oip_request(question), metadata=_metadata(question), timeout=question.timeout_s)
    return await _by_grpc(call, _oip_text)


async def oip_stream(doors: Doors, question: Question) -> Outcome:
    return await _oip_stream(doors, question, ())


async def oip_stream_by_status(doors: Doors, question: Question) -> Outcome:
    return await _oip_stream(doors, question, STREAM_BY_STATUS)


async def _oip_stream(doors: Doors, question: Question, extra: tuple[tuple[str, str], ...]) -> Outcome:
    stub: Any = open_inference_pb2_grpc.GRPCInferenceServiceStub(doors.channel)
    errors: list[str] = []

    def text_of(message: oip.ModelStreamInferResponse) -> str:
        if message.error_message:
            errors.append(message.error_message)
        return _oip_text(message.infer_response)

    requests = iter([_oip_request(question)])
    call = stub.ModelStreamInfer(
        requests, metadata=(*_metadata(question), *extra), timeout=question.timeout_s
    )
    outcome = await _by_grpc(call, text_of)
    if errors and outcome.code == "OK":
        return dataclasses.replace(outcome, code=IN_BAND, message=errors[0])
    return outcome


@dataclasses.dataclass(frozen=True)
class Rest:
    """A dialect over HTTP. path: with {model}. body: of a question. text_of: of a whole answer's JSON.

    event_text: of one event's JSON, for a streamed one. error_of: message and kind of an error body,
    which fails if it has not the dialect's form. key_header: where it looks for the key.
    """

    path: str
    body: Callable[[Question], dict[str, Any]]
    text_of: Callable[[Any], str] = str
    event_text: Callable[[Any], str] | None = None
    error_of: Callable[[Any], tuple[str, str]] = lambda body: (str(body), "")
    key_header: str = "authorization"

    async def __call__(self, doors: Doors, question: Question) -> Outcome:
        """Make the call."""
        headers = {"x-request-timeout": f"{question.timeout_s:g}"}
        if question.key:
            plain = self.key_header == "x-api-key"
            headers[self.key_header] = question.key if plain else f"Bearer {question.key}"
        path = self.path.format(model=question.model)
        answer = await doors.http.post(path, json=self.body(question), headers=headers)
        told = answer.headers.get("retry-after")
        if answer.status_code != 200:
            message, kind = self.error_of(answer.json())
            retry_s = None if told is None else float(told)
            return Outcome(status=answer.status_code, message=message, retry_s=retry_s, kind=kind)
        decision = answer.headers.get("x-mesh-decision", "")
        if self.event_text is None:
            return Outcome(status=200, text=self.text_of(answer.json()).strip(), decision=decision)
        texts = [self.event_text(json.loads(data)) for data in _data_of(answer.text)]
        return Outcome(status=200, text="".join(texts).strip(), decision=decision)


def _data_of(text: str) -> list[str]:
    """The data of each event that has JSON."""
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: ")]
    return [one for one in data if one != "[DONE]"]


async def until_waiting(call: asyncio.Task[Outcome], is_waiting: Callable[[], bool]) -> None:
    """Wait until a call is where it is to be left. Fails if it ends before."""
    async with asyncio.timeout(10):
        while not is_waiting():
            assert not call.done(), call.result()
            await asyncio.sleep(0.005)
