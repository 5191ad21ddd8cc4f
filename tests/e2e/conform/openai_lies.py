"""For each check of the OpenAI suite, a lie that it must notice."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from tests.fakes.lying_http import HttpLie

REFUSAL = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": None}}
CHAT = "/chat/completions"

FAULT = HttpLie(failures=500)
REFUSED = HttpLie(answers=(400, REFUSAL))
BROKEN = HttpLie(answers=(500, REFUSAL))


def _without(*names: str) -> HttpLie:
    """Fields of the request are not heard."""

    def change(document: Any) -> None:
        for name in names:
            document.pop(name, None)

    return HttpLie(request=change)


def _put(name: str, value: Any, path: str = "") -> HttpLie:
    """A member of every answer has another value."""

    def change(document: Any) -> None:
        document[name] = value

    return HttpLie(path=path, answer=change)


def _counting(change: Callable[[Any, int], None]) -> Callable[[Any], None]:
    """A change that is another one each time."""
    number = itertools.count(1)
    return lambda document: change(document, next(number))


def _more_text(document: Any, number: int) -> None:
    document["choices"][0]["message"]["content"] += str(number)


def _more_prompt(document: Any, number: int) -> None:
    document["usage"]["prompt_tokens"] += number * 100


def _another_vector(document: Any, number: int) -> None:
    for one in document["data"]:
        one["embedding"] = [value + number for value in one["embedding"]]


def _user(document: Any) -> None:
    document["choices"][0]["message"]["role"] = "user"


def _a_list(document: Any) -> None:
    document["choices"][0]["message"]["content"] = "[]"


def _wrong_total(document: Any) -> None:
    document["usage"]["total_tokens"] += 1


def _twice(document: Any) -> None:
    document["data"] *= 2


def _last_turn_only(document: Any) -> None:
    document["messages"] = document["messages"][-1:]


def _high_logprob(document: Any) -> None:
    for one in document["choices"][0]["logprobs"]["content"]:
        one["logprob"] = 0.5


def _big_endian(document: Any) -> None:
    for one in document["data"]:
        if isinstance(one["embedding"], str):
            values = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
            one["embedding"] = base64.b64encode(values.astype(">f4").tobytes()).decode()


def _reversed(document: Any) -> None:
    vectors = [one["embedding"] for one in document["data"]][::-1]
    for one, vector in zip(document["data"], vectors, strict=True):
        one["embedding"] = vector


def _first_alone(document: Any) -> None:
    name = "data" if "data" in document else "choices"
    document[name] = document[name][:1]


def _without_code(document: Any) -> None:
    del document["error"]["code"]


def _own_ids(events: list[Any]) -> list[Any]:
    return [{**event, "id": str(number)} for number, event in enumerate(events)]


def _without_role(events: list[Any]) -> list[Any]:
    for event in events:
        for choice in event["choices"]:
            choice.get("delta", {}).pop("role", None)
    return events


def _reason_everywhere(events: list[Any]) -> list[Any]:
    for event in events:
        for choice in event["choices"]:
            choice["finish_reason"] = "stop"
    return events


def _no_choice_first(events: list[Any]) -> list[Any]:
    events[0]["choices"] = []
    return events


def _letters_lost(events: list[Any]) -> list[Any]:
    for event in events:
        for choice in event["choices"]:
            choice["delta"]["content"] = (choice["delta"].get("content") or "")[1:]
    return events


def _first_lost(events: list[Any]) -> list[Any]:
    return events[1:]


def _counted_wrong(events: list[Any]) -> list[Any]:
    for event in events:
        if event.get("usage"):
            event["usage"]["completion_tokens"] += 1
            event["usage"]["total_tokens"] += 1
    return events


OPENAI_LIES: dict[str, HttpLie] = {
    "models-are-listed": _put("object", "models"),
    "each-model-has-an-id-of-its-own": HttpLie(answer=_twice),
    "a-listed-model-is-found-by-its-id": _put("id", "other", "/models/"),
    "an-unknown-model-is-not-found": FAULT,
    "chat-has-the-form-of-a-completion": HttpLie(answer=_user),
    "chat-usage-adds-up": HttpLie(answer=_wrong_total),
    "answers-have-a-request-id": HttpLie(headers={"x-request-id": "same"}),
    "max-tokens-is-kept": _without("max_tokens", "max_completion_tokens"),
    "max-completion-tokens-is-kept": _without("max_tokens", "max_completion_tokens"),
    "a-stop-text-ends-the-answer": _without("stop"),
    "chat-is-repeatable-at-temperature-0": HttpLie(answer=_counting(_more_text)),
    "a-seed-is-accepted": REFUSED,
    "n-gives-as-many-choices": _without("n"),
    "logprobs-are-told": HttpLie(answer=_high_logprob),
    "hints-do-no-harm": REFUSED,
    "metadata-does-no-harm": REFUSED,
    "null-fields-ask-for-nothing": REFUSED,
    "content-may-be-a-list-of-parts": HttpLie(answer=_counting(_more_prompt)),
    "a-conversation-of-several-turns-is-read": HttpLie(request=_last_turn_only),
    "text-beyond-ascii-is-taken": REFUSED,
    "a-stream-is-server-sent-events": HttpLie(headers={"content-type": "text/plain"}),
    "chunks-of-a-stream-have-one-id": HttpLie(events=_own_ids),
    "a-stream-begins-with-the-role": HttpLie(events=_without_role),
    "a-stream-tells-once-why-it-ends": HttpLie(events=_reason_everywhere),
    "every-chunk-has-a-choice": HttpLie(events=_no_choice_first),
    "a-stream-has-the-text-of-the-plain-answer": HttpLie(events=_letters_lost),
    "a-stream-keeps-max-tokens": _without("max_tokens", "max_completion_tokens"),
    "a-stream-ends-before-a-stop-text": _without("stop"),
    "include-usage-adds-a-last-chunk": _without("stream_options"),
    "a-stream-counts-the-tokens-of-the-plain-answer": HttpLie(events=_counted_wrong),
    "a-stream-of-n-choices-ends-each": _without("n"),
    "a-wrong-request-for-a-stream-is-refused-by-status": HttpLie(failures=200),
    "a-client-that-leaves-a-stream-does-no-harm": REFUSED,
    "a-json-schema-is-followed": _without("response_format"),
    "a-json-object-is-given": HttpLie(answer=_a_list),
    "tools-are-taken-or-refused-by-name": REFUSED,
    "a-completion-has-its-form": _put("object", "completion"),
    "a-streamed-completion-has-the-same-text": HttpLie(events=_first_lost),
    "several-prompts-have-a-choice-each": HttpLie(answer=_first_alone),
    "a-prompt-of-token-ids-is-taken-or-refused": HttpLie(answer=_counting(_more_prompt)),
    "an-embedding-is-a-list-of-numbers": _put("object", "vectors"),
    "embeddings-count-their-tokens": HttpLie(answer=_wrong_total),
    "base64-holds-the-same-numbers": HttpLie(answer=_big_endian),
    "many-texts-keep-their-order": HttpLie(answer=_reversed),
    "token-ids-are-embedded-or-refused": HttpLie(answer=_first_alone),
    "dimensions-are-kept-or-refused-by-name": _without("dimensions"),
    "embeddings-without-an-input-are-refused": FAULT,
    "a-model-that-does-not-embed-refuses-to": FAULT,
    "an-error-has-its-four-fields": HttpLie(failure=_without_code),
    "missing-messages-are-refused": FAULT,
    "messages-of-another-type-are-refused": FAULT,
    "a-message-without-a-role-is-refused": FAULT,
    "malformed-json-is-refused": FAULT,
    "an-empty-body-is-refused": FAULT,
    "a-missing-model-is-refused": FAULT,
    "a-temperature-below-0-is-refused": FAULT,
    "a-temperature-above-2-is-refused": FAULT,
    "numbers-of-another-type-are-refused": FAULT,
    "a-negative-max-tokens-is-refused": FAULT,
    "a-chat-with-an-unknown-model-is-not-found": FAULT,
    "a-call-without-a-key-is-refused": HttpLie(key=True),
    "a-call-with-a-wrong-key-is-refused": HttpLie(key=True),
    "an-unknown-path-is-not-found": FAULT,
    "another-method-is-refused": FAULT,
    "refusals-by-http-have-the-form-too": HttpLie(headers={"content-type": "text/html"}),
}
