"""POST /v1/completions: texts continued as they stand, in OpenAI's older form. Pure.

A body may have several prompts; each becomes a call of its own, and the choices follow prompt
by prompt.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh import strict_json
from inference_mesh.errors import MeshError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge import sse
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields
from rest_bridge.openai.chat import LONGEST_NAME
from rest_bridge.openai.errors import error_document
from rest_bridge.openai.generation import refuse, set_count, set_length, set_sampling
from rest_bridge.openai.objects import Json, finish_reason, token_text, usage_of

MOST_PROMPTS = 64
MOST_LOGPROBS = 5
DEFAULT_MAX_TOKENS = 16
"""OpenAI's own default for this route."""

UNSUPPORTED: dict[str, object] = {"echo": False, "suffix": None}


def read_completion(fields: Fields, request_id: str, created_s: int) -> Asked:
    """What a body asks for. Raises InvalidFieldError and UnsupportedFieldError."""
    refuse(fields, UNSUPPORTED)
    settings = payload_pb2.Generate(max_tokens=DEFAULT_MAX_TOKENS)
    if "max_tokens" in fields:
        set_length(settings, fields, "max_tokens")
    set_sampling(settings, fields)
    set_count(settings, fields)
    if "best_of" in fields and fields["best_of"] != max(1, settings.n):
        raise fields.unsupported("best_of", "must be the same as 'n': no answer is dropped here")
    logprobs = fields.integer("logprobs", 0, MOST_LOGPROBS)
    if logprobs is not None:
        settings.top_logprobs = logprobs
    model = fields.required_text("model", longest=LONGEST_NAME)
    head: Json = {
        "id": f"cmpl-{request_id}",
        "object": "text_completion",
        "created": created_s,
        "model": model,
    }
    return Asked(
        model,
        [_payload(settings, prompt) for prompt in _prompts(fields)],
        document=lambda responses: _document(responses, head),
        events=_events(fields, head),
    )


class CompletionEvents:
    """The events of a streamed completion."""

    def __init__(self, head: Json, *, tells_usage: bool) -> None:
        """tells_usage: by a last chunk without choices."""
        self._head = head
        self._tells_usage = tells_usage
        self._usages: list[payload_pb2.Usage] = []

    def events_of(self, piece: inference_pb2.InferStreamResponse) -> bytes:
        """The chunk of a piece; empty for one without text, end or log probabilities."""
        if piece.model:
            self._head |= {"model": piece.model}
        if piece.HasField("usage"):
            self._usages.append(piece.usage)
        generated = piece.output.generate
        if not (generated.text or generated.finish_reason or generated.logprobs):
            return b""
        chunk: Json = {**self._head, "choices": [_choice(generated, generated.index)]}
        if self._tells_usage:
            chunk["usage"] = None
        return b"data: " + strict_json.dumps(chunk) + b"\n\n"

    def end(self) -> bytes:
        """The usage, if it is wanted, and that nothing is missing."""
        if not self._tells_usage:
            return sse.DONE
        return sse.event({**self._head, "choices": [], "usage": usage_of(self._usages)}) + sse.DONE

    def failure(self, error: MeshError, _delivered_tokens: int | None) -> bytes:
        """An event whose JSON has "error": what OpenAI's clients raise."""
        return sse.event(error_document(error))


def _prompts(fields: Fields) -> list[str | list[int]]:
    """A text, texts, token ids, or lists of token ids."""
    value = fields["prompt"]
    if isinstance(value, str):
        return [value]
    prompts = fields.items("prompt")
    if prompts and all(type(token) is int for token in prompts):
        return [prompts]
    if not 1 <= len(prompts) <= MOST_PROMPTS:
        raise fields.wrong("prompt", f"a text, or a list of 1 to {MOST_PROMPTS} texts or lists of token ids")
    return prompts


def _payload(settings: payload_pb2.Generate, prompt: object) -> payload_pb2.Payload:
    generate = payload_pb2.Generate()
    generate.CopyFrom(settings)
    if isinstance(prompt, str):
        generate.prompt = prompt
    elif isinstance(prompt, list) and all(type(token) is int and 0 <= token < 2**32 for token in prompt):
        generate.tokens.ids.extend(prompt)
        generate.tokens.SetInParent()
    else:
        raise Fields({}).wrong("prompt", "a list of texts, or of lists of token ids")
    return payload_pb2.Payload(generate=generate)


def _document(responses: Sequence[inference_pb2.InferResponse], head: Json) -> Json:
    answers = [
        answer
        for response in responses
        for answer in (response.output.generate, *response.output.generate.others)
    ]
    return {
        **head,
        "model": responses[0].model,
        "choices": [_choice(answer, index) for index, answer in enumerate(answers)],
        "usage": usage_of(response.usage for response in responses),
    }


def _choice(generated: payload_pb2.Generated, index: int) -> Json:
    return {
        "text": generated.text,
        "index": index,
        "logprobs": _logprobs(generated.logprobs),
        "finish_reason": finish_reason(generated),
    }


def _logprobs(tokens: Sequence[payload_pb2.TokenLogprob]) -> Json | None:
    if not tokens:
        return None
    texts = [token_text(token) for token in tokens]
    offsets, at = [], 0
    for text in texts:
        offsets.append(at)
        at += len(text)
    return {
        "tokens": texts,
        "token_logprobs": [token.logprob for token in tokens],
        "top_logprobs": [{token_text(top): top.logprob for top in token.top} for token in tokens],
        "text_offset": offsets,
    }


def _events(fields: Fields, head: Json) -> CompletionEvents | None:
    options = fields.nested("stream_options")
    if not fields.flag("stream"):
        if options is not None:
            raise fields.wrong("stream_options", "absent unless 'stream' is true")
        return None
    return CompletionEvents(head, tells_usage=options is not None and options.flag("include_usage"))
