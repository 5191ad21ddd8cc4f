"""Where a model's weights and KV cache lie, and in which precision: CPU, or one or more GPUs.

Owns the choice and how llama.cpp is told. The choice is the operator's; what is left open
follows from whether this build of llama.cpp finds a GPU.
"""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Any, Literal, TypeAlias

from inference_mesh.errors import ModelNotReadyError

SplitMode: TypeAlias = Literal["none", "layer", "row"]
FlashAttention: TypeAlias = Literal["auto", "on", "off"]
CacheType: TypeAlias = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0"]

SPLIT_MODES: dict[SplitMode, int] = {"none": 0, "layer": 1, "row": 2}
CACHE_TYPES: dict[CacheType, tuple[int, float]] = {
    "f32": (0, 4.0), "f16": (1, 2.0), "bf16": (30, 2.0), "q8_0": (8, 34 / 32), "q5_1": (7, 24 / 32),
    "q5_0": (6, 22 / 32), "q4_1": (3, 20 / 32), "q4_0": (2, 18 / 32),
}  # fmt: skip
"""ggml's number of each type, and bytes of one value."""

ALL_LAYERS = -1


@dataclasses.dataclass(frozen=True, slots=True)
class Placement:
    """What the operator chose.

    gpu_layers: layers on the GPU; -1 = all, None = all if there is a GPU. main_gpu: the one that
    is used with split_mode none, and for small results with row. tensor_split: the share of each
    GPU, in any unit; empty = by their free memory. offloads_kv: the KV cache and attention lie
    where the layers lie. flash_attention: `auto` = as llama.cpp thinks best. cache_type: of keys
    and values; a quantised one needs flash attention. value_type: of values alone; None = the same.
    """

    gpu_layers: int | None = None
    main_gpu: int = 0
    split_mode: SplitMode = "layer"
    tensor_split: tuple[float, ...] = ()
    offloads_kv: bool = True
    flash_attention: FlashAttention = "auto"
    cache_type: CacheType = "f16"
    value_type: CacheType | None = None

    @property
    def cache_value_bytes(self) -> float:
        """Bytes of one number in the KV cache, on average."""
        return (CACHE_TYPES[self.cache_type][1] + CACHE_TYPES[self.value_type or self.cache_type][1]) / 2


def gpu_layers(placement: Placement, *, has_gpu: bool) -> int:
    """How many layers go to the GPU; -1 = all. Raises ModelNotReadyError if asked for without one."""
    if placement.gpu_layers is None:
        return ALL_LAYERS if has_gpu else 0
    if placement.gpu_layers and not has_gpu:
        raise ModelNotReadyError(
            f"gpu_layers is {placement.gpu_layers}, and llama.cpp finds no GPU: this build of it is for the "
            "CPU, or the driver or the device is missing; set gpu_layers to 0, or install a build with CUDA"
        )
    return placement.gpu_layers


def uses_gpu_memory(placement: Placement, *, has_gpu: bool) -> bool:
    """True if layers and KV cache lie on a GPU, so that the host's memory is no limit.

    Raises ModelNotReadyError as `gpu_layers`.
    """
    return gpu_layers(placement, has_gpu=has_gpu) != 0 and placement.offloads_kv


def place_model(params: Any, placement: Placement, library: Any) -> object:
    """Tell llama_model_params. The result must live until the model is loaded.

    Raises ModelNotReadyError if there is no such GPU.
    """
    params.n_gpu_layers = gpu_layers(placement, has_gpu=bool(library.llama_supports_gpu_offload()))
    params.main_gpu = placement.main_gpu
    params.split_mode = SPLIT_MODES[placement.split_mode]
    if not placement.tensor_split:
        return None
    devices = int(library.llama_max_devices())
    if len(placement.tensor_split) > devices:
        raise ModelNotReadyError(
            f"tensor_split has {len(placement.tensor_split)} shares; this build of llama.cpp takes {devices}"
        )
    shares = (ctypes.c_float * devices)(*placement.tensor_split)
    params.tensor_split = ctypes.cast(shares, ctypes.POINTER(ctypes.c_float))
    return shares


def place_context(params: Any, placement: Placement, library: Any) -> None:
    """Tell llama_context_params."""
    params.type_k = CACHE_TYPES[placement.cache_type][0]
    params.type_v = CACHE_TYPES[placement.value_type or placement.cache_type][0]
    params.offload_kqv = placement.offloads_kv
    # Without it every step computes the scores of all cells, of idle prefixes too, and masks them then.
    choices = {
        "on": library.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": library.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        "auto": library.LLAMA_FLASH_ATTN_TYPE_AUTO,
    }
    params.flash_attn_type = choices[placement.flash_attention]
