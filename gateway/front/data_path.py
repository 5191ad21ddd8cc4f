"""The inference methods as grpc.aio takes them: raw bytes in, raw bytes out.

Owns which methods there are and the steps of each: read the routing fields, have the policy
judge, relay. A data path of another transport replaces this module and `relay`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator

import grpc

from gateway.call import Call, Context
from gateway.front.desk import CallDesk
from gateway.front.routing_fields import RoutingFields, routing_fields
from gateway.policy.facts import Admit
from gateway.upstream.fleet import Fleet, GrpcModel, HttpModel, Model
from gateway.upstream.http_services import HttpServices
from gateway.upstream.relay import Relay
from inference_mesh.errors import InvalidInputError, ModelNotFoundError, UnsupportedError
from inference_mesh.request_ids import request_id_from

NATIVE_SERVICE = "inference_mesh.v1.InferenceService"
OIP_SERVICE = "inference.GRPCInferenceService"


class DataPath:
    """Handlers of the inference methods."""

    def __init__(self, desk: CallDesk, fleet: Fleet, relay: Relay, http_services: HttpServices) -> None:
        self._desk = desk
        self._fleet = fleet
        self._relay = relay
        self._http_services = http_services

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
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self.model_stream_infer),
        }

    async def infer(self, message: bytes, context: Context) -> bytes:
        """InferenceService.Infer."""
        answer = b""
        with self._desk.observed("Infer", context) as call:
            model = self._admit(call, routing_fields(message), message)
            if isinstance(model, HttpModel):
                answer = await self._http_services.infer(call, model, message)
            else:
                answer = await self._relay.unary(call, model.pool, f"/{NATIVE_SERVICE}/Infer", message)
        return answer

    async def infer_stream(self, message: bytes, context: Context) -> None:
        """InferenceService.InferStream."""
        with self._desk.observed("InferStream", context) as call:
            model = _of_workers(self._admit(call, routing_fields(message), message), "streaming")
            await self._relay.server_stream(call, model.pool, f"/{NATIVE_SERVICE}/InferStream", message)

    async def model_infer(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelInfer."""
        return await self._oip_unary("ModelInfer", message, context)

    async def model_metadata(self, message: bytes, context: Context) -> bytes:
        """GRPCInferenceService.ModelMetadata."""
        return await self._oip_unary("ModelMetadata", message, context)

    async def model_stream_infer(self, messages: AsyncIterator[bytes], context: Context) -> None:
        """GRPCInferenceService.ModelStreamInfer: one model for the whole stream."""
        with self._desk.observed("ModelStreamInfer", context) as call:
            try:
                first = await anext(aiter(messages))
            except StopAsyncIteration:
                raise InvalidInputError("the stream has no request") from None
            fields = _oip_fields(first)
            model = _of_workers(self._admit_stream(call, fields, first), "the Open Inference Protocol")

            async def judge(message: bytes) -> None:
                if routing_fields(message).model != fields.model:
                    raise InvalidInputError(f"model_name: this stream is one of '{call.model}'")
                await self._desk.admit_more(call, len(message))

            path = f"/{OIP_SERVICE}/ModelStreamInfer"
            await self._relay.bidirectional(call, model.pool, path, first, messages, judge)

    async def _oip_unary(self, method: str, message: bytes, context: Context) -> bytes:
        answer = b""
        with self._desk.observed(method, context) as call:
            admitted = self._admit(call, _oip_fields(message), message)
            model = _of_workers(admitted, "the Open Inference Protocol")
            answer = await self._relay.unary(call, model.pool, f"/{OIP_SERVICE}/{method}", message)
        return answer  # noqa: RET504  # `observed` may end its block early

    def _admit(self, call: Call, fields: RoutingFields, message: bytes) -> Model:
        """The model that an admitted call goes to; its time limit applies."""
        model = self._admit_stream(call, fields, message)
        call.limit_to(call.admitted.model.timeout_s)
        return model

    def _admit_stream(self, call: Call, fields: RoutingFields, message: bytes) -> Model:
        """The same without a limit: a stream of requests lives as long as its caller wants."""
        decision: Admit = self._desk.admit(call, fields, len(message))
        model = self._fleet.model(decision.model.name)
        if model is None:
            raise ModelNotFoundError(f"there is no model '{decision.model.name}'")
        return model


def _oip_fields(message: bytes) -> RoutingFields:
    """The routing fields; an id that is not fit to be one of ours stays in the message alone.

    The Open Inference Protocol allows any text as an id, which the worker returns.
    """
    fields = routing_fields(message)
    try:
        request_id_from(fields.request_id)
    except InvalidInputError:
        return dataclasses.replace(fields, request_id="")
    return fields


def _of_workers(model: Model, what: str) -> GrpcModel:
    """The model, if its replicas are workers. Raises UnsupportedError for an HTTP service."""
    if isinstance(model, HttpModel):
        raise UnsupportedError(f"model '{model.entry.name}' is an HTTP service, which knows no {what}")
    return model
