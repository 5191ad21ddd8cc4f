"""A worker that computes nothing: the same few words at once for a chat, and what a fake worker streams.

Runs as a process: `python -m tests.bench.peers.mock_worker --name chat`.
"""

from __future__ import annotations

from typing import Any

from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes import fake_worker

ANSWER = payload_pb2.Output(
    generate=payload_pb2.Generated(
        text="yes, it is", finish_reason=payload_pb2.FINISH_REASON_STOP, tokens=(1, 2, 3, 4)
    )
)
USAGE = payload_pb2.Usage(prompt_tokens=9, completion_tokens=4)


class MockWorker(fake_worker.FakeWorker):
    """As a fake worker, but one answer is as short as the mock of OpenAI's."""

    async def Infer(self, request: inference_pb2.InferRequest, context: Any) -> inference_pb2.InferResponse:
        """The few words."""
        self._tell(context, USAGE)
        return inference_pb2.InferResponse(
            model=self.name, version="7", request_id=request.request_id, output=ANSWER, usage=USAGE
        )

    async def GetModel(self, request: inference_pb2.GetModelRequest, context: Any) -> Any:
        """Itself, as a model that generates."""
        model = inference_pb2.Model(
            name=self.name, version="7", task=payload_pb2.TASK_GENERATE, runtime="fake", ready=True
        )
        return inference_pb2.GetModelResponse(model=model)


if __name__ == "__main__":
    fake_worker.main(MockWorker)
