"""A gateway in the shape that clients see: a real gRPC server whose answers a test scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from inference_mesh.channels import server_options
from inference_mesh.errors import ModelNotFoundError
from inference_mesh.status_interceptor import StatusInterceptor
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2

MODELS = {
    "chat": inference_pb2.Model(
        name="chat",
        version="1",
        task=payload_pb2.TASK_GENERATE,
        ready=True,
        runtime="llama.cpp",
        max_tokens=512,
    ),
    "embed": inference_pb2.Model(
        name="embed",
        version="2",
        task=payload_pb2.TASK_EMBED,
        ready=True,
        runtime="onnxruntime",
        dimensions=4,
    ),
    "rerank": inference_pb2.Model(name="rerank", task=payload_pb2.TASK_RERANK),
    "classify": inference_pb2.Model(name="classify", task=payload_pb2.TASK_CLASSIFY),
    "tensors": inference_pb2.Model(
        name="tensors",
        task=payload_pb2.TASK_TENSORS,
        inputs=[payload_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, 2])],
        outputs=[payload_pb2.TensorSpec(name="x", datatype="FP32", shape=[-1, 2])],
    ),
    "json": inference_pb2.Model(name="json", task=payload_pb2.TASK_JSON, runtime="http"),
}
USAGE = payload_pb2.Usage(prompt_tokens=3, completion_tokens=2)
TIMING = payload_pb2.Timing(queue_s=0.001, compute_s=0.25, first_token_s=0.05)

InferScript = Callable[[inference_pb2.InferRequest], Awaitable[inference_pb2.InferResponse]]
StreamScript = Callable[[inference_pb2.InferStreamRequest], AsyncIterator[inference_pb2.InferStreamResponse]]


def piece(text: str, **fields: Any) -> inference_pb2.InferStreamResponse:
    """One piece of a stream."""
    output = payload_pb2.Output(generate=payload_pb2.Generated(text=text))
    return inference_pb2.InferStreamResponse(output=output, **fields)


def last_piece(text: str) -> inference_pb2.InferStreamResponse:
    """The piece that ends a stream."""
    generated = payload_pb2.Generated(text=text, finish_reason=payload_pb2.FINISH_REASON_STOP)
    output = payload_pb2.Output(generate=generated)
    return inference_pb2.InferStreamResponse(output=output, usage=USAGE, timing=TIMING)


def echo(payload: payload_pb2.Payload) -> payload_pb2.Output:
    """An output of the payload's kind that shows what was in it."""
    kind = payload.WhichOneof("kind")
    if kind == "generate":
        generated = payload_pb2.Generated(
            text=payload.generate.prompt, finish_reason=payload_pb2.FINISH_REASON_STOP
        )
        return payload_pb2.Output(generate=generated)
    if kind == "embed":
        values = np.arange(4 * len(payload.embed.texts), dtype="<f4").tobytes()
        return payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=4, values=values))
    if kind == "rerank":
        ranked = [payload_pb2.RankedDocument(index=index) for index in range(len(payload.rerank.documents))]
        return payload_pb2.Output(rerank=payload_pb2.Ranking(documents=ranked))
    if kind == "classify":
        labels = payload_pb2.LabelScores(labels=[payload_pb2.LabelScore(label="good", score=0.5)])
        return payload_pb2.Output(
            classify=payload_pb2.Classifications(results=[labels for _ in payload.classify.texts])
        )
    if kind == "tensors":
        return payload_pb2.Output(tensors=payload_pb2.Tensors(tensors=payload.tensors.tensors))
    return payload_pb2.Output(json=payload.json)


class FakeGateway(inference_pb2_grpc.InferenceServiceServicer):
    """The server, what it was asked, and what it is to answer.

    `infer_script` and `stream_script` make the answers; `metadata` is that of the last call;
    `told_first` and `told_last` are sent as initial metadata and trailers of inference calls;
    `arrived` is set by an inference call; `cancelled_at` is when a running one was cancelled, in
    the event loop's seconds.
    """

    def __init__(self) -> None:
        self.infer_script: InferScript = self._echo
        self.stream_script: StreamScript = self._echo_stream
        self.metadata: dict[str, str | bytes] = {}
        self.told_first: tuple[tuple[str, str], ...] = ()
        self.told_last: tuple[tuple[str, str], ...] = ()
        self.time_remaining: float | None = None
        self.get_model_calls = 0
        self.arrived = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.cancelled_at = 0.0
        self.sent_pieces = 0
        self.port = 0
        self.health = health_aio.HealthServicer()
        self._server: grpc.aio.Server | None = None

    @property
    def target(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        server = grpc.aio.server(interceptors=(StatusInterceptor(),), options=server_options())
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, server)
        await self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        self.port = server.add_insecure_port(f"127.0.0.1:{self.port}")
        await server.start()
        self._server = server
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Stop at once, as a process that is killed."""
        if self._server is not None:
            await self._server.stop(None)

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """Answer by the script."""
        await self._tell(context)
        try:
            return await self.infer_script(request)
        except asyncio.CancelledError:
            self._note_cancel()
            raise

    async def InferStream(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """Answer by the script."""
        await self._tell(context)
        try:
            async for response in self.stream_script(request):
                yield response
                self.sent_pieces += 1
        except (asyncio.CancelledError, GeneratorExit):
            self._note_cancel()
            raise

    async def ListModels(
        self, request: inference_pb2.ListModelsRequest, context: Any
    ) -> inference_pb2.ListModelsResponse:
        """All models."""
        self._note(context)
        return inference_pb2.ListModelsResponse(models=MODELS.values())

    async def GetModel(
        self, request: inference_pb2.GetModelRequest, context: Any
    ) -> inference_pb2.GetModelResponse:
        """One model."""
        self._note(context)
        self.get_model_calls += 1
        if request.model not in MODELS:
            raise ModelNotFoundError(f"no model '{request.model}'")
        return inference_pb2.GetModelResponse(model=MODELS[request.model])

    async def _echo(self, request: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        return inference_pb2.InferResponse(
            model=request.model,
            version=request.version or "1",
            request_id=request.request_id,
            output=echo(request.payload),
            usage=USAGE,
            timing=TIMING,
        )

    async def _echo_stream(
        self, request: inference_pb2.InferStreamRequest
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("Once", model=request.model, version="1", request_id=request.request_id)
        yield piece(" upon")
        yield last_piece("")

    async def _tell(self, context: Any) -> None:
        self._note(context)
        self.arrived.set()
        if self.told_first:
            await context.send_initial_metadata(self.told_first)
        context.set_trailing_metadata(self.told_last)

    def _note(self, context: Any) -> None:
        self.metadata = dict(context.invocation_metadata())
        self.time_remaining = context.time_remaining()

    def _note_cancel(self) -> None:
        self.cancelled_at = asyncio.get_running_loop().time()
        self.cancelled.set()


async def never(_: Any) -> Any:
    """A script that answers never."""
    await asyncio.Event().wait()
