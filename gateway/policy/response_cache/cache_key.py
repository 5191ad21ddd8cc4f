"""Which requests may be answered from memory, and which are the same request. Pure.

A request is kept if its answer does not depend on chance: embed, rerank and classify, and
generate at temperature 0. Owns that rule and the key; the memory is `gateway.response_cache`.
"""

from __future__ import annotations

import dataclasses
import hashlib

from inference_mesh.config.tenants_file import GenerateDefaults
from inference_mesh.v1 import payload_pb2

CACHED_KINDS = frozenset({"embed", "rerank", "classify"})
CACHED_METHODS = frozenset({"Infer", "InferStream"})
MAX_PAYLOAD_BYTES = 256 * 1024
"""Larger payloads are not looked up: their digest would take longer than a millisecond."""

NO_DEFAULTS = GenerateDefaults()


@dataclasses.dataclass(frozen=True, slots=True)
class Question:
    """Everything that an answer depends on.

    salt: tells tenants apart. version: the registry's; where it names none, what the caller
    wrote. defaults: the tenant's, for what the request leaves out. max_tokens: the clamp of the
    registry.
    """

    salt: str
    model: str
    version: str
    method: str
    payload: payload_pb2.Payload
    defaults: GenerateDefaults = NO_DEFAULTS
    max_tokens: int | None = None


def cacheable(payload: payload_pb2.Payload, defaults: GenerateDefaults = NO_DEFAULTS) -> bool:
    """Whether the answer is the same each time. defaults: the tenant's own."""
    kind = payload.WhichOneof("kind")
    if kind != "generate":
        return kind in CACHED_KINDS
    sampling = payload.generate.sampling
    temperature = sampling.temperature if sampling.HasField("temperature") else defaults.temperature
    return temperature == 0


def _is_length_open(question: Question) -> bool:
    """Whether the length of the answer depends on what this caller may still use."""
    if question.payload.WhichOneof("kind") != "generate" or question.payload.generate.max_tokens:
        return False
    return question.defaults.max_tokens is None and question.max_tokens is None


def cache_key(question: Question) -> bytes | None:
    """SHA-256 of the question; None if its answer may not be kept.

    The caller's id and the names under which it knows the model are no part of it, nor the
    order in which a client's encoder wrote the fields.
    """
    if question.method not in CACHED_METHODS or not cacheable(question.payload, question.defaults):
        return None
    if _is_length_open(question):
        return None
    canonical = question.payload.SerializeToString(deterministic=True)
    if len(canonical) > MAX_PAYLOAD_BYTES:
        return None
    words = [question.salt, question.model, question.version, question.method]
    if question.payload.HasField("generate"):
        words += [question.defaults.model_dump_json(exclude_none=True), str(question.max_tokens)]
    digest = hashlib.sha256(usedforsecurity=False)
    for part in (*(word.encode() for word in words), canonical):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()
