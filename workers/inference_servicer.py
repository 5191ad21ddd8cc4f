"""inference_mesh.v1.InferenceService over a worker's one model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

import grpc
from google.protobuf.message import Message

from inference_mesh import metadata
from inference_mesh.absent_caller import NOBODY_LISTENS, absence
from inference_mesh.deadlines import deadline_of
from inference_mesh.messages import parsed, serialized
from inference_mesh.metadata import Metadata
from inference_mesh.v1 import inference_pb2, payload_pb2
from workers.calls import CallFacts, Calls, facts_of, whole
from workers.engine import Chunk

SERVICE = "inference_mesh.v1.InferenceService"

Context = grpc.aio.ServicerContext[Any, Any]


class InferenceServicer:
    """Answers native calls; it parses messages itself, so that a malformed one is a typed error."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def infer(self, data: bytes, context: Context) -> Message:
        """One whole answer."""
        request = parsed(inference_pb2.InferRequest, data)
        facts = call_facts("native", request, context)
        run = self._calls.run(facts, lambda _: request.payload)
        with answering(self._calls, context):
            async with contextlib.aclosing(run) as chunks:
                chunk = await whole(telling_prompt(chunks, context))
            add_usage(context, chunk.usage)
        model = self._calls.model_for(facts)
        return inference_pb2.InferResponse(
            model=model.name,
            version=model.version,
            request_id=facts.request_id,
            output=chunk.output,
            usage=chunk.usage,
            timing=chunk.timing,
        )

    async def infer_stream(self, data: bytes, context: Context) -> AsyncGenerator[Message]:
        """The answer in pieces."""
        request = parsed(inference_pb2.InferStreamRequest, data)
        facts = call_facts("native-stream", request, context)
        model = self._calls.model_for(facts)
        head = {"model": model.name, "version": model.version, "request_id": facts.request_id}
        run = self._calls.run(facts, lambda _: request.payload)
        with answering(self._calls, context):
            async with contextlib.aclosing(run) as chunks:
                async for chunk in telling_prompt(chunks, context):
                    add_usage(context, chunk.usage)
                    yield inference_pb2.InferStreamResponse(
                        output=chunk.output, usage=chunk.usage, timing=chunk.timing, **head
                    )
                    head = {}

    async def list_models(self, data: bytes, context: Context) -> Message:
        """This one model."""
        parsed(inference_pb2.ListModelsRequest, data)
        return inference_pb2.ListModelsResponse(models=[self._calls.model])

    async def get_model(self, data: bytes, context: Context) -> Message:
        """This one model, if it is meant."""
        request = parsed(inference_pb2.GetModelRequest, data)
        self._calls.check_target(CallFacts("native", request.model, request.version, sent=sent_with(context)))
        return inference_pb2.GetModelResponse(model=self._calls.model)

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the service, for a server."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Infer": grpc.unary_unary_rpc_method_handler(self.infer, None, serialized),
                "InferStream": grpc.unary_stream_rpc_method_handler(self.infer_stream, None, serialized),
                "ListModels": grpc.unary_unary_rpc_method_handler(self.list_models, None, serialized),
                "GetModel": grpc.unary_unary_rpc_method_handler(self.get_model, None, serialized),
            },
        )


def sent_with(context: Context) -> Metadata:
    """The metadata that came with a call."""
    return tuple((key, value) for key, value in context.invocation_metadata() or ())


def call_facts(
    protocol: str, request: inference_pb2.InferRequest | inference_pb2.InferStreamRequest, context: Context
) -> CallFacts:
    """The facts of a native call."""
    return facts_of(
        protocol,
        request.model,
        request.version,
        request.request_id,
        sent=sent_with(context),
        deadline=deadline_of(context),
    )


@contextlib.contextmanager
def answering(calls: Calls, context: Context) -> Iterator[None]:
    """Adds the load report to the trailers at the end, also of a refusal."""
    try:
        yield
    finally:
        context.set_trailing_metadata((*_trailers(context), *calls.load_trailers()))


def telling_prompt(chunks: AsyncIterator[Chunk], context: Context) -> AsyncIterator[Chunk]:
    """The chunks that have output, after the caller was told the exact length of the prompt.

    For generate that is before anything is computed, so that a gateway gives back early what it
    reserved beyond it. Of any other task the usage tells it at the same time, and a message of its
    own would be one more write for each call.
    """
    return _TellingPrompt(chunks, context)


class _TellingPrompt:
    """No generator, which asyncio would keep account of for each call."""

    def __init__(self, chunks: AsyncIterator[Chunk], context: Context) -> None:
        self._chunks = chunks
        self._context = context
        self._is_told = False

    def __aiter__(self) -> AsyncIterator[Chunk]:
        return self

    async def __anext__(self) -> Chunk:
        while True:
            chunk = await anext(self._chunks)
            if not self._is_told:
                self._is_told = True
                if chunk.usage is None or chunk.output.HasField("generate"):
                    await send_prompt_tokens(self._context, chunk)
            if chunk.has_output:
                return chunk


async def send_prompt_tokens(context: Context, chunk: Chunk) -> None:
    """Tell the exact prompt length before the first message."""
    try:
        await context.send_initial_metadata(((metadata.PROMPT_TOKENS, str(chunk.prompt_tokens)),))
    except NOBODY_LISTENS:
        raise absence(deadline_of(context)) from None


def add_usage(context: Context, usage: payload_pb2.Usage | None) -> None:
    """Put the usage into the trailers; None = it is not known yet."""
    if usage is not None:
        trailer = (metadata.USAGE, usage.SerializeToString())
        context.set_trailing_metadata((*_trailers(context), trailer))


def _trailers(context: Context) -> tuple[tuple[str, str | bytes], ...]:
    return tuple((key, value) for key, value in context.trailing_metadata() or ())
