"""What a request may use, told from its bytes before it runs. Pure.

Owns the upper bound of its prompt, the longest answer that it asks for, and what it leaves to
defaults. A token has at least one byte, so the bytes of a text bound its tokens; where a
tokenizer makes more of a text all the same, the worker keeps to the total that was reserved.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from google.protobuf.message import DecodeError

from gateway.policy.facts import Cost
from gateway.policy.routing.affinity import beginning_of
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import GenerateDefaults, Tenant
from inference_mesh.v1 import inference_pb2, payload_pb2

DEFAULT_COMPLETION_TOKENS = 1024
"""Reserved for an answer whose length neither the request nor the registry limits."""

TEXT_OVERHEAD_TOKENS = 8
"""Tokens that mark where a text begins and ends."""
TEMPLATE_OVERHEAD_TOKENS = 64
"""Tokens that a chat template adds to a conversation."""
MESSAGE_OVERHEAD_TOKENS = 16
"""Tokens that a chat template adds to each message."""
TOOL_OVERHEAD_TOKENS = 64
"""Tokens that a chat template adds to each tool, beside its own bytes."""
TOOL_FACTOR = 2
"""Some templates write a tool's schema over many indented lines."""
MAX_ANSWERS = 16
"""A worker refuses a request for more."""

TEXT_TASKS = frozenset({"generate", "embed", "rerank", "classify"})
WITHOUT_TOKENS = frozenset({0x2A, 0x32})
"""First byte of a payload of tensors or JSON: their tokens are not counted, so they are not parsed."""


class RequestFacts(NamedTuple):
    """What the policy reads of a native request.

    payload: None where it has no tokens or is not well formed, which the worker will say.
    version: as the caller wrote it. is_generate: whether text is to be made. beginning: of the
    prompt that it is made from; None = not known. answers: to the one prompt.
    """

    prompt_tokens: int = 0
    payload: payload_pb2.Payload | None = None
    version: str = ""
    is_generate: bool = False
    beginning: bytes | None = None
    answers: int = 1


NOTHING = RequestFacts()


def request_facts(message: bytes, payload_start: int) -> RequestFacts:
    """The facts of an InferRequest's bytes. payload_start: position of its payload's first byte, or -1."""
    if payload_start < 0 or payload_start >= len(message) or message[payload_start] in WITHOUT_TOKENS:
        return NOTHING
    try:
        request = inference_pb2.InferRequest.FromString(message)
    except DecodeError:
        return NOTHING
    return payload_facts(request.payload, request.version)


def oip_facts(size_bytes: int, task: str | None) -> RequestFacts:
    """The facts of an Open Inference Protocol request, of which only the model is read.

    Its texts are no longer than the message. task: the model's, by the registry; None = it
    does not say, and nothing is counted beforehand.
    """
    if task not in TEXT_TASKS:
        return NOTHING
    return RequestFacts(size_bytes + TEXT_OVERHEAD_TOKENS, is_generate=task == "generate")


def payload_facts(payload: payload_pb2.Payload, version: str = "") -> RequestFacts:
    """The facts of a payload. version: as the caller wrote it."""
    kind = payload.WhichOneof("kind")
    if kind == "generate":
        generate = payload.generate
        source = generate.WhichOneof("input")
        bound = _generate_bound(generate, source)
        answers = min(generate.n or 1, MAX_ANSWERS)
        return RequestFacts(bound, payload, version, True, beginning_of(generate, source), answers)
    return RequestFacts(_texts_bound(payload, kind), payload, version)


def cost_of(facts: RequestFacts, tenant: Tenant, entry: ModelEntry) -> Cost:
    """What is reserved for a request of a tenant to a model."""
    if not facts.is_generate:
        return Cost(facts.prompt_tokens)
    own = facts.payload.generate.max_tokens if facts.payload is not None else 0
    asked = own or tenant.defaults.max_tokens or entry.max_tokens
    longest = min(asked or DEFAULT_COMPLETION_TOKENS, entry.max_tokens or 2**31)
    return Cost(facts.prompt_tokens, longest * facts.answers)


def has_defaults(tenant: Tenant) -> bool:
    """Whether a tenant's generate requests have defaults of their own."""
    return bool(tenant.defaults.model_fields_set)


def defaults_for_worker(tenant: Tenant, cost: Cost, answers: int = 1) -> bytes:
    """What stands in for what a generate request leaves out, as a serialised Generate.

    cost: what was reserved; its share of each answer is the default length, so that reserve and
    answer agree.
    """
    return _defaults(tenant.defaults, cost.completion_tokens // answers)


@functools.lru_cache(maxsize=4096)
def _defaults(defaults: GenerateDefaults, max_tokens: int) -> bytes:
    given = defaults.model_dump(exclude_none=True, exclude={"max_tokens"})
    generate = payload_pb2.Generate(max_tokens=max_tokens)
    if given:
        generate.sampling.CopyFrom(payload_pb2.Sampling(**given))
    return generate.SerializeToString()


def _texts_bound(payload: payload_pb2.Payload, kind: str | None) -> int:
    """Never fewer tokens than the worker counts in texts that no text is made from."""
    if kind == "embed":
        return sum(_text_bound(text) for text in payload.embed.texts)
    if kind == "classify":
        return sum(_text_bound(text) for text in payload.classify.texts)
    if kind == "rerank":
        query = _text_bound(payload.rerank.query)
        return sum(query + _text_bound(text) for text in payload.rerank.documents)
    return 0


def _generate_bound(generate: payload_pb2.Generate, source: str | None) -> int:
    if source == "prompt":
        return _text_bound(generate.prompt)
    if source == "tokens":
        return len(generate.tokens.ids) + TEXT_OVERHEAD_TOKENS
    chat = generate.chat  # whose own bytes are more than those of its texts
    bound = chat.ByteSize() + MESSAGE_OVERHEAD_TOKENS * len(chat.messages) + TEMPLATE_OVERHEAD_TOKENS
    return bound + _tools_bound(generate) if generate.tools else bound


def _tools_bound(generate: payload_pb2.Generate) -> int:
    size = sum([tool.ByteSize() for tool in generate.tools])
    return TOOL_FACTOR * size + TOOL_OVERHEAD_TOKENS * len(generate.tools)


def _text_bound(text: str) -> int:
    return _size(text) + TEXT_OVERHEAD_TOKENS


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
