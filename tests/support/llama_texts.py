"""An engine for texts under test: started, asked, and its answers as numpy and lists."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_mesh.v1 import payload_pb2
from workers.engine import Chunk, Engine, EngineRequest
from workers.llama.text_engine import LlamaTextEngine
from workers.llama.text_settings import LlamaTextSettings
from workers.observer import NullObserver


@asynccontextmanager
async def running_texts(path: Path, **settings: Any) -> AsyncIterator[LlamaTextEngine]:
    """A loaded engine, closed at the end."""
    engine = LlamaTextEngine(LlamaTextSettings(path, "texts", **settings), NullObserver())
    await engine.load()
    try:
        yield engine
    finally:
        await engine.close()


async def answer(engine: Engine, payload: payload_pb2.Payload, **fields: Any) -> Chunk:
    """The one chunk of an answer."""
    (chunk,) = [chunk async for chunk in engine.submit(EngineRequest(payload, **fields))]
    return chunk


def embed(texts: Sequence[str] = (), **fields: Any) -> payload_pb2.Payload:
    """A payload to embed; ids: token ids in place of texts."""
    ids = fields.pop("ids", ())
    tokens = [payload_pb2.Tokens(ids=one) for one in ids]
    return payload_pb2.Payload(embed=payload_pb2.Embed(texts=texts, tokens=tokens, **fields))


def rerank(query: str, documents: Sequence[str], **fields: Any) -> payload_pb2.Payload:
    """A payload to rank."""
    return payload_pb2.Payload(rerank=payload_pb2.Rerank(query=query, documents=documents, **fields))


def vectors_of(output: payload_pb2.Output) -> NDArray[np.float32]:
    """The vectors (texts, dimensions) of an output."""
    return np.frombuffer(output.embed.values, dtype="<f4").reshape(-1, output.embed.dimensions)


async def vectors(engine: Engine, texts: Sequence[str] = (), **fields: Any) -> NDArray[np.float32]:
    """The vectors of texts."""
    return vectors_of((await answer(engine, embed(texts, **fields))).output)
