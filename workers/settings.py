"""What a worker can be told: its model, its engine's sizes and its ports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from inference_mesh.config.models_file import MODEL_NAME
from inference_mesh.settings import ServiceSettings


class WorkerSettings(ServiceSettings):
    """Settings of `python -m workers`."""

    model_config = SettingsConfigDict(
        env_prefix="MESH_WORKER_", extra="forbid", frozen=True, protected_namespaces=()
    )

    model: Path = Field(description="GGUF file, ONNX file, or folder with model.onnx.")
    name: str = Field(pattern=rf"^{MODEL_NAME.pattern}$", description="Name that requests call the model by.")
    runtime: Literal["llama", "onnx"] = Field(description="Engine that runs it.")
    task: Literal["generate", "embed", "rerank", "classify", "tensors"] | None = Field(
        None, description="What the model does; unset = as its files say."
    )
    version: str = Field("", max_length=64, description="Version of the model, as the registry has it.")
    grpc_port: int = Field(50051, ge=0, le=65535, description="gRPC port; 0 = any free one.")
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of one computation; 0 = as the machine allows."
    )
    max_queue: int = Field(256, ge=1, le=100_000, description="Requests that may wait; more are refused.")
    slots: int = Field(8, ge=1, le=256, description="llama: answers generated at the same time.")
    context: int = Field(
        0, ge=0, description="llama: tokens of prompt and answer; 0 = as the model was trained."
    )
    max_tokens: int = Field(256, ge=1, description="llama: answer's length where the request names none.")
    sessions: int = Field(2, ge=1, le=64, description="onnx: batches computed at the same time.")
    max_batch_rows: int = Field(32, ge=1, le=4096, description="onnx: most rows of one batch.")
    max_batch_tokens: int = Field(4096, ge=1, description="onnx: most tokens of one batch, padding included.")
    provider: Literal["cpu", "cuda"] = Field("cpu", description="onnx: where it is computed.")
