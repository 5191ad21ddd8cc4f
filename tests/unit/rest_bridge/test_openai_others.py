"""Completions, embeddings, reranking and responses in OpenAI's forms, there and back."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from inference_mesh.errors import InputTooLongError, ModelNotFoundError, OverloadedError, StreamBrokenError
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.event_stream import EventForm
from rest_bridge.fields import Fields, InvalidFieldError, UnsupportedFieldError
from rest_bridge.openai.completions import read_completion
from rest_bridge.openai.embeddings import read_embedding
from rest_bridge.openai.errors import error_document
from rest_bridge.openai.rerank import read_rerank
from rest_bridge.openai.responses import read_response

STOP = payload_pb2.FINISH_REASON_STOP
USAGE = payload_pb2.Usage(prompt_tokens=5, completion_tokens=2, cached_tokens=4)


def completion(**fields: Any) -> Asked:
    return read_completion(Fields({"model": "m", "prompt": "Once", **fields}), "r1", 7)


def embedding(**fields: Any) -> Asked:
    return read_embedding(Fields({"model": "m", "input": "a", **fields}), "r1")


def response(**fields: Any) -> Asked:
    return read_response(Fields({"model": "m", "input": "Hello", **fields}), "r1", 7)


def generated(text: str = "", **fields: Any) -> inference_pb2.InferResponse:
    output = payload_pb2.Output(generate=payload_pb2.Generated(text=text, **fields))
    return inference_pb2.InferResponse(model="tiny", output=output, usage=USAGE)


def vectors(*rows: tuple[float, ...]) -> inference_pb2.InferResponse:
    values = b"".join(struct.pack(f"<{len(row)}f", *row) for row in rows)
    output = payload_pb2.Output(embed=payload_pb2.Embeddings(dimensions=len(rows[0]), values=values))
    return inference_pb2.InferResponse(model="tiny", output=output, usage=USAGE)


def named_events(form: EventForm | None, *pieces: payload_pb2.Generated) -> list[Any]:
    assert form is not None
    data = b"".join(
        form.events_of(inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=one)))
        for one in pieces
    )
    texts = (data + form.end()).decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(text.split("data: ", 1)[1]) for text in texts]


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("Once", ["Once"]),
        (["Once", "Then"], ["Once", "Then"]),
        ([1, 2], [[1, 2]]),
        ([[1], [2, 3]], [[1], [2, 3]]),
    ],
)
def test_each_prompt_is_a_call_of_its_own(prompt: object, expected: list[object]) -> None:
    payloads = [payload.generate for payload in completion(prompt=prompt).payloads]
    found = [one.prompt or list(one.tokens.ids) for one in payloads]
    assert found == expected
    assert all(one.max_tokens == 16 for one in payloads), "OpenAI's default for this route"


def test_choices_count_through_the_answers_of_all_prompts() -> None:
    first = generated("A", finish_reason=STOP)
    first.output.generate.others.add(text="B", index=1, finish_reason=STOP)
    document: Any = completion(prompt=["x", "y"], n=2).document([first, generated("C", finish_reason=STOP)])
    assert [(choice["index"], choice["text"]) for choice in document["choices"]] == [
        (0, "A"),
        (1, "B"),
        (2, "C"),
    ]
    assert document["usage"]["total_tokens"] == 14


def test_log_probabilities_of_completions_have_the_older_form() -> None:
    answer = generated("ab", finish_reason=STOP)
    for text in (b"a", b"b"):
        answer.output.generate.logprobs.add(text=text, logprob=-0.5).top.add(text=text, logprob=-0.5)
    document: Any = completion(logprobs=1).document([answer])
    assert document["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -0.5],
        "top_logprobs": [{"a": -0.5}, {"b": -0.5}],
        "text_offset": [0, 1],
    }


@pytest.mark.parametrize("fields", [{"echo": True}, {"suffix": "end"}, {"best_of": 3}])
def test_what_a_completion_cannot_do_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError) as caught:
        completion(**fields)
    assert caught.value.param == next(iter(fields))


@pytest.mark.parametrize("prompt", [None, [], [["a"]], [1, "a"], {"a": 1}, [[-1]]])
def test_a_prompt_that_is_none_is_named(prompt: object) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        completion(prompt=prompt)
    assert caught.value.param == "prompt"


def test_embeddings_are_numbers_or_the_same_numbers_in_base64() -> None:
    answer = vectors((0.5, -1.0), (2.0, 0.25))
    numbers: Any = embedding(input=["a", "b"]).document([answer])
    coded: Any = embedding(input=["a", "b"], encoding_format="base64").document([answer])
    for plain, packed in zip(numbers["data"], coded["data"], strict=True):
        assert struct.unpack("<2f", base64.b64decode(packed["embedding"])) == tuple(plain["embedding"])
    assert [one["index"] for one in numbers["data"]] == [0, 1]
    assert numbers["usage"] == {"prompt_tokens": 5, "total_tokens": 5}


def test_an_embedding_takes_token_ids_and_dimensions() -> None:
    one = embedding(input=[1, 2], dimensions=4).payloads[0].embed
    assert ([list(tokens.ids) for tokens in one.tokens], one.dimensions) == ([[1, 2]], 4)
    two = embedding(input=[[1], [2, 3]]).payloads[0].embed
    assert [list(tokens.ids) for tokens in two.tokens] == [[1], [2, 3]]
    assert not two.texts


@pytest.mark.parametrize("value", [None, [], [["a"]], [1, "a"], 7, [[]]])
def test_an_input_that_is_none_is_named(value: object) -> None:
    with pytest.raises(InvalidFieldError) as caught:
        embedding(input=value)
    assert caught.value.param == "input"


def test_documents_come_back_best_first_and_with_their_text_where_wanted() -> None:
    documents = [{"text": "a"}, {"text": "b"}]
    body = {"model": "m", "query": "q", "documents": documents, "return_documents": True, "top_n": 1}
    asked = read_rerank(Fields(body), "r1")
    assert list(asked.payloads[0].rerank.documents) == ["a", "b"]
    ranking = payload_pb2.Ranking(documents=[payload_pb2.RankedDocument(index=1, score=0.5)])
    answer = inference_pb2.InferResponse(model="tiny", output=payload_pb2.Output(rerank=ranking), usage=USAGE)
    document: Any = asked.document([answer])
    assert document["results"] == [{"index": 1, "relevance_score": 0.5, "document": {"text": "b"}}]


def test_items_of_a_response_become_messages() -> None:
    items = [
        {"role": "user", "content": [{"type": "input_text", "text": "Weather?"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "sunny"},
    ]
    message = response(input=items, instructions="Be brief.").payloads[0].generate
    assert [(one.role, one.content) for one in message.chat.messages] == [
        ("system", "Be brief."), ("user", "Weather?"), ("assistant", ""), ("tool", "sunny"),
    ]  # fmt: skip
    assert message.chat.messages[2].tool_calls[0].name == "f"


def test_a_response_has_items_and_usage() -> None:
    document: Any = response().document([generated("Hi.", finish_reason=STOP)])
    assert (document["id"], document["object"], document["status"]) == ("resp_r1", "response", "completed")
    assert document["output"][0]["content"][0]["text"] == "Hi."
    assert document["usage"]["input_tokens_details"] == {"cached_tokens": 4}
    cut: Any = response().document([generated("Hi", finish_reason=payload_pb2.FINISH_REASON_LENGTH)])
    assert (cut["status"], cut["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})


@pytest.mark.parametrize(
    "fields",
    [
        {"previous_response_id": "resp_1"},
        {"background": True},
        {"conversation": "c"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
    ],
)
def test_what_needs_a_memory_or_eyes_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedFieldError):
        response(**fields)


def test_a_streamed_response_numbers_its_events_and_closes_what_it_opens() -> None:
    call = payload_pb2.ToolCall(id="c1", name="f", arguments='{"a":1}')
    documents = named_events(
        response(stream=True).events,
        payload_pb2.Generated(text="I "),
        payload_pb2.Generated(text="ask.", tool_calls=[call]),
        payload_pb2.Generated(finish_reason=payload_pb2.FINISH_REASON_TOOL_CALLS),
    )
    assert [document["type"].removeprefix("response.") for document in documents] == [
        "created", "in_progress", "output_item.added", "content_part.added", "output_text.delta",
        "output_text.delta", "output_text.done", "content_part.done", "output_item.done",
        "output_item.added", "function_call_arguments.delta", "function_call_arguments.done",
        "output_item.done", "completed",
    ]  # fmt: skip
    assert [document["sequence_number"] for document in documents] == list(range(len(documents)))
    assert [item["type"] for item in documents[-1]["response"]["output"]] == ["message", "function_call"]
    assert documents[6]["text"] == "I ask."


def test_an_empty_answer_is_still_a_message() -> None:
    documents = named_events(response(stream=True).events, payload_pb2.Generated(finish_reason=STOP))
    assert documents[-1]["response"]["output"][0]["content"][0]["text"] == ""


def test_a_streamed_response_that_breaks_has_failed() -> None:
    form = response(stream=True).events
    assert form is not None
    document = json.loads(form.failure(StreamBrokenError("broke"), 1).split(b"data: ", 1)[1])
    assert (document["type"], document["response"]["status"]) == ("response.failed", "failed")


@pytest.mark.parametrize(
    ("error", "code", "param"),
    [
        (ModelNotFoundError("no"), "model_not_found", "model"),
        (InputTooLongError("long"), "context_length_exceeded", None),
        (OverloadedError("full"), "rate_limit_exceeded", None),
        (InvalidFieldError("wrong", "n"), "invalid_input", "n"),
        (UnsupportedFieldError("cannot", "audio"), "unsupported_parameter", "audio"),
    ],
)
def test_an_error_has_its_four_keys(error: Any, code: str, param: str | None) -> None:
    document: Any = error_document(error)["error"]
    assert set(document) == {"message", "type", "param", "code"}
    assert (document["code"], document["param"]) == (code, param)
