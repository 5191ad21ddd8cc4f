"""The inference methods as grpc.aio takes them: raw bytes in, raw bytes out.

Owns which methods there are and what each reads of its message; `serving` leads the call. A
data path of another transport replaces this module and `upstream.relay`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager

import grpc

from gateway.call import Call, Context
from gateway.front import call_span
from gateway.front.desk import CallDesk
from gateway.front.open_inference_answers import config_of, with_versions
from gateway.front.serving import Serving
from gateway.front.witnesses import Witnesses
from gateway.methods import path_of
from gateway.policy.request_cost import RequestFacts, oip_facts, request_facts
from gateway.upstream.fleet import GrpcModel, HttpModel, Model
from gateway.upstream.http_services import HttpServices
from gateway.upstream.relay import Relay
from inference_mesh.errors import InvalidInputError, UnsupportedError
from inference_mesh.messages import parsed
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.request_ids import request_id_from
from inference_mesh.routing_fields import RoutingFields, routing_fields

FIRST_MESSAGE_LIMIT_S = 30.0


class DataPath:
    """Handlers of the inference methods. last_call_s: when the last call came, on the loop's clock."""

    def __init__(
        self,
        desk: CallDesk,
        serving: Serving,
        relay: Relay,
        http_services: HttpServices,
        witnesses: Witnesses,
    ) -> None:
        self._desk = desk
        self._serving = serving
        self._relay = relay
        self._http_services = http_services
        self._witnesses = witnesses
        self.last_call_s = -math.inf

    def native_handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of InferenceService's inference methods, by method."""
        return {
            "Infer": grpc.unary_unary_rpc_method_handler(self.infer),
            "InferStream": grpc.unary_stream_rpc_method_handler(self.infer_stream),
        }

    def oip_handlers(self) -> dict[str, grpc.RpcMethodHandler[bytes, bytes]]:
        """Handlers of GRPCInferenceService's methods that go to a worker, by method."""
        return {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self.model_infer),
            "ModelMetadata": grpc.unary_unary_rpc_method_handler(self.model_metadata),
            "ModelConfig": grpc.unary_unary_rpc_method_handler(self.model_config),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer),
        }

    async def infer(self, message: bytes, context: Context) -> bytes:
        """InferenceService.Infer."""
        answer = b""
        with self._taken("Infer", context) as call:
            facts = await self._routed(call, message)
            with self._witnesses.of(call, facts) as witness:

                async def ask(model: Model) -> bytes:
                    witness.begin(message)
                    if isinstance(model, HttpModel):
                        return await self._http_services.infer(call, model, message)
                    return await self._relay.unary(call, model, path_of("Infer"), message)

                kept = await witness.kept()
                if kept is None:
                    answer = await self._serving.serve(call, facts, ask)
                    witness.saw((answer,))
                else:
                    answer = kept[0]
        return answer

    async def infer_stream(self, message: bytes, context: Context) -> None:
        """InferenceService.InferStream."""
        with self._taken("InferStream", context) as call:
            facts = await self._routed(call, message)
            with self._witnesses.of(call, facts) as witness:

                async def ask(model: Model) -> None:
                    witness.begin(message)
                    worker = _of_workers(model, "streaming")
                    await self._relay.server_stream(call, worker, path_of("InferStream"), message)

                kept = await witness.kept()
                if kept is None:
                    recording = witness.record()
                    await self._serving.serve(call, facts, ask)
                    witness.saw(recording.whole() if recording is not None else None)
                for piece in kept or ():
                    await call.context.write(piece)

    async def model_infer(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelInfer."""
        return await self._oip_unary("ModelInfer", message, context)

    async def model_metadata(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelMetadata: asks a worker, and counts against no limit."""
        answer = b""
        with self._taken("ModelMetadata", context) as call:
            told = await self._metadata(call, message)
            answer = with_versions(told, call.admitted.model).SerializeToString()
        return answer  # noqa: RET504  # `observed` may end its block early

    async def model_config(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelConfig: a worker's metadata and the registry's entry, in one form."""
        answer = b""
        with self._taken("ModelConfig", context) as call:
            asked = parsed(oip.ModelConfigRequest, message)
            question = oip.ModelMetadataRequest(name=asked.name, version=asked.version)
            told = await self._metadata(call, question.SerializeToString())
            config = config_of(told, call.admitted.model)
            answer = oip.ModelConfigResponse(config=config).SerializeToString()
        return answer  # noqa: RET504  # `observed` may end its block early

    async def model_stream_infer(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """GRPCInferenceService.ModelStreamInfer: one model for the whole stream."""
        path = path_of("ModelStreamInfer")
        with self._taken("ModelStreamInfer", context) as call:
            await self._desk.identify(call)  # nobody else is waited for
            first = await _first_of(messages)
            fields = _oip_fields(first)
            await self._serving.route(call, fields, len(first))

            async def judge(message: bytes) -> None:
                if routing_fields(message).model != fields.model:
                    raise InvalidInputError(f"model_name: this stream is one of '{call.model}'")
                await self._serving.admit_more(call, len(message))

            async def ask(model: Model) -> None:
                worker = _of_workers(model, "the Open Inference Protocol")
                await self._relay.bidirectional(call, worker, path, first, messages, judge)

            facts = oip_facts(len(first), call.admitted.model.task)
            await self._serving.serve_without_turn(call, facts, ask)

    async def _metadata(self, call: Call, message: bytes) -> oip.ModelMetadataResponse:
        """What a worker answers to ModelMetadata."""
        await self._serving.route(call, _oip_fields(message), len(message))
        call.limit_to(call.admitted.model.timeout_s)
        model = _of_workers(self._serving.target(call.admitted), "the Open Inference Protocol")
        told = await self._relay.unary(call, model, path_of("ModelMetadata"), message)
        return oip.ModelMetadataResponse.FromString(told)

    def _taken(self, method: str, context: Context) -> AbstractContextManager[Call]:
        """The record of a call that just came, for the length of a block."""
        self.last_call_s = asyncio.get_running_loop().time()
        return self._desk.observed(method, context)

    async def _oip_unary(self, method: str, message: bytes, context: Context) -> bytes:
        answer = b""
        with self._taken(method, context) as call:
            await self._serving.route(call, _oip_fields(message), len(message))
            entry = call.admitted.model
            call.limit_to(entry.timeout_s)
            call_span.note_request(call, None)
            facts = oip_facts(len(message), entry.task)
            with self._witnesses.of(call, facts) as witness:

                async def ask(model: Model) -> bytes:
                    witness.begin(message)
                    worker = _of_workers(model, "the Open Inference Protocol")
                    return await self._relay.unary(call, worker, path_of(method), message)

                answer = await self._serving.serve(call, facts, ask)
                witness.saw((answer,))
        return answer  # `observed` may end its block early

    async def _routed(self, call: Call, message: bytes) -> RequestFacts:
        """The facts of a native request that was let in; its model's time limit applies."""
        fields = routing_fields(message)
        await self._serving.route(call, fields, len(message))
        call.limit_to(call.admitted.model.timeout_s)
        facts = request_facts(message, fields.payload_start)
        call.beginning = facts.beginning
        call_span.note_request(call, facts.payload)
        return facts


async def _first_of(messages: AsyncIterator[bytes]) -> bytes:
    """The first message of a caller's stream. Raises InvalidInputError if none comes in time."""
    try:
        async with asyncio.timeout(FIRST_MESSAGE_LIMIT_S):
            return await anext(aiter(messages))
    except StopAsyncIteration:
        raise InvalidInputError("the stream has no request") from None
    except TimeoutError:
        raise InvalidInputError(f"the stream had no request for {FIRST_MESSAGE_LIMIT_S:g} s") from None


def _oip_fields(message: bytes) -> RoutingFields:
    """The routing fields; an id that is not fit to be one of ours stays in the message alone.

    The Open Inference Protocol allows any text as an id, which the worker returns.
    """
    fields = routing_fields(message)
    try:
        request_id_from(fields.request_id)
    except InvalidInputError:
        return fields._replace(request_id="")
    return fields


def _of_workers(model: Model, what: str) -> GrpcModel:
    """The model, if its replicas are workers. Raises UnsupportedError for an HTTP service."""
    if isinstance(model, HttpModel):
        raise UnsupportedError(f"model '{model.entry.name}' is an HTTP service, which knows no {what}")
    return model
