"""A worker without a model: a real grpc.aio server that tells what it was asked.

Every answer is JSON: which worker, with which metadata, with how much time left. The prompt of
a request is a list of commands, e.g. "delay=0.5 pieces=10 gap=0.1 status=UNAVAILABLE".
"tokens=20" streams generated text instead, whose tokens have the numbers that are its words,
from behind those that the caller has. "break=3,9" ends and "hang=3" stops that stream once the
caller has so many, the former by its own word with "as=INTERNAL"; "quit=INTERNAL" refuses to go
on with one; "only=NAME" has just the worker
of that label do so, and answer with a status.
Runs inside a test, or as a process: `python -m tests.fakes.fake_worker --name chat`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_health.v1.health import aio as health_aio

from inference_mesh.channels import server_options
from inference_mesh.error_status import STATUS_DETAILS
from inference_mesh.lifecycle import run_service, write_port_file
from inference_mesh.load_report import LoadReport, encode
from inference_mesh.metadata import LOAD_REPORT, PROMPT_TOKENS, USAGE
from inference_mesh.oip import open_inference_pb2 as oip
from inference_mesh.oip import open_inference_pb2_grpc as oip_grpc
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2

SERVING, NOT_SERVING = 1, 2


Native: Any = inference_pb2_grpc.InferenceServiceServicer
OpenInference: Any = oip_grpc.GRPCInferenceServiceServicer
# As Any: their stubs demand every method, and a fake leaves some UNIMPLEMENTED.


class FakeWorker(Native, OpenInference):  # type: ignore[misc]
    """One server for one model; a `lifecycle.Service`."""

    def __init__(
        self, name: str, *, label: str = "", port: int = 0, port_file: str | None = None, slots: int = 0
    ) -> None:
        """label: who answers, to tell replicas apart. port: 0 = any free one. slots: 0 = not told."""
        self.name = name
        self.load = LoadReport(0.5, 1, 2, slots=slots)
        self.label = label or name
        self.port = port
        self.calls = 0
        self.running = 0
        self.sent = 0
        self.refused: str | None = None
        self.resumed_from: list[list[int]] = []
        self.cancelled = asyncio.Event()
        self.health = health_aio.HealthServicer()
        self._port_file = port_file
        self._server: grpc.aio.Server | None = None

    @property
    def target(self) -> str:
        """host:port."""
        return f"127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen and report SERVING."""
        self._server = grpc.aio.server(options=server_options())
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        oip_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        await self.health.set(self.name, SERVING)
        self.port = self._server.add_insecure_port(f"127.0.0.1:{self.port}")
        await self._server.start()
        write_port_file(self._port_file, grpc=self.port)

    async def drain(self) -> None:
        """Report NOT_SERVING."""
        await self.health.set(self.name, NOT_SERVING)

    async def stop(self, grace_s: float | None = None) -> None:
        """Stop listening; running calls end after the grace."""
        if self._server is not None:
            await self._server.stop(grace_s)

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """The facts of the call, after `delay` seconds."""
        facts = await self._take(request, context)
        return inference_pb2.InferResponse(
            model=self.name, request_id=request.request_id, output=payload_pb2.Output(json=facts)
        )

    async def InferStream(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """The facts first, then so many pieces with a gap between them; or tokens."""
        if "tokens" in _commands(request.payload):
            async for answer in self._tokens(request, context):
                yield answer
            return
        facts = await self._take(request, context)
        yield inference_pb2.InferStreamResponse(model=self.name, output=payload_pb2.Output(json=facts))
        commands = _commands(request.payload)
        for number in range(int(commands.get("pieces", "0"))):
            await self._sleep(float(commands.get("gap", "0")))
            piece = payload_pb2.Generated(text=f"{number} ".ljust(int(commands.get("size", "0"))))
            yield inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=piece))
            self.sent += 1

    async def GetModel(self, request: inference_pb2.GetModelRequest, context: Any) -> Any:
        """Itself, as a model that embeds."""
        model = inference_pb2.Model(
            name=self.name,
            version="7",
            task=payload_pb2.TASK_EMBED,
            runtime="fake",
            dimensions=384,
            ready=True,
            slots=self.load.slots,
        )
        return inference_pb2.GetModelResponse(model=model)

    async def ModelInfer(self, request: oip.ModelInferRequest, context: Any) -> oip.ModelInferResponse:
        """The request's id."""
        self.calls += 1
        return oip.ModelInferResponse(model_name=request.model_name, model_version=self.label, id=request.id)

    async def ModelStreamInfer(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:
        """One answer for each request; none for those with the id "mute"."""
        async for request in request_iterator:
            self.calls += 1
            if request.id == "mute":
                continue
            if request.id in (f"refused by {self.label}", self.refused):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "as you wish")
            answer = oip.ModelInferResponse(
                model_name=request.model_name, model_version=self.label, id=request.id
            )
            yield oip.ModelStreamInferResponse(infer_response=answer)

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: Any) -> Any:
        """Its name."""
        return oip.ModelMetadataResponse(name=self.name, platform="fake")

    async def _tokens(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """Tokens from behind what was delivered, each with its text; the last with the usage."""
        await self._take(request, context)
        commands = _commands(request.payload)
        delivered = list(request.payload.generate.delivered_tokens)
        self.resumed_from.append(delivered)
        count = int(commands["tokens"])
        head: dict[str, Any] = {"model": self.name, "version": "7", "request_id": request.request_id}
        for number in range(len(delivered), count):
            await self._misbehave(commands, number, len(delivered), context)
            await self._sleep(float(commands.get("gap", "0")))
            piece = payload_pb2.Generated(text=f"{number} ", tokens=(number,))
            yield inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=piece), **head)
            self.sent += 1
            head = {}
        end = payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_LENGTH)
        usage = payload_pb2.Usage(prompt_tokens=3, completion_tokens=count)
        self._tell(context, usage)
        yield inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=end), usage=usage, **head)
        await self._misbehave(commands, count, len(delivered), context)

    async def _misbehave(self, commands: dict[str, str], number: int, delivered: int, context: Any) -> None:
        """End, stop or refuse a stream of which the caller has so many tokens, if told to."""
        if commands.get("only", self.label) != self.label:
            return
        if number == delivered and number:
            if "quit" in commands:
                await self._refuse(context, grpc.StatusCode[commands["quit"]])
            return
        if str(number) in commands.get("hang", "").split(","):
            await self._sleep(60)
        if str(number) in commands.get("break", "").split(","):
            if "as" in commands:
                await self._refuse(context, grpc.StatusCode[commands["as"]])
            await context.abort(grpc.StatusCode.UNAVAILABLE, "as you wish")

    async def _refuse(self, context: Any, code: grpc.StatusCode) -> None:
        """End a call with a status that is the worker's own."""
        await context.abort(code, "as you wish", ((STATUS_DETAILS, b""),))

    def _tell(self, context: Any, usage: payload_pb2.Usage) -> None:
        """Say in the trailers what was used, and how busy it is."""
        load = encode(self.load)
        context.set_trailing_metadata(((USAGE, usage.SerializeToString()), (LOAD_REPORT, load)))

    async def _take(self, request: Any, context: Any) -> bytes:
        self.calls += 1
        commands = _commands(request.payload)
        await context.send_initial_metadata(((PROMPT_TOKENS, "3"),))
        self._tell(context, payload_pb2.Usage(prompt_tokens=3))
        left_s = context.time_remaining()
        await self._sleep(float(commands.get("delay", "0")))
        if "status" in commands and commands.get("only", self.label) == self.label:
            await context.abort(grpc.StatusCode[commands["status"]], "as you wish", ((USAGE, b"\x08\x04"),))
        return json.dumps(
            {
                "worker": self.label,
                "time_remaining_s": left_s,
                "metadata": {key: str(value) for key, value in context.invocation_metadata()},
            }
        ).encode()

    async def _sleep(self, seconds: float) -> None:
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        finally:
            self.running -= 1


def _commands(payload: payload_pb2.Payload) -> dict[str, str]:
    pairs = (word.partition("=") for word in payload.generate.prompt.split())
    return {key: value for key, _, value in pairs}


def main(kind: type[FakeWorker] = FakeWorker) -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--label", default="")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--port-file")
    parser.add_argument("--slots", type=int, default=0)
    given = parser.parse_args()

    async def serve() -> None:
        worker = kind(
            given.name, label=given.label, port=given.port, port_file=given.port_file, slots=given.slots
        )
        await run_service(worker, drain_delay_s=0, grace_s=5)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
