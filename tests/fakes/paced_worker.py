"""A worker of known speed: so many slots, so long a request, so many tokens a second.

A real grpc.aio server with a queue of its own, so that capacity, and with it overload, is an
exact number. Its stream's text is "0 1 2 …" and its tokens are the same numbers, so that a lost,
doubled or reordered token shows. `python -m tests.fakes.paced_worker --name chat`.
GET /stats on its HTTP port counts what it did.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from inference_mesh.channels import server_options
from inference_mesh.health_board import HEALTH_SERVICE, HealthBoard
from inference_mesh.http_server import HttpServer
from inference_mesh.lifecycle import run_service, write_port_file
from inference_mesh.load_report import LoadReport, encode
from inference_mesh.metadata import LOAD_REPORT, PROMPT_TOKENS, TOKEN_BUDGET, USAGE, value_of
from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2

_Servicer: Any = inference_pb2_grpc.InferenceServiceServicer
# As Any: the stubs demand every method, and this leaves some UNIMPLEMENTED.


@dataclasses.dataclass
class Stats:
    """What a worker did. running: at this moment; others: since its start."""

    running: int = 0
    waiting: int = 0
    started: int = 0
    completed: int = 0
    cancelled: int = 0
    started_late: int = 0
    tokens: int = 0


class PacedWorker(_Servicer):  # type: ignore[misc]
    """One worker; a `lifecycle.Service`."""

    def __init__(self, name: str, *, slots: int, service_s: float, token_gap_s: float, mute: bool) -> None:
        """mute: take calls and never answer them. token_gap_s: between two tokens of a stream."""
        self.name = name
        self.stats = Stats()
        self.port = 0
        self._slots = slots
        self._service_s = service_s
        self._token_gap_s = token_gap_s
        self.is_mute = mute
        self.free = asyncio.Semaphore(slots)
        self._health = HealthBoard(lambda: {name: True})
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listen and report SERVING."""
        self._server = grpc.aio.server(options=server_options())
        inference_pb2_grpc.add_InferenceServiceServicer_to_server(self, self._server)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(HEALTH_SERVICE, self._health.handlers()),)
        )
        self.port = self._server.add_insecure_port(f"{host}:{port}")
        await self._server.start()
        self._health.serve()

    async def drain(self) -> None:
        """Report NOT_SERVING."""
        self._health.withdraw()

    async def stop(self, grace_s: float) -> None:
        """Let running calls finish within the grace."""
        self._health.close()
        if self._server is not None:
            await self._server.stop(grace_s)

    async def GetModel(self, request: inference_pb2.GetModelRequest, context: Any) -> Any:
        """Itself, as a model that generates."""
        model = inference_pb2.Model(
            name=self.name, task=payload_pb2.TASK_GENERATE, ready=True, runtime="paced", slots=self._slots
        )
        return inference_pb2.GetModelResponse(model=model)

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """The answer, after the service time."""
        async with _Turn(self, context):
            await asyncio.sleep(self._service_s)
        count = request.payload.generate.max_tokens or 1
        usage = payload_pb2.Usage(prompt_tokens=1, completion_tokens=count)
        self._tell(context, usage)
        text = payload_pb2.Output(generate=payload_pb2.Generated(text="done", tokens=range(count)))
        return inference_pb2.InferResponse(model=self.name, output=text, usage=usage)

    async def InferStream(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        """Tokens at their pace, from behind what was delivered before."""
        generate = request.payload.generate
        count = generate.max_tokens or 10
        budget = value_of(context.invocation_metadata(), TOKEN_BUDGET)
        is_short = budget is not None and int(budget) - 1 < count
        count = min(count, int(budget) - 1) if budget is not None else count
        async with _Turn(self, context):
            await context.send_initial_metadata(((PROMPT_TOKENS, "1"),))
            for number in range(len(generate.delivered_tokens), count):
                await asyncio.sleep(self._token_gap_s)
                self.stats.tokens += 1
                is_last = number + 1 == count
                yield _piece(self.name, number, is_last=is_last, is_short=is_short)
        self._tell(context, payload_pb2.Usage(prompt_tokens=1, completion_tokens=count))

    def _tell(self, context: Any, usage: payload_pb2.Usage) -> None:
        load = LoadReport(
            self.stats.running / self._slots, self.stats.waiting, self.stats.running, slots=self._slots
        )
        context.set_trailing_metadata(((USAGE, usage.SerializeToString()), (LOAD_REPORT, encode(load))))


class _Turn:
    """A slot for the length of a block; a caller who leaves in the queue never starts."""

    def __init__(self, worker: PacedWorker, context: Any) -> None:
        self._worker = worker
        self._deadline = time.monotonic() + (context.time_remaining() or 1e9)

    async def __aenter__(self) -> None:
        worker = self._worker
        worker.stats.waiting += 1
        try:
            if worker.is_mute:
                await asyncio.Event().wait()
            await worker.free.acquire()
        finally:
            worker.stats.waiting -= 1
        worker.stats.running += 1
        worker.stats.started += 1
        worker.stats.started_late += time.monotonic() > self._deadline

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        worker = self._worker
        worker.free.release()
        worker.stats.running -= 1
        worker.stats.cancelled += error is not None
        worker.stats.completed += error is None


def _piece(name: str, number: int, *, is_last: bool, is_short: bool) -> inference_pb2.InferStreamResponse:
    generated = payload_pb2.Generated(text=f"{number} ", tokens=[number])
    piece = inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=generated))
    if number == 0:
        piece.model = name
    if is_last:
        piece.output.generate.finish_reason = payload_pb2.FINISH_REASON_LENGTH
        reason = payload_pb2.LENGTH_REASON_TOKEN_BUDGET if is_short else payload_pb2.LENGTH_REASON_MAX_TOKENS
        piece.output.generate.length_reason = reason
        piece.usage.prompt_tokens, piece.usage.completion_tokens = 1, number + 1
    return piece


class PacedProcess:
    """The worker as a process: with an HTTP port and a port file."""

    def __init__(self, worker: PacedWorker, host: str, port: int, port_file: str | None) -> None:
        self._worker = worker
        self._host, self._port = host, port
        self._port_file = port_file
        routes = [
            Route("/stats", lambda _: JSONResponse(dataclasses.asdict(worker.stats))),
            Route("/readyz", lambda _: JSONResponse({})),
        ]
        self._http = HttpServer(Starlette(routes=routes), "127.0.0.1", 0)

    async def start(self) -> None:
        """Listen on both ports."""
        await self._worker.start(self._host, self._port)
        await self._http.start()
        write_port_file(self._port_file, grpc=self._worker.port, http=self._http.port)

    async def drain(self) -> None:
        """Report NOT_SERVING."""
        await self._worker.drain()

    async def stop(self, grace_s: float) -> None:
        """Let running calls finish."""
        await self._worker.stop(grace_s)
        await self._http.stop(0.1)


def main() -> None:
    """Serve until SIGTERM."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--name", required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--slots", type=int, default=4)
    parser.add_argument("--service-s", type=float, default=0.02)
    parser.add_argument("--token-gap-s", type=float, default=0.02)
    parser.add_argument("--mute", action="store_true")
    parser.add_argument("--port-file")
    given = parser.parse_args()

    async def serve() -> None:
        worker = PacedWorker(
            given.name,
            slots=given.slots,
            service_s=given.service_s,
            token_gap_s=given.token_gap_s,
            mute=given.mute,
        )
        process = PacedProcess(worker, given.host, given.port, given.port_file)
        await run_service(process, drain_delay_s=0.3, grace_s=30)

    asyncio.run(serve())


if __name__ == "__main__":
    main()
