"""What the options of `mesh bench` may be; without an import that takes time."""

from __future__ import annotations

from enum import StrEnum


class Dialect(StrEnum):
    """What a load speaks."""

    NATIVE = "native"
    OIP = "oip"
    INFER = "infer"
    OPENAI = "openai"
    OIP_REST = "oip-rest"


class Kind(StrEnum):
    """What a model does."""

    GENERATE = "generate"
    EMBED = "embed"
    RERANK = "rerank"
    CLASSIFY = "classify"
