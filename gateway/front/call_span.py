"""What the span of a call tells: what was asked, what was decided of it, and what it used.

Owns these attributes. A call that is not sampled has no span, and costs no more than the question.
"""

from __future__ import annotations

import grpc
from google.protobuf.message import DecodeError

from gateway.call import STREAMING_METHODS, Call
from gateway.methods import INFERENCE_METHODS, NATIVE_METHODS, path_of
from inference_mesh import tracing
from inference_mesh.gen_ai_attributes import (
    call_attributes,
    output_attributes,
    request_attributes,
    usage_attributes,
)
from inference_mesh.v1 import inference_pb2, payload_pb2


def note_request(call: Call, payload: payload_pb2.Payload | None) -> None:
    """Note what is asked of the model of an admitted call. payload: None = it is not read here."""
    current = tracing.current_span()
    if current.is_recording():
        asked = request_attributes(call.model, payload)
        current.set_attributes({**asked, "gen_ai.request.stream": call.method in STREAMING_METHODS})


def note_end(call: Call, code: grpc.StatusCode) -> None:
    """Note how a call ended."""
    current = tracing.current_span()
    if not current.is_recording():
        return
    told: dict[str, tracing.AttributeValue] = {"rpc.response.status_code": code.name}
    if call.method in INFERENCE_METHODS:
        told |= call_attributes(path_of(call.method).removeprefix("/"))
    if call.caller is not None:
        told["mesh.tenant"] = call.caller.tenant.name
    if call.admission is not None:
        told |= _decision(call)
    if call.usage is not None:
        told |= usage_attributes(call.usage)
    if call.first_token_at_s is not None:
        told["gen_ai.response.time_to_first_chunk"] = call.first_token_at_s - call.started_s
    current.set_attributes({**told, **_output(call)})


def _decision(call: Call) -> dict[str, tracing.AttributeValue]:
    decided = call.admitted
    return {
        "gen_ai.response.id": call.request_id,
        "gen_ai.response.model": call.model,
        "mesh.model.version": decided.version,
        "mesh.rule": decided.rule.value,
        "mesh.attempts": call.attempts,
        "mesh.cache": call.cache,
        "mesh.fallback_from": call.fallback_from,
        "mesh.resumed": call.resumed,
    }


def _output(call: Call) -> dict[str, tracing.AttributeValue]:
    """What the last message that the caller has tells of the end of its text."""
    if call.method not in NATIVE_METHODS or not call.last_message:
        return {}
    try:
        return output_attributes(inference_pb2.InferResponse.FromString(call.last_message).output)
    except DecodeError:
        return {}
