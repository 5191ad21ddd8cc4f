"""One request to one model, printed as it is answered."""

from __future__ import annotations

import dataclasses

from inference_mesh.client import MeshClient
from inference_mesh.v1 import payload_pb2
from mesh_cli.answers import answer_json, answer_text, piece_json
from mesh_cli.errors import FailedError, UsageError
from mesh_cli.payloads import Sampling, continued_payload, json_payload, text_payload
from mesh_cli.target import Access


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a model. Exactly one of text and json_text is set.

    version: empty = the registry's choice.
    """

    model: str
    text: str | None
    json_text: str | None
    is_raw: bool
    system: str | None
    sampling: Sampling
    version: str = ""

    def payload(self, task: payload_pb2.Task) -> payload_pb2.Payload:
        """The payload for a model of this task. Raises UsageError, InvalidInputError."""
        if self.json_text is not None:
            return json_payload(task, self.json_text, self.sampling, system=self.system)
        if self.is_raw:
            return continued_payload(task, self.text or "", self.sampling, system=self.system)
        return text_payload(task, self.text or "", self.sampling, system=self.system)


async def ask(
    question: Question, access: Access, timeout_s: float, *, is_stream: bool, is_json: bool
) -> None:
    """Ask and print the answer. Raises MeshError, UsageError."""
    async with access.client(timeout_s) as mesh:
        model = await mesh.model(question.model)
        if model.task == payload_pb2.TASK_UNSPECIFIED:
            raise FailedError(f"model '{model.name}' has not been loaded yet; `mesh status` says why")
        payload = question.payload(model.task)
        if is_stream and not is_json and payload.generate.n > 1:
            raise UsageError("a stream of several answers is printed as JSON only; add --output json")
        if is_stream:
            await _print_stream(mesh, question, payload, is_json=is_json)
            return
        answer = await mesh.infer(question.model, payload, version=question.version)
        print(answer_json(answer) if is_json else answer_text(answer.output))


async def _print_stream(
    mesh: MeshClient, question: Question, payload: payload_pb2.Payload, *, is_json: bool
) -> None:
    async for piece in mesh.stream(question.model, payload, version=question.version):
        if is_json:
            print(piece_json(piece), flush=True)
        else:
            print(answer_text(piece.output), end="", flush=True)
    if not is_json:
        print()
