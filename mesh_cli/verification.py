"""Trying a model out: a worker of its own, one tiny inference, and what was seen."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import tempfile
import time
from pathlib import Path

from inference_mesh.client import MeshClient
from inference_mesh.json_payload import task_name
from inference_mesh.tensors import DATATYPES
from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.answers import answer_text
from mesh_cli.child import Child
from mesh_cli.errors import FailedError
from mesh_cli.mesh_file import LocalModel
from mesh_cli.model_list import model_json
from mesh_cli.plan import HOST, command_arguments, worker_spec
from mesh_cli.readiness import wait_settled

STOP_GRACE_S = 5.0
MAX_ELEMENTS = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class VerifyReport:
    """What was seen. load_s: from start to ready. inference_s: of the tiny inference."""

    model: inference_pb2.Model
    load_s: float
    inference_s: float
    answer: str

    def document(self) -> dict[str, object]:
        """For scripts."""
        seconds = {"load_s": round(self.load_s, 3), "inference_s": round(self.inference_s, 4)}
        return {"ok": True, "model": model_json(self.model), **seconds, "answer": self.answer}

    def text(self) -> str:
        """For a person."""
        model = self.model
        facts = [f"task {task_name(model.task)}", f"runtime {model.runtime}"]
        facts += [f"{model.max_tokens} tokens"] if model.max_tokens else []
        facts += [f"{model.dimensions} dimensions"] if model.dimensions else []
        return (
            f"{model.name}: works ({', '.join(facts)})\n"
            f"  loaded in {self.load_s:.2f} s, one tiny inference took {self.inference_s * 1000:.1f} ms\n"
            f"  answer: {self.answer[:200]}"
        )


async def verify_model(model: LocalModel, timeout_s: float) -> VerifyReport:
    """Load the model in a process of its own and ask it once. Raises FailedError, MeshError."""
    spec = worker_spec(model)
    with tempfile.TemporaryDirectory(prefix="mesh-verify-") as folder:
        port_file, log = Path(folder, "ports.json"), Path(folder, "worker.log")
        started = time.monotonic()
        child = await Child.start(
            spec.module, command_arguments(spec, port_file), port_file=port_file, log=log
        )
        try:
            await _wait_ready(child, spec.model, timeout_s)
            load_s = time.monotonic() - started
            ports = child.ports() or {}
            return await _ask_once(f"{HOST}:{ports['grpc']}", spec.model, load_s, timeout_s)
        finally:
            await child.stop(STOP_GRACE_S)


async def _wait_ready(child: Child, name: str, timeout_s: float) -> None:
    try:
        readiness = await asyncio.wait_for(wait_settled(child), timeout_s)
    except TimeoutError:
        raise FailedError(f"{name}: was not loaded within {timeout_s:g} s") from None
    if readiness is None:
        raise FailedError(f"{name}: {child.end_reason(await child.wait())}")
    if not readiness.is_ready:
        raise FailedError(f"{name}: {readiness.problem}")


async def _ask_once(target: str, name: str, load_s: float, timeout_s: float) -> VerifyReport:
    async with MeshClient(target, timeout_s=timeout_s) as mesh:
        model = await mesh.model(name)
        started = time.monotonic()
        answer = await mesh.infer(name, tiny_payload(model))
        return VerifyReport(model, load_s, time.monotonic() - started, answer_text(answer.output))


def tiny_payload(model: inference_pb2.Model) -> payload_pb2.Payload:
    """The least that a model of this task can be asked."""
    if model.task == payload_pb2.TASK_GENERATE:
        return payload_pb2.Payload(generate=payload_pb2.Generate(prompt="Hello", max_tokens=8))
    if model.task == payload_pb2.TASK_EMBED:
        return payload_pb2.Payload(embed=payload_pb2.Embed(texts=["Hello"]))
    if model.task == payload_pb2.TASK_CLASSIFY:
        return payload_pb2.Payload(classify=payload_pb2.Classify(texts=["Hello"]))
    if model.task == payload_pb2.TASK_RERANK:
        return payload_pb2.Payload(rerank=payload_pb2.Rerank(query="Hello", documents=["Hello", "Goodbye"]))
    return payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=[_zeros(spec) for spec in model.inputs]))


def _zeros(spec: payload_pb2.TensorSpec) -> payload_pb2.Tensor:
    """A tensor of zeros (or of empty texts), every free dimension 1. Raises FailedError if it is huge."""
    shape = [1 if size < 0 else size for size in spec.shape]
    count = math.prod(shape)
    if count > MAX_ELEMENTS:
        raise FailedError(f"input '{spec.name}' has {count} elements; that is not tried out")
    size_bytes = 4 if spec.datatype == "BYTES" else DATATYPES[spec.datatype].itemsize
    return payload_pb2.Tensor(
        name=spec.name, datatype=spec.datatype, shape=shape, data=bytes(count * size_bytes)
    )
