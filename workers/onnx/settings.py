"""What an ONNX engine is told at its start."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from inference_mesh.v1 import payload_pb2

Provider = Literal["cpu", "cuda"]
Arena = Literal["power-of-two", "as-requested"]


@dataclasses.dataclass(frozen=True, slots=True)
class GpuSettings:
    """What provider cuda is told. memory_bytes: most that its arena takes; 0 = all there is.

    arena: by how much it grows when it is full: to the next power of two, or by what is missing.
    """

    device: int = 0
    memory_bytes: int = 0
    arena: Arena = "power-of-two"


@dataclasses.dataclass(frozen=True, slots=True)
class OnnxSettings:
    """One model and how it is run.

    path: a folder with model.onnx (and tokenizer.json, model.json), or an .onnx file.
    task: TASK_UNSPECIFIED = as model.json says, else as the files suggest.
    sessions: runs at a time, each on its own thread. threads_per_session: of one run.
    max_batch_tokens, max_batch_rows: most that one run computes, padding included; a single
    request over them runs alone. max_queue: requests that may wait; at least 1.
    max_tokens: longest text; 0 = as model.json or the tokenizer says.
    gpu: for provider cuda. removes_padding: False = the graph of a model for texts stays as it is.
    cache: folder of the graphs that were prepared; None = below the user's cache.
    """

    path: Path
    name: str
    version: str = ""
    task: payload_pb2.Task = payload_pb2.TASK_UNSPECIFIED
    sessions: int = 2
    threads_per_session: int = 1
    max_batch_tokens: int = 4096
    max_batch_rows: int = 32
    max_queue: int = 256
    max_tokens: int = 0
    provider: Provider = "cpu"
    gpu: GpuSettings = GpuSettings()
    removes_padding: bool = True
    cache: Path | None = None
