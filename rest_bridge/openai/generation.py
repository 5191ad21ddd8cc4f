"""What chat, completions and responses have in common: sampling, lengths, formats. Pure.

Fields that this mesh does not know are tolerated where they only hint (`user`, `store`,
`metadata`, `service_tier` and the like), as OpenAI's own server does; those that would change
the answer are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from inference_mesh.v1 import payload_pb2
from rest_bridge.fields import Fields

LARGEST_TOKENS = 2**31 - 1
MOST_ANSWERS = 16
MOST_BIASES = 300
SEED_BITS = 32
ANY_OBJECT = '{"type":"object"}'

NUMBERS = {
    "temperature": (0.0, 2.0),
    "top_p": (0.0, 1.0),
    "frequency_penalty": (-2.0, 2.0),
    "presence_penalty": (-2.0, 2.0),
    "min_p": (0.0, 1.0),
    "repetition_penalty": (0.0, 2.0),
}
"""The last two, and `top_k`, are not OpenAI's; they are called as other servers of local models call them."""


def refuse(fields: Fields, unsupported: Mapping[str, object]) -> None:
    """Raises UnsupportedFieldError for a field that asks for something else than what is given here.

    unsupported: the names, and the one value besides null and empty with which each asks for nothing.
    """
    for name, harmless in unsupported.items():
        value = fields[name]
        if value is not None and value != harmless and value not in ("", [], {}):
            raise fields.unsupported(name, "is not supported")


def set_sampling(generate: payload_pb2.Generate, fields: Fields) -> None:
    """Set what the fields say of how tokens are chosen, and where the answer stops.

    What they leave open, the model's own defaults decide.
    """
    sampling = generate.sampling
    for name, (low, high) in NUMBERS.items():
        value = fields.number(name, low, high)
        if value is not None:
            setattr(sampling, name, value)
    if sampling.HasField("top_p") and sampling.top_p == 0:
        sampling.top_k, sampling.top_p = 1, 1.0
    top_k = fields.integer("top_k", -1, LARGEST_TOKENS)
    if top_k is not None:
        sampling.top_k = max(0, top_k)
    seed = fields.integer("seed", -(2**63), 2**64 - 1)
    if seed is not None:
        sampling.seed = seed % 2**SEED_BITS
    bias = fields.nested("logit_bias")
    for token in bias.names() if bias else ():
        _set_bias(sampling, bias, token)
    generate.stop.extend(_stop(fields))


def set_count(generate: payload_pb2.Generate, fields: Fields) -> None:
    """Set how many answers are wanted."""
    generate.n = fields.integer("n", 1, MOST_ANSWERS) or 0


def set_length(generate: payload_pb2.Generate, fields: Fields, *names: str) -> None:
    """Set the longest answer; the first of the names that is there says it."""
    said = [fields.integer(name, 1, LARGEST_TOKENS) for name in names if name in fields]
    if said and any(length != said[0] for length in said):
        raise fields.wrong(names[0], f"the same as '{names[1]}', or absent")
    generate.max_tokens = (said[0] or 0) if said else 0


def set_format(generate: payload_pb2.Generate, form: Fields | None) -> None:
    """Set the form of the answer: {"type": "text" | "json_object" | "json_schema", …}."""
    if form is None:
        return
    kind = form.choice("type", ("text", "json_object", "json_schema"), "text")
    if kind == "json_object":
        generate.json_schema = ANY_OBJECT
    elif kind == "json_schema":
        described = form.nested("json_schema") or form
        schema = described["schema"]
        if not isinstance(schema, dict):
            raise described.wrong("schema", "a JSON Schema, which is an object")
        generate.json_schema = orjson.dumps(schema).decode()


def _set_bias(sampling: payload_pb2.Sampling, bias: Fields | None, token: str) -> None:
    if bias is None or not (token.isascii() and token.isdecimal() and len(token) < 10):
        raise Fields({}).wrong("logit_bias", "an object of token ids and numbers")
    value = bias.number(token, -100, 100)
    if value is not None:
        sampling.logit_bias[int(token)] = value


def _stop(fields: Fields) -> list[str]:
    value = fields["stop"]
    if value is None:
        return []
    texts = [value] if isinstance(value, str) else fields.items("stop", most=16)
    if not all(isinstance(text, str) and text for text in texts):
        raise fields.wrong("stop", "a text or a list of texts, none of them empty")
    return texts
