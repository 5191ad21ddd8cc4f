from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.response_cache.cache_key import MAX_PAYLOAD_BYTES, Question, cache_key, cacheable
from inference_mesh.config.tenants_file import GenerateDefaults
from inference_mesh.v1 import payload_pb2

EMBED = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a", "b"]))
QUESTION = Question("salt", "minilm", "1", "Infer", EMBED)


def generate(prompt: str = "Hi", **sampling: float) -> payload_pb2.Payload:
    given_sampling = payload_pb2.Sampling(**sampling) if sampling else None  # type: ignore[arg-type]
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt=prompt, sampling=given_sampling))


def test_only_what_does_not_depend_on_chance_is_cacheable() -> None:
    assert cacheable(EMBED)
    assert cacheable(payload_pb2.Payload(rerank=payload_pb2.Rerank(query="q")))
    assert cacheable(payload_pb2.Payload(classify=payload_pb2.Classify(texts=["a"])))
    assert cacheable(generate(temperature=0))
    assert not cacheable(generate())
    assert not cacheable(generate(temperature=0.1))
    assert not cacheable(generate(seed=7))
    assert not cacheable(payload_pb2.Payload(tensors=payload_pb2.Tensors()))
    assert not cacheable(payload_pb2.Payload(json=b"{}"))
    assert not cacheable(payload_pb2.Payload())


def test_a_tenants_default_temperature_stands_in_for_what_the_request_leaves_out() -> None:
    assert cacheable(generate(), GenerateDefaults(temperature=0))
    assert not cacheable(generate(temperature=0.5), GenerateDefaults(temperature=0))
    assert cacheable(generate(temperature=0), GenerateDefaults(temperature=0.5))


@pytest.mark.parametrize(
    "change",
    [
        {"salt": "other"},
        {"model": "other"},
        {"version": "2"},
        {"method": "InferStream"},
        {"payload": payload_pb2.Payload(embed=payload_pb2.Embed(texts=["ab"]))},
        {"payload": payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a", "b"], dimensions=2))},
        {"payload": payload_pb2.Payload(classify=payload_pb2.Classify(texts=["a", "b"]))},
        {"salt": "saltm", "model": "inilm"},
    ],
)
def test_whatever_the_answer_depends_on_is_part_of_the_key(change: dict[str, object]) -> None:
    assert cache_key(dataclasses.replace(QUESTION, **change)) != cache_key(QUESTION)  # type: ignore[arg-type]


def test_what_the_operator_lets_a_generate_request_have_is_part_of_the_key() -> None:
    greedy = Question("salt", "chat", "1", "Infer", generate(temperature=0), max_tokens=9)
    changes = [
        dataclasses.replace(greedy, max_tokens=5),
        dataclasses.replace(greedy, defaults=GenerateDefaults(max_tokens=5)),
        dataclasses.replace(greedy, defaults=GenerateDefaults(top_k=5)),
    ]
    assert len({cache_key(one) for one in (greedy, *changes)}) == 4
    embed = dataclasses.replace(QUESTION, max_tokens=5, defaults=GenerateDefaults(top_k=5))
    assert cache_key(embed) == cache_key(QUESTION)


@pytest.mark.parametrize(
    "fields",
    [
        {"grammar": 'root ::= "a"'},
        {"n": 2},
        {"top_logprobs": 0},
        {"tools": [payload_pb2.Tool(name="add")]},
        {"tool_choice": payload_pb2.ToolChoice(mode=payload_pb2.TOOL_CHOICE_MODE_NONE)},
    ],
)
def test_what_shapes_a_generated_answer_is_part_of_the_key(fields: dict[str, Any]) -> None:
    plain, shaped = generate(temperature=0), generate(temperature=0)
    for payload in (plain, shaped):
        payload.generate.max_tokens = 9
    shaped.generate.MergeFrom(payload_pb2.Generate(**fields))
    keys = [cache_key(dataclasses.replace(QUESTION, payload=payload)) for payload in (plain, shaped)]
    assert None not in keys
    assert keys[0] != keys[1]


def test_the_order_in_which_a_client_wrote_the_fields_does_not_matter() -> None:
    one = generate("Hi", temperature=0).SerializeToString()
    text = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="Hi")).SerializeToString()
    rest = payload_pb2.Generate(sampling=payload_pb2.Sampling(temperature=0))
    other = payload_pb2.Payload(generate=rest).SerializeToString() + text
    assert one != other
    keys = {
        cache_key(dataclasses.replace(QUESTION, payload=payload_pb2.Payload.FromString(data), max_tokens=9))
        for data in (one, other)
    }
    assert len(keys) == 1
    assert None not in keys


@given(st.dictionaries(st.integers(0, 99), st.floats(-100, 100, width=32), max_size=8))
def test_the_order_of_a_map_does_not_matter(bias: dict[int, float]) -> None:
    def key(entries: list[tuple[int, float]]) -> bytes | None:
        payload = generate(temperature=0)
        for token, value in entries:
            payload.generate.sampling.logit_bias[token] = value
        return cache_key(dataclasses.replace(QUESTION, payload=payload, max_tokens=9))

    entries = list(bias.items())
    assert key(entries) == key(entries[::-1]) is not None


def test_an_answer_of_open_length_is_not_kept_as_it_may_depend_on_the_callers_budget() -> None:
    asked = Question("salt", "chat", "1", "Infer", generate(temperature=0))
    assert cache_key(asked) is None
    assert cache_key(dataclasses.replace(asked, max_tokens=9)) is not None
    assert cache_key(dataclasses.replace(asked, defaults=GenerateDefaults(max_tokens=9))) is not None
    asked.payload.generate.max_tokens = 9
    assert cache_key(asked) is not None


def test_what_may_not_be_kept_has_no_key() -> None:
    assert cache_key(dataclasses.replace(QUESTION, payload=generate())) is None
    assert cache_key(dataclasses.replace(QUESTION, method="ModelInfer")) is None
    long = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["x" * MAX_PAYLOAD_BYTES]))
    assert cache_key(dataclasses.replace(QUESTION, payload=long)) is None
