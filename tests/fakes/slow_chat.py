"""A chat model that never comes to an end: `python -m tests.fakes.slow_chat`; prints its port."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from inference_mesh.v1 import inference_pb2, inference_pb2_grpc, payload_pb2

GAP_S = 0.02


# As Any: the stubs demand every method, and this leaves some UNIMPLEMENTED.
_Servicer: Any = inference_pb2_grpc.InferenceServiceServicer


class SlowChat(_Servicer):  # type: ignore[misc]
    """Answers a stream with one word again and again, after the number of messages it was sent."""

    async def GetModel(self, request: inference_pb2.GetModelRequest, context: Any) -> Any:
        """Itself."""
        model = inference_pb2.Model(name=request.model, task=payload_pb2.TASK_GENERATE, ready=True)
        return inference_pb2.GetModelResponse(model=model)

    async def InferStream(
        self, request: inference_pb2.InferStreamRequest, context: Any
    ) -> AsyncIterator[Any]:
        """Words until the caller leaves."""
        text = f"messages={len(request.payload.generate.chat.messages)} "
        while True:
            piece = payload_pb2.Output(generate=payload_pb2.Generated(text=text))
            yield inference_pb2.InferStreamResponse(output=piece)
            await asyncio.sleep(GAP_S)
            text = "again "


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(SlowChat(), server)
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
