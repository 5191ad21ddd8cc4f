"""For each check of the Open Inference Protocol's REST suite, a lie that it must notice."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from tests.fakes.lying_http import HttpLie

FAULT = HttpLie(failures=500)
GOOD = HttpLie(failures=200)
BROKEN = HttpLie(answers=(500, {"error": "no"}))
REFUSED = HttpLie(answers=(400, {"error": "no"}))


def _clear(*names: str) -> HttpLie:
    """Members are missing from every answer."""

    def change(document: Any) -> None:
        for name in names:
            document.pop(name, None)

    return HttpLie(answer=change)


def _put(name: str, value: Any, path: str = "") -> HttpLie:
    """A member of every answer has another value."""

    def change(document: Any) -> None:
        document[name] = value

    return HttpLie(path=path, answer=change)


def _unheard(*names: str) -> HttpLie:
    """Members of the request are not heard."""

    def change(document: Any) -> None:
        for name in names:
            document.pop(name, None)

    return HttpLie(request=change)


def _counting(change: Callable[[Any, int], None]) -> Callable[[Any], None]:
    number = itertools.count(1)
    return lambda document: change(document, next(number))


def _versions_change(document: Any, number: int) -> None:
    document["versions"] = [str(number)]


def _another_version(document: Any) -> None:
    for one in document:
        one["version"] = "99"


def _unknown_datatype(document: Any) -> None:
    document["inputs"][0]["datatype"] = "float32"


def _one_value_less(document: Any) -> None:
    document["outputs"][0]["data"].pop()


def _last_output_lost(document: Any) -> None:
    document["outputs"].pop()


def _other_numbers(document: Any, number: int) -> None:
    for output in document["outputs"]:
        if "data" in output:
            output["data"] = [value + number for value in output["data"]]


def _rows_differ(document: Any) -> None:
    for output in document["outputs"]:
        output["data"] = [value + place for place, value in enumerate(output["data"])]


def _error_as_an_object(document: Any) -> None:
    document["error"] = {"message": document["error"]}


def _a_byte_lost(body: bytes) -> bytes:
    return body[:-1]


def _no_events(body: bytes) -> bytes:
    return body.replace(b"text_output", b"text")


OTHER_NUMBERS = HttpLie(answer=_counting(_other_numbers))
LOST_BYTE = HttpLie(path="/infer", body=_a_byte_lost)

OIP_REST_LIES: dict[str, HttpLie] = {
    "a-server-is-live": BROKEN,
    "a-server-is-ready": BROKEN,
    "a-server-tells-its-name-version-and-extensions": _clear("extensions"),
    "a-model-is-ready": HttpLie(path="/ready", answers=(503, {"ready": False})),
    "an-unknown-model-is-not-ready": GOOD,
    "metadata-describes-each-tensor": HttpLie(answer=_unknown_datatype),
    "versions-are-texts": _put("versions", [1]),
    "metadata-of-a-version-is-that-of-the-model": _put("name", "other", "/versions/"),
    "metadata-is-the-same-each-time": HttpLie(answer=_counting(_versions_change)),
    "the-index-and-the-metadata-list-the-same-versions": HttpLie(path="/index", answer=_another_version),
    "an-unknown-model-has-no-metadata": FAULT,
    "an-unknown-version-has-no-metadata": FAULT,
    "an-answer-names-its-model": _put("model_name", "other"),
    "an-answer-repeats-the-id": _clear("id"),
    "outputs-are-those-of-the-metadata": HttpLie(path="/infer", answer=_last_output_lost),
    "outputs-have-as-many-values-as-their-shape": HttpLie(answer=_one_value_less),
    "nested-data-are-the-same-as-flat": OTHER_NUMBERS,
    "requested-outputs-alone-come": _unheard("outputs"),
    "a-batch-of-two-has-two-rows": HttpLie(path="/infer", answer=_rows_differ),
    "a-version-answers-as-itself": _put("model_version", "99", "/infer"),
    "unknown-parameters-are-no-harm": HttpLie(path="/infer", answers=(400, {"error": "no"})),
    "bytes-in-are-the-same-as-json": OTHER_NUMBERS,
    "bytes-out-are-the-same-as-json": _unheard("parameters"),
    "bytes-go-both-ways": LOST_BYTE,
    "one-output-alone-comes-as-bytes": LOST_BYTE,
    "a-body-of-bytes-alone-is-taken": OTHER_NUMBERS,
    "a-header-length-beyond-the-body-is-refused": FAULT,
    "bytes-of-another-size-are-refused": FAULT,
    "malformed-json-is-refused": HttpLie(failure=_error_as_an_object),
    "an-empty-body-is-refused": FAULT,
    "missing-inputs-are-refused": FAULT,
    "an-unknown-input-is-refused": GOOD,
    "another-datatype-is-refused": GOOD,
    "an-unknown-datatype-is-refused": FAULT,
    "a-shape-of-another-number-of-axes-is-refused": FAULT,
    "a-shape-with-a-negative-size-is-refused": FAULT,
    "data-of-another-length-are-refused": FAULT,
    "words-for-numbers-are-refused": FAULT,
    "an-unknown-output-is-refused": GOOD,
    "an-unknown-model-is-refused": FAULT,
    "an-unknown-version-is-refused": FAULT,
    "an-unknown-path-is-not-found": FAULT,
    "another-method-is-refused": FAULT,
    "a-call-without-a-key-is-refused": HttpLie(key=True),
    "a-call-with-a-wrong-key-is-refused": HttpLie(key=True),
    "generate-answers-with-a-text": _clear("text_output"),
    "generate-stream-is-server-sent-events": HttpLie(path="generate_stream", body=_no_events),
    "generate-without-a-text-is-refused": FAULT,
    "generate-with-an-unknown-model-is-refused": FAULT,
}
