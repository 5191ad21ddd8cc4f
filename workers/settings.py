"""What a worker can be told: its model, its engine's sizes and its ports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
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
    tls_cert: Path | None = Field(
        None,
        description="Certificate chain (PEM) of the gRPC port; absent = no TLS. Read again when it changes, "
        "as the two below.",
    )
    tls_key: Path | None = Field(None, description="Private key (PEM) of that certificate.")
    tls_client_ca: Path | None = Field(
        None,
        description="Certificate authority (PEM) of the gateways: who shows no certificate of it cannot "
        "call, and POST /infer of the HTTP port is closed; absent = none is asked for.",
    )
    tls_gateway_names: str = Field(
        "",
        description="Subject alternative names, separated by commas, of the certificates that are a "
        "gateway's; empty = all of tls_client_ca.",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Threads of one computation; 0 = as the machine allows."
    )
    max_queue: int = Field(256, ge=1, le=100_000, description="Requests that may wait; more are refused.")
    slots: int = Field(8, ge=1, le=256, description="llama: answers generated at the same time.")
    context: int = Field(
        0, ge=0, description="llama: tokens of prompt and answer; 0 = as the model was trained."
    )
    max_tokens: int = Field(256, ge=1, description="llama: answer's length where the request names none.")
    inference_pool_metrics: bool = Field(
        False,
        description="llama: /metrics tells the load by the names as well that the endpoint picker of an "
        "InferencePool reads (vllm:num_requests_waiting and others).",
    )
    sessions: int = Field(2, ge=1, le=64, description="onnx: batches computed at the same time.")
    max_batch_rows: int = Field(32, ge=1, le=4096, description="onnx: most rows of one batch.")
    max_batch_tokens: int = Field(4096, ge=1, description="onnx: most tokens of one batch, padding included.")
    provider: Literal["cpu", "cuda"] = Field("cpu", description="onnx: where it is computed.")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> WorkerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together")
        if self.tls_client_ca is not None and self.tls_cert is None:
            raise ValueError("tls_client_ca needs tls_cert and tls_key")
        if self.tls_gateway_names and self.tls_client_ca is None:
            raise ValueError("tls_gateway_names needs tls_client_ca")
        if self.tls_gateway_names and not self.gateway_names:
            raise ValueError("tls_gateway_names has no name")
        return self

    @model_validator(mode="after")
    def _pools_have_language_models(self) -> WorkerSettings:
        if self.inference_pool_metrics and self.runtime != "llama":
            raise ValueError(f"inference_pool_metrics is for runtime llama, and runtime is {self.runtime!r}")
        return self

    @property
    def gateway_names(self) -> frozenset[str]:
        """The names of `tls_gateway_names`."""
        names = (name.strip() for name in self.tls_gateway_names.split(","))
        return frozenset(name for name in names if name)
