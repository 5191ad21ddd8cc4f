"""What ONNX Runtime is told of a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from workers.onnx.sessions import provider_options
from workers.onnx.settings import GpuSettings, OnnxSettings


def _told(gpu: GpuSettings) -> dict[str, str]:
    return provider_options(OnnxSettings(Path("model"), "model", provider="cuda", gpu=gpu))


def test_the_cpu_is_told_nothing() -> None:
    assert provider_options(OnnxSettings(Path("model"), "model", gpu=GpuSettings(device=1))) == {}


@pytest.mark.parametrize(
    ("gpu", "told"),
    [
        (GpuSettings(), {"device_id": "0", "arena_extend_strategy": "kNextPowerOfTwo"}),
        (
            GpuSettings(device=2, memory_bytes=2**31, arena="as-requested"),
            {
                "device_id": "2",
                "arena_extend_strategy": "kSameAsRequested",
                "gpu_mem_limit": "2147483648",
            },
        ),
    ],
)
def test_a_gpu_is_told_its_number_its_limit_and_how_it_grows(gpu: GpuSettings, told: dict[str, str]) -> None:
    assert _told(gpu) == told
