"""What a stream delivered, and the request for the rest."""

from __future__ import annotations

import pytest

from gateway.policy.routing.protobuf_fields import fields, part
from gateway.policy.routing.resume import delivery_of, is_repeatable, without_header
from inference_mesh.v1 import inference_pb2, payload_pb2


def request(temperature: float | None = 0.0, **generate: object) -> bytes:
    sampling = payload_pb2.Sampling(temperature=temperature)
    made = payload_pb2.Generate(prompt="a", sampling=sampling, **generate)  # type: ignore[arg-type]
    payload = payload_pb2.Payload(generate=made)
    return inference_pb2.InferStreamRequest(model="chat", payload=payload).SerializeToString()


def answer(text: str, *tokens: int, **fields_of_it: object) -> bytes:
    output = payload_pb2.Output(generate=payload_pb2.Generated(text=text, tokens=tokens))
    made = inference_pb2.InferStreamResponse(output=output, **fields_of_it)  # type: ignore[arg-type]
    return made.SerializeToString()


def test_the_request_for_the_rest_is_the_first_one_with_what_was_delivered() -> None:
    sent = request(max_tokens=9, delivered_tokens=[7, 8])
    delivery = delivery_of(sent, b"", is_allowed=True)
    assert delivery is not None
    assert delivery.request() == sent
    delivery.note(answer("a", 1))
    delivery.note(answer("bc", 2, 300_000))
    asked = inference_pb2.InferStreamRequest.FromString(delivery.request())
    expected = inference_pb2.InferStreamRequest.FromString(sent)
    expected.payload.generate.delivered_tokens.extend([1, 2, 300_000])
    assert asked == expected
    assert (delivery.tokens, delivery.can_resume, delivery.usage) == (3, True, None)


def test_the_last_message_has_the_usage_of_the_whole() -> None:
    delivery = delivery_of(request(), b"", is_allowed=True)
    assert delivery is not None
    usage = payload_pb2.Usage(prompt_tokens=1, completion_tokens=2)
    delivery.note(answer("a", 1, usage=usage))
    assert delivery.usage == usage


def test_text_without_its_tokens_cannot_be_resumed() -> None:
    delivery = delivery_of(request(), b"", is_allowed=True)
    assert delivery is not None
    delivery.note(answer("a"))
    assert not delivery.can_resume


def test_an_answer_that_is_no_message_cannot_be_resumed() -> None:
    delivery = delivery_of(request(), b"", is_allowed=True)
    assert delivery is not None
    delivery.note(b"\xff")
    assert not delivery.can_resume


def test_what_makes_no_text_has_no_delivery() -> None:
    embed = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a"]))
    sent = inference_pb2.InferStreamRequest(payload=embed).SerializeToString()
    assert delivery_of(sent, b"", is_allowed=True) is None
    assert delivery_of(b"", b"", is_allowed=True) is None


def test_a_model_that_forbids_it_is_not_resumed() -> None:
    delivery = delivery_of(request(), b"", is_allowed=False)
    assert delivery is not None
    assert not delivery.can_resume


@pytest.mark.parametrize(
    ("own", "default", "is_same"),
    [
        ({"temperature": 0}, {}, True),
        ({"seed": 1}, {}, True),
        ({"seed": 0}, {}, True),
        ({}, {"temperature": 0}, True),
        ({"temperature": 0.5}, {"temperature": 0}, False),
        ({"temperature": 0.5}, {}, False),
        ({}, {}, False),
    ],
)
def test_text_is_the_same_each_time_if_greedy_or_seeded(
    own: dict[str, float], default: dict[str, float], is_same: bool
) -> None:
    generate = payload_pb2.Generate(prompt="a", sampling=payload_pb2.Sampling(**own))  # type: ignore[arg-type]
    sent = inference_pb2.InferStreamRequest(payload=payload_pb2.Payload(generate=generate))
    defaults = payload_pb2.Generate(sampling=payload_pb2.Sampling(**default))  # type: ignore[arg-type]
    assert is_repeatable(sent.SerializeToString(), defaults.SerializeToString()) is is_same


def test_only_what_belongs_to_a_first_message_is_taken_out_of_one() -> None:
    timing = payload_pb2.Timing(queue_s=1)
    whole = answer("a", 1, model="m", version="2", request_id="3", timing=timing)
    assert without_header(whole) == answer("a", 1, timing=timing)
    assert without_header(answer("a", 1)) == answer("a", 1)


@pytest.mark.parametrize("end", range(1, 30))
def test_a_message_that_is_cut_has_the_fields_before_the_cut(end: int) -> None:
    whole = answer("a text that is long", 1, 2, 3, model="chat")
    found = list(fields(whole[:end]))
    assert found == [span for span in fields(whole) if span.end <= end]


def test_a_part_is_found_in_its_message() -> None:
    whole = answer("some text", 1, model="chat")
    output = part(whole, 4)
    generated = part(whole, 1, output)
    text = part(whole, 1, generated)
    assert text is not None
    assert whole[text.start : text.end] == b"some text"
    assert part(whole, 9) is None


def test_several_answers_to_one_prompt_cannot_be_resumed() -> None:
    assert is_repeatable(request(n=1), b"")
    assert not is_repeatable(request(n=2), b"")
