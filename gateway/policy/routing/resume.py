"""Going on with a broken stream of generated text on another replica. Pure.

Owns what the caller already has, and the request that makes another worker continue from
there. Possible where the next token does not depend on chance, at temperature 0 or with a
seed, and where there is one answer only. The bytes of a message are appended to, never rewritten:
protobuf merges a field that occurs twice.
"""

from __future__ import annotations

from array import array

from google.protobuf.message import DecodeError

from gateway.policy.routing.protobuf_fields import fields, part
from inference_mesh.v1 import inference_pb2, payload_pb2

_PAYLOAD, _GENERATE = 4, 1
_LAST_HEADER_FIELD = 3
"""model, version and request_id of an answer stand in its first message only."""


class Delivery:
    """Owns what of one stream of generated text its caller has.

    usage: of the whole answer, once the caller has the last message.
    """

    def __init__(self, request: bytes, *, is_repeatable: bool) -> None:
        """request: a serialised InferStreamRequest. is_repeatable: `is_repeatable`."""
        self._request = request
        self._is_repeatable = is_repeatable
        self._tokens = array("I")
        self._has_untold_text = False
        self.usage: payload_pb2.Usage | None = None

    @property
    def tokens(self) -> int:
        """How many tokens the caller has."""
        return len(self._tokens)

    @property
    def can_resume(self) -> bool:
        """Whether another worker can go on: it is told every token whose text was sent."""
        return self._is_repeatable and not self._has_untold_text

    def note(self, message: bytes) -> None:
        """Take over what a message that the caller got has in it."""
        try:
            answer = inference_pb2.InferStreamResponse.FromString(message)
        except DecodeError:
            self._has_untold_text = True
            return
        generated = answer.output.generate
        self._tokens.extend(generated.tokens)
        if generated.text and not self._tokens:
            self._has_untold_text = True
        if answer.HasField("usage"):
            self.usage = answer.usage

    def request(self) -> bytes:
        """The request for what is missing; at the start, the request itself."""
        if not self._tokens:
            return self._request
        generate = payload_pb2.Generate(delivered_tokens=self._tokens)
        more = inference_pb2.InferStreamRequest(payload=payload_pb2.Payload(generate=generate))
        return self._request + more.SerializeToString()


def delivery_of(request: bytes, defaults: bytes, *, is_allowed: bool) -> Delivery | None:
    """The delivery of an InferStreamRequest that makes text; None for any other.

    defaults: a serialised Generate that stands in for what the request leaves out. is_allowed:
    whether the model's streams may be resumed.
    """
    payload = part(request, _PAYLOAD)
    if payload is None or part(request, _GENERATE, payload) is None:
        return None
    return Delivery(request, is_repeatable=is_allowed and is_repeatable(request, defaults))


def is_repeatable(request: bytes, defaults: bytes) -> bool:
    """Whether the text is the same each time: made greedily, or with a seed.

    Of several answers to one prompt, delivered tokens do not tell which one they belong to.
    """
    try:
        generate = inference_pb2.InferStreamRequest.FromString(request).payload.generate
        default = payload_pb2.Generate.FromString(defaults).sampling
    except DecodeError:
        return False
    sampling = generate.sampling
    if generate.n > 1:
        return False
    if sampling.HasField("seed") or default.HasField("seed"):
        return True
    chosen = sampling if sampling.HasField("temperature") else default
    return chosen.HasField("temperature") and chosen.temperature == 0


def without_header(message: bytes) -> bytes:
    """An answer without what only the first message of a stream has."""
    kept = [
        message[span.tag_start : span.end] for span in fields(message) if span.number > _LAST_HEADER_FIELD
    ]
    return b"".join(kept)
