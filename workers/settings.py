"""What a worker can be told: its model, its engine's sizes and its ports."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from inference_mesh.config.models_file import MODEL_NAME
from inference_mesh.settings import ServiceSettings
from workers.llama.placement import CacheType, FlashAttention, SplitMode


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
    load_report_interval_s: float = Field(
        1.0,
        ge=0.01,
        le=3600,
        description="Shortest time between two reports of the load to one listener (OpenRcaService).",
    )
    threads: int = Field(
        0, ge=0, le=1024, description="Most threads of one computation; 0 = as the machine allows."
    )
    max_queue: int = Field(256, ge=1, le=100_000, description="Requests that may wait; more are refused.")
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="SHA-256 that the GGUF or ONNX file must have; another one is not loaded. Unset = any.",
    )
    check_cache: Path | None = Field(
        None, description="Folder that remembers what was found out about files; unset = the user's cache."
    )
    slots: int = Field(8, ge=1, le=256, description="llama: answers generated at the same time.")
    context: int = Field(
        0, ge=0, description="llama: tokens of prompt and answer; 0 = as the model was trained."
    )
    max_tokens: int = Field(256, ge=1, description="llama: answer's length where the request names none.")
    pooling: Literal["mean", "cls", "last"] | None = Field(
        None, description="llama: how tokens' vectors become a text's; unset = as the file says."
    )
    probe: bool = Field(
        True,
        description="llama: an unknown file is loaded first by a process that may die of it; false = trust.",
    )
    openmp_wait: str = Field(
        "auto",
        pattern=r"^(auto|passive|active|default|[0-9]{1,10})$",
        description="llama: how threads wait for each other: passive (sleep), active (spin), default (spin "
        "about 1 ms, then sleep), or a number of spins. auto = default on CPUs of its own, else passive.",
    )
    kv_cache_bytes: int = Field(
        0, ge=0, description="llama: most memory of the KV cache; 0 = 2 GiB, or one context if that is more."
    )
    kv_cache_type: CacheType = Field(
        "f16", description="llama: numbers of the KV cache; below 16 bits only with flash_attention on."
    )
    kv_cache_value_type: CacheType | None = Field(
        None,
        description="llama: of the values alone; unset = the same. bf16 beside f16 makes answers the same to "
        "the bit whatever else runs, on a CPU, and long prompts slower.",
    )
    flash_attention: FlashAttention = Field(
        "auto", description="llama: auto = as llama.cpp thinks best, which is on wherever it can."
    )
    gpu_layers: int | None = Field(
        None,
        ge=-1,
        le=100_000,
        description="llama: layers on the GPU; -1 = all; unset = all if there is one.",
    )
    main_gpu: int = Field(0, ge=0, le=255, description="llama: the GPU that is used with split_mode none.")
    split_mode: SplitMode = Field("layer", description="llama: how a model is shared by several GPUs.")
    tensor_split: str = Field(
        "",
        pattern=r"^([0-9.]{1,10}(,[0-9.]{1,10})*)?$",
        description="llama: the share of each GPU, separated by commas, e.g. 3,1; empty = by free memory.",
    )
    offload_kqv: bool = Field(
        True, description="llama: the KV cache lies where the layers lie; false = in the host's memory."
    )
    inference_pool_metrics: bool = Field(
        False,
        description="llama: /metrics tells the load by the names as well that the endpoint picker of an "
        "InferencePool reads (vllm:num_requests_waiting and others).",
    )
    sessions: int = Field(2, ge=1, le=64, description="onnx: batches computed at the same time.")
    max_batch_rows: int = Field(32, ge=1, le=4096, description="onnx: most rows of one batch.")
    max_batch_tokens: int = Field(4096, ge=1, description="onnx: most tokens of one batch, padding included.")
    remove_padding: bool = Field(
        True,
        description="onnx: a graph for texts is rewritten so that padding costs next to nothing.",
    )
    graph_cache: Path | None = Field(
        None, description="onnx: folder that keeps rewritten graphs; unset = the user's cache."
    )
    provider: Literal["cpu", "cuda"] = Field("cpu", description="onnx: where it is computed.")
    gpu_device: int = Field(0, ge=0, le=255, description="onnx: the GPU that provider cuda uses.")
    gpu_memory_bytes: int = Field(
        0, ge=0, description="onnx: most memory that provider cuda takes for its arena; 0 = all there is."
    )
    gpu_arena: Literal["power-of-two", "as-requested"] = Field(
        "power-of-two", description="onnx: by how much the arena of provider cuda grows when it is full."
    )

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

    @model_validator(mode="after")
    def _gpu_settings_fit(self) -> WorkerSettings:
        for kind in (self.kv_cache_type, self.kv_cache_value_type or self.kv_cache_type):
            if kind not in ("f32", "f16", "bf16") and self.flash_attention != "on":
                raise ValueError(f"kv_cache_type {kind} needs flash_attention on")
        if self.kv_cache_value_type not in (None, self.kv_cache_type) and self.flash_attention == "off":
            raise ValueError("kv_cache_value_type needs flash_attention")
        try:
            shares = self.gpu_shares
        except ValueError:
            raise ValueError(f"tensor_split is {self.tensor_split!r}: not numbers with commas") from None
        if shares and not sum(shares) > 0:
            raise ValueError(f"tensor_split is {self.tensor_split!r}: at least one share must be above 0")
        return self

    @property
    def gpu_shares(self) -> tuple[float, ...]:
        """The numbers of `tensor_split`."""
        return tuple(float(share) for share in self.tensor_split.split(",") if share)

    @property
    def gateway_names(self) -> frozenset[str]:
        """The names of `tls_gateway_names`."""
        names = (name.strip() for name in self.tls_gateway_names.split(","))
        return frozenset(name for name in names if name)
