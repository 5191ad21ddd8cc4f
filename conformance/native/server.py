"""A connected server of inference_mesh.v1: its stubs, and the models to examine it with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc

from conformance.checks import BreachError, NotApplicableError, Suite
from conformance.doors import Metadata, is_implemented, metadata_of, open_grpc
from conformance.subject import Subject
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2

UNKNOWN_MODEL = "conformance-no-such-model"
OPTIONS = {
    payload_pb2.TASK_GENERATE: "--generate",
    payload_pb2.TASK_EMBED: "--embed",
    payload_pb2.TASK_TENSORS: "--tensors",
}


class NativeServer:
    """Owns the stubs of one channel, and which models were found."""

    def __init__(self, channel: grpc.aio.Channel, subject: Subject) -> None:
        self.channel = channel
        self.stub: Any = inference_pb2_grpc.InferenceServiceStub(channel)
        self.health: Any = health_pb2_grpc.HealthStub(channel)
        self.metadata: Metadata = metadata_of(subject.api_key)
        self.has_key = bool(subject.api_key)
        names = subject.models
        self._named = {
            payload_pb2.TASK_GENERATE: names.generate,
            payload_pb2.TASK_EMBED: names.embed,
            payload_pb2.TASK_TENSORS: names.tensors,
        }
        self._listed: list[inference_pb2.Model] | None = None

    async def models(self) -> list[inference_pb2.Model]:
        """What ListModels says, asked once."""
        if self._listed is None:
            answer = await self.stub.ListModels(inference_pb2.ListModelsRequest(), metadata=self.metadata)
            self._listed = list(answer.models)
        return self._listed

    async def model(self, task: payload_pb2.Task) -> inference_pb2.Model:
        """The model that was named for a task, else the first ready one. Raises NotApplicableError."""
        wanted = self._named[task]
        models = await self.models()
        if wanted:
            for model in models:
                if wanted == model.name or wanted in model.aliases:
                    return model
            raise BreachError(f"ListModels does not list '{wanted}'")
        for model in models:
            if model.task == task and model.ready:
                return model
        kind = payload_pb2.Task.Name(task).removeprefix("TASK_").lower()
        raise NotApplicableError(
            f"the server lists no ready model of the task {kind}; name one by {OPTIONS[task]}"
        )

    async def infer(self, request: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        """One unary call."""
        answer: inference_pb2.InferResponse = await self.stub.Infer(request, metadata=self.metadata)
        return answer

    async def pieces(
        self, request: inference_pb2.InferStreamRequest, timeout_s: float | None = None
    ) -> list[inference_pb2.InferStreamResponse]:
        """All messages of a streamed call."""
        call = self.stub.InferStream(request, metadata=self.metadata, timeout=timeout_s)
        return [piece async for piece in call]

    async def generate(
        self, fields: payload_pb2.Generate | None = None
    ) -> tuple[inference_pb2.InferResponse, payload_pb2.Generated]:
        """A unary answer to `prompt_of(fields)` by the model that generates, and its text's message."""
        answer = await self.infer(await self.generate_request(fields))
        if answer.output.WhichOneof("kind") != "generate":
            raise BreachError(
                f"output.{answer.output.WhichOneof('kind')} is set; output.generate was expected"
            )
        return answer, answer.output.generate

    async def generate_request(
        self, fields: payload_pb2.Generate | None = None
    ) -> inference_pb2.InferRequest:
        """A greedy request of 24 tokens at most; `fields` replaces what it sets."""
        model = await self.model(payload_pb2.TASK_GENERATE)
        generate = payload_pb2.Generate(
            chat=payload_pb2.Chat(messages=[payload_pb2.ChatMessage(role="user", content="Who are you?")]),
            max_tokens=24,
            sampling=payload_pb2.Sampling(temperature=0),
        )
        if fields is not None:
            generate.MergeFrom(fields)
        return inference_pb2.InferRequest(
            model=model.name, request_id="conformance-1", payload=payload_pb2.Payload(generate=generate)
        )


def streamed(request: inference_pb2.InferRequest) -> inference_pb2.InferStreamRequest:
    """The same request for InferStream."""
    return inference_pb2.InferStreamRequest(
        model=request.model,
        version=request.version,
        request_id=request.request_id,
        payload=request.payload,
    )


@asynccontextmanager
async def _connect(subject: Subject) -> AsyncIterator[NativeServer]:
    async with open_grpc(subject) as channel:
        yield NativeServer(channel, subject)


async def _is_spoken(server: NativeServer) -> bool:
    call = server.stub.ListModels(inference_pb2.ListModelsRequest(), metadata=server.metadata)
    return await is_implemented(call)


NATIVE: Suite[NativeServer] = Suite("native", "inference_mesh.v1 over gRPC", _connect, _is_spoken)
