"""inference.GRPCInferenceService (Open Inference Protocol v2) over a worker's one model."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import grpc
from google.protobuf.message import Message

from inference_mesh import metadata
from inference_mesh.deadlines import deadline_of
from inference_mesh.errors import InvalidInputError, MeshError
from inference_mesh.installed_version import installed_version
from inference_mesh.messages import parsed, serialized
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.v1 import payload_pb2
from workers import open_inference_codec as codec
from workers.calls import CallFacts, Calls, facts_of, whole
from workers.inference_servicer import (
    Context,
    add_usage,
    answering,
    send_prompt_tokens,
    sent_with,
    telling_prompt,
)

SERVICE = "inference.GRPCInferenceService"
SERVER_NAME = "inference-mesh"
EXTENSIONS = ("parameters",)
"""Triton's names of what is spoken beside the protocol itself."""
GRPC_ERROR = "triton_grpc_error"


class OpenInferenceServicer:
    """Answers Open Inference Protocol calls."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def server_live(self, data: bytes, context: Context) -> Message:
        """The process runs."""
        return oip.ServerLiveResponse(live=True)

    async def server_ready(self, data: bytes, context: Context) -> Message:
        """The model takes calls."""
        return oip.ServerReadyResponse(ready=self._calls.failure is None)

    async def model_ready(self, data: bytes, context: Context) -> Message:
        """The model takes calls, if it is this one."""
        request = parsed(oip.ModelReadyRequest, data)
        self._calls.check_target(CallFacts("oip", request.name, request.version, sent=sent_with(context)))
        return oip.ModelReadyResponse(ready=self._calls.failure is None)

    async def server_metadata(self, data: bytes, context: Context) -> Message:
        """Name, version and extensions."""
        return oip.ServerMetadataResponse(
            name=SERVER_NAME, version=installed_version(), extensions=EXTENSIONS
        )

    async def model_metadata(self, data: bytes, context: Context) -> Message:
        """Inputs and outputs of the model."""
        request = parsed(oip.ModelMetadataRequest, data)
        self._calls.check_target(CallFacts("oip", request.name, request.version, sent=sent_with(context)))
        self._calls.check_ready()
        return codec.metadata_of(self._calls.model)

    async def model_infer(self, data: bytes, context: Context) -> Message:
        """One whole answer."""
        request = parsed(oip.ModelInferRequest, data)
        with answering(self._calls, context):
            facts = _facts("oip", request, context)
            read = functools.partial(codec.payload_of, request)
            async with contextlib.aclosing(self._calls.run(facts, read)) as chunks:
                chunk = await whole(telling_prompt(chunks, context))
            add_usage(context, chunk.usage)
        return codec.response_of(request, self._calls.model_for(facts), chunk.output)

    async def model_stream_infer(
        self, requests: AsyncIterator[bytes], context: Context
    ) -> AsyncGenerator[Message]:
        """The answers of each request in turn; errors in band unless the caller wants a status."""
        wants_status = metadata.value_of(sent_with(context), GRPC_ERROR) == "true"
        stream = _Stream(context)
        with answering(self._calls, context):
            try:
                async for data in requests:
                    try:
                        request = stream.request_of(data)
                        async for response in self._responses(request, stream):
                            yield response
                    except MeshError as error:
                        if wants_status:
                            raise
                        stream.is_begun = True
                        failed = oip.ModelInferResponse(id=stream.request_id)
                        yield oip.ModelStreamInferResponse(error_message=error.message, infer_response=failed)
            finally:
                add_usage(context, stream.used)

    async def _responses(self, request: oip.ModelInferRequest, stream: _Stream) -> AsyncGenerator[Message]:
        facts = _facts("oip-stream", request, stream.context)
        read = functools.partial(codec.payload_of, request)
        model = self._calls.model_for(facts)
        async with contextlib.aclosing(self._calls.run(facts, read)) as chunks:
            async for chunk in chunks:
                if not stream.is_begun:
                    stream.is_begun = True
                    await send_prompt_tokens(stream.context, chunk)
                if not chunk.has_output:
                    continue
                stream.count(chunk.usage)
                response = codec.response_of(request, model, chunk.output)
                response.parameters[codec.FINAL].bool_param = chunk.usage is not None
                yield oip.ModelStreamInferResponse(infer_response=response)

    def handlers(self) -> grpc.GenericRpcHandler:
        """The methods of the service, for a server."""
        unary = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ModelReady": self.model_ready,
            "ServerMetadata": self.server_metadata,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        methods: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(method, None, serialized)
            for name, method in unary.items()
        }
        methods["ModelStreamInfer"] = grpc.stream_stream_rpc_method_handler(
            self.model_stream_infer, None, serialized
        )
        return grpc.method_handlers_generic_handler(SERVICE, methods)


@dataclasses.dataclass(slots=True)
class _Stream:
    """One ModelStreamInfer: the model that it stays with, and what its requests used together.

    is_begun: something was sent, so that the initial metadata is gone. request_id: of the
    request at work, by which the caller matches an error that comes in band.
    """

    context: Context
    model: str = ""
    request_id: str = ""
    is_begun: bool = False
    used: payload_pb2.Usage = dataclasses.field(default_factory=payload_pb2.Usage)

    def request_of(self, data: bytes) -> oip.ModelInferRequest:
        """The next request. Raises InvalidInputError if it is none, or of another model."""
        self.request_id = ""
        request = parsed(oip.ModelInferRequest, data)
        self.request_id = request.id
        self.model = self.model or request.model_name
        if request.model_name != self.model:
            raise InvalidInputError(f"this stream is of model '{self.model[:64]}'; open another for another")
        return request

    def count(self, usage: payload_pb2.Usage | None) -> None:
        """Add what one of its requests used."""
        if usage is not None:
            self.used.prompt_tokens += usage.prompt_tokens
            self.used.completion_tokens += usage.completion_tokens
            self.used.cached_tokens += usage.cached_tokens


def _facts(protocol: str, request: oip.ModelInferRequest, context: Context) -> CallFacts:
    return facts_of(
        protocol,
        request.model_name,
        request.model_version,
        request.id,
        sent=sent_with(context),
        deadline=deadline_of(context),
    )
