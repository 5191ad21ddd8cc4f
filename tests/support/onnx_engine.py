"""An ONNX engine under test: started, asked and watched."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from inference_mesh import tensors
from inference_mesh.errors import MeshError
from inference_mesh.v1 import payload_pb2
from workers.engine import Chunk, EngineRequest
from workers.onnx.engine import OnnxEngine
from workers.onnx.settings import OnnxSettings

PATIENCE_S = 20.0
SLOW_ROWS = 20_000


class Counts:
    """An observer that counts."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.dropped = 0

    def batch_computed(self, rows: int) -> None:
        """Note a batch."""
        self.batches.append(rows)

    def requests_dropped(self, count: int) -> None:
        """Note what left the queue unbegun."""
        self.dropped += count


@asynccontextmanager
async def running(
    path: Path, observer: Counts | None = None, **settings: object
) -> AsyncIterator[OnnxEngine]:
    """A loaded engine, closed at the end; what it keeps of the model goes away with it."""
    with tempfile.TemporaryDirectory() as cache:
        told: Any = {"cache": Path(cache), **settings}
        engine = OnnxEngine(OnnxSettings(path, "model", **told), observer or Counts())
        await engine.load()
        try:
            yield engine
        finally:
            await engine.close()


async def answer(
    engine: OnnxEngine, payload: payload_pb2.Payload, timeout_s: float | None = None, **terms: Any
) -> Chunk:
    """The one chunk of a request; terms: fields of the EngineRequest."""
    deadline = None if timeout_s is None else asyncio.get_running_loop().time() + timeout_s
    chunks = [chunk async for chunk in engine.submit(EngineRequest(payload, deadline, **terms))]
    assert len(chunks) == 1
    return chunks[0]


async def until(condition: Callable[[], bool]) -> None:
    """Return once the condition holds; the engine's load has no event to wait for."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0)


def tensors_payload(outputs: Sequence[str] = (), **arrays: np.ndarray) -> payload_pb2.Payload:
    """A request of tensors."""
    given = [tensors.from_array(name, array) for name, array in arrays.items()]
    return payload_pb2.Payload(tensors=payload_pb2.Tensors(tensors=given, outputs=outputs))


def embed_payload(*texts: str, **fields: Any) -> payload_pb2.Payload:
    """A request of texts; fields: others of Embed."""
    return payload_pb2.Payload(embed=payload_pb2.Embed(texts=texts, **fields))


def arrays_of(chunk: Chunk) -> dict[str, np.ndarray]:
    """The answered tensors by name, in order."""
    return {tensor.name: tensors.to_array(tensor) for tensor in chunk.output.tensors.tensors}


def vectors_of(chunk: Chunk) -> np.ndarray:
    """The answered vectors, (texts, dimensions)."""
    embeddings = chunk.output.embed
    return np.frombuffer(embeddings.values, "<f4").reshape(-1, embeddings.dimensions)


def index_payload(*index: int) -> payload_pb2.Payload:
    """A request to the lookup model."""
    return tensors_payload(index=np.array(index, dtype=np.int64))


async def occupy(engine: OnnxEngine, group: asyncio.TaskGroup) -> asyncio.Task[Chunk]:
    """Keep the engine's only session busy with one slow request."""
    slow = group.create_task(answer(engine, index_payload(*[1] * SLOW_ROWS)))
    await until(lambda: engine.load_now().running == 1)
    return slow


async def answer_or_error(
    engine: OnnxEngine, payload: payload_pb2.Payload, timeout_s: float | None = None
) -> Chunk | MeshError:
    """The one chunk of a request, or its error."""
    try:
        return await answer(engine, payload, timeout_s)
    except MeshError as error:
        return error
