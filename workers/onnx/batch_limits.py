"""How large the batches of a model become, by where it runs and whether its graph computes padding.

All figures for the CPU are of all-MiniLM-L6-v2 with 32 concurrent texts of 5 to 60 tokens.
"""

from __future__ import annotations

from workers.onnx.batching import Limits
from workers.onnx.settings import OnnxSettings, Provider

MAX_PADDING_TOKENS: dict[Provider, int] = {"cpu": 14, "cuda": 2048}
"""What a run costs by itself. CPU: 8 and 14 were best of 8 to 45. CUDA: an estimate, not measured."""

UNPADDED_MAX_PADDING_TOKENS = 192
"""Where only attention computes padding, a token of it costs about a tenth."""

ENOUGH_TOKENS: dict[Provider, int] = {"cpu": 256, "cuda": 2**31}
"""CPU: 192 to 384 were best of 96 to 768; more do not fit into the cache of a core."""


def batch_limits(settings: OnnxSettings, *, is_unpadded: bool) -> Limits:
    """The limits of a model's batches. is_unpadded: padding was removed inside its graph."""
    return Limits(
        max_tokens=settings.max_batch_tokens,
        max_lines=settings.max_batch_rows,
        max_padding=UNPADDED_MAX_PADDING_TOKENS if is_unpadded else MAX_PADDING_TOKENS[settings.provider],
        enough_tokens=ENOUGH_TOKENS[settings.provider] * settings.threads_per_session,
    )
