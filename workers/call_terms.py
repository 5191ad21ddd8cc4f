"""The terms on which a call runs, as the gateway's metadata has them. Pure.

Owns how that metadata is read, and how a tenant's defaults fill what a request leaves out.
Does not own who may send it: a worker's port is open to gateways only.
"""

from __future__ import annotations

from google.protobuf.message import DecodeError

from inference_mesh import metadata
from inference_mesh.errors import InvalidInputError
from inference_mesh.metadata import Metadata
from inference_mesh.v1 import payload_pb2
from workers.engine import EngineRequest, Stage
from workers.priority import Priority

MOST_TOKENS = 2**31 - 1
MOST_BUDGET = 10**18
PRIORITIES = {priority.name.lower(): priority for priority in Priority}


def engine_request(
    payload: payload_pb2.Payload,
    deadline: float | None,
    sent: Metadata,
    stages: list[Stage] | None = None,
) -> EngineRequest:
    """The request for an engine: a payload on the terms of the metadata that came with it.

    deadline: in the seconds of the event loop's clock; None = no limit. stages: as in EngineRequest.
    Raises InvalidInputError naming the metadata that is malformed.
    """
    return EngineRequest(
        payload=_filled(payload, metadata.bytes_of(sent, metadata.DEFAULTS)),
        deadline=deadline,
        max_tokens_limit=_count(sent, metadata.MAX_TOKENS, 1, MOST_TOKENS) or 0,
        token_budget=_count(sent, metadata.TOKEN_BUDGET, 0, MOST_BUDGET),
        tenant=metadata.value_of(sent, metadata.TENANT) or "",
        priority=_priority(sent),
        stages=stages,
    )


def with_defaults(payload: payload_pb2.Payload, defaults: payload_pb2.Generate) -> payload_pb2.Payload:
    """A generate payload with the defaults' max_tokens and sampling where it has none of its own.

    Any other payload is given back as it is.
    """
    if not payload.HasField("generate"):
        return payload
    filled = payload_pb2.Payload()
    filled.CopyFrom(payload)
    generate = filled.generate
    generate.max_tokens = generate.max_tokens or defaults.max_tokens
    if defaults.HasField("sampling"):
        generate.sampling.CopyFrom(_sampling(payload.generate.sampling, defaults.sampling))
    return filled


def _sampling(given: payload_pb2.Sampling, defaults: payload_pb2.Sampling) -> payload_pb2.Sampling:
    merged = payload_pb2.Sampling()
    merged.CopyFrom(defaults)
    if given.logit_bias:
        merged.logit_bias.clear()  # merging would join the two maps
    merged.MergeFrom(given)
    return merged


def _filled(payload: payload_pb2.Payload, defaults: bytes | None) -> payload_pb2.Payload:
    if not defaults:
        return payload
    try:
        return with_defaults(payload, payload_pb2.Generate.FromString(defaults))
    except DecodeError:
        raise InvalidInputError(f"{metadata.DEFAULTS}: must be a serialised Generate") from None


def _count(sent: Metadata, name: str, least: int, most: int) -> int | None:
    """A number of tokens; None if it is not there."""
    value = metadata.value_of(sent, name)
    if value is None:
        return None
    is_number = value.isascii() and value.isdecimal() and len(value) <= len(str(most))
    if not is_number or not least <= int(value) <= most:
        raise InvalidInputError(f"{name}: must be an integer from {least} to {most}")
    return int(value)


def _priority(sent: Metadata) -> Priority:
    value = metadata.value_of(sent, metadata.PRIORITY)
    if value is None:
        return Priority.NORMAL
    if value not in PRIORITIES:
        raise InvalidInputError(f"{metadata.PRIORITY}: must be {', '.join(PRIORITIES)}")
    return PRIORITIES[value]
