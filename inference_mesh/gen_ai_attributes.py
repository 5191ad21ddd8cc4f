"""The attributes of a span that tell what a model was asked and what it used.

Owns their names. None of them holds a text of a user: prompts, answers, stop texts and schemas
are left out. Source: OpenTelemetry's semantic conventions for generative AI, as of 2026-10
(github.com/open-telemetry/semantic-conventions-genai), and those of RPC.
"""

from __future__ import annotations

from inference_mesh.tracing import AttributeValue
from inference_mesh.v1 import payload_pb2

PROVIDER = "inference_mesh"
OPERATIONS = {
    "embed": "embeddings",
    "rerank": "rerank",
    "classify": "classify",
    "tensors": "infer",
    "json": "infer",
}
"""By the kind of payload; of generate the kind of its input decides. The last four are our own."""

FINISH_REASONS = {
    payload_pb2.FINISH_REASON_STOP: "stop",
    payload_pb2.FINISH_REASON_LENGTH: "length",
    payload_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
}
SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "seed")

Described = dict[str, AttributeValue]


def call_attributes(method: str) -> Described:
    """Of a server span. method: full name, e.g. package.Service/Method."""
    return {"rpc.system.name": "grpc", "rpc.method": method}


def request_attributes(model: str, payload: payload_pb2.Payload | None) -> Described:
    """What a model is asked. payload: None = it is not known, or not read here."""
    described: Described = {"gen_ai.provider.name": PROVIDER, "gen_ai.request.model": model}
    kind = payload.WhichOneof("kind") if payload is not None else None
    if payload is None or kind is None:
        return described
    if kind != "generate":
        return {**described, "gen_ai.operation.name": OPERATIONS.get(kind, kind)}
    generate = payload.generate
    is_chat = generate.WhichOneof("input") == "chat"
    described["gen_ai.operation.name"] = "chat" if is_chat else "text_completion"
    if generate.max_tokens:
        described["gen_ai.request.max_tokens"] = generate.max_tokens
    sampling = generate.sampling
    for name in SAMPLING:
        if sampling.HasField(name):
            described[f"gen_ai.request.{name}"] = getattr(sampling, name)
    if sampling.HasField("top_k"):
        described["gen_ai.request.top_k"] = float(sampling.top_k)
    if generate.n > 1:
        described["gen_ai.request.choice.count"] = generate.n
    if generate.json_schema:
        described["gen_ai.output.type"] = "json"
    return described


def usage_attributes(usage: payload_pb2.Usage) -> Described:
    """What a call used."""
    described: Described = {"gen_ai.usage.input_tokens": usage.prompt_tokens}
    if usage.completion_tokens:
        described["gen_ai.usage.output_tokens"] = usage.completion_tokens
    if usage.cached_tokens:
        described["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    return described


def output_attributes(output: payload_pb2.Output) -> Described:
    """How the answer ended, for generated text that did."""
    if output.WhichOneof("kind") != "generate":
        return {}
    reasons = [FINISH_REASONS.get(output.generate.finish_reason)]
    reasons += [FINISH_REASONS.get(other.finish_reason) for other in output.generate.others]
    told = [reason for reason in reasons if reason is not None]
    return {"gen_ai.response.finish_reasons": told} if told else {}
