from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inference_mesh import json_payload
from inference_mesh.errors import InternalError, InvalidInputError, MeshError
from inference_mesh.v1 import payload_pb2 as pb

GENERATE, EMBED, TENSORS = pb.TASK_GENERATE, pb.TASK_EMBED, pb.TASK_TENSORS


def test_a_bare_text_is_a_prompt_or_a_text_to_embed() -> None:
    assert json_payload.payload_from_json(GENERATE, "hi").generate.prompt == "hi"
    assert list(json_payload.payload_from_json(EMBED, "hi").embed.texts) == ["hi"]


def test_messages_and_sampling_reach_the_payload() -> None:
    document = {
        "messages": [{"role": "user", "content": "hi"}],
        "temperature": 0,
        "seed": 7,
        "stop": "x",
        "max_tokens": 3,
    }
    generate = json_payload.payload_from_json(GENERATE, document).generate
    assert generate.chat.messages[0].content == "hi"
    assert generate.sampling.HasField("temperature")
    assert not generate.sampling.HasField("top_p")
    assert (generate.sampling.seed, list(generate.stop), generate.max_tokens) == (7, ["x"], 3)


def test_a_json_service_gets_the_document_as_it_is() -> None:
    assert json_payload.payload_from_json(pb.TASK_JSON, {"a": [1]}).json == b'{"a":[1]}'


@pytest.mark.parametrize(
    ("task", "document"),
    [
        (GENERATE, {}),
        (GENERATE, []),
        (GENERATE, {"prompt": "a", "messages": []}),
        (GENERATE, {"prompt": 1}),
        (GENERATE, {"prompt": "a", "temprature": 1}),
        (GENERATE, {"prompt": "a", "max_tokens": -1}),
        (GENERATE, {"prompt": "a", "max_tokens": 2**40}),
        (GENERATE, {"prompt": "a", "max_tokens": True}),
        (GENERATE, {"prompt": "a", "seed": 1.5}),
        (GENERATE, {"prompt": "a", "stop": [1]}),
        (GENERATE, {"prompt": "a", "json_schema": 1}),
        (GENERATE, {"prompt": "a", "logit_bias": {"x": 1}}),
        (GENERATE, {"messages": "hi"}),
        (GENERATE, {"messages": [{"role": "user"}]}),
        (GENERATE, {"messages": [{"role": 1, "content": "x"}]}),
        (GENERATE, {"tokens": [-1]}),
        (GENERATE, {"tokens": ["a"]}),
        (EMBED, {"text": "a", "texts": ["b"]}),
        (EMBED, {"texts": [1]}),
        (EMBED, {"text": "a", "truncate": 1}),
        (EMBED, 5),
        (TENSORS, {"inputs": []}),
        (TENSORS, {"inputs": [1]}),
        (pb.TASK_UNSPECIFIED, {}),
    ],
)
def test_a_wrong_payload_is_refused_with_a_typed_error(task: pb.Task, document: Any) -> None:
    with pytest.raises(MeshError):
        json_payload.payload_from_json(task, document)


@given(
    st.sampled_from([GENERATE, EMBED, TENSORS, pb.TASK_RERANK, pb.TASK_CLASSIFY]),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["prompt", "messages", "tokens", "stop", "seed", "texts", "text", "inputs", "query"]
                ),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    ),
)
def test_any_document_gives_a_payload_or_a_typed_error(task: pb.Task, document: Any) -> None:
    try:
        json_payload.payload_from_json(task, document)
    except MeshError as error:
        assert isinstance(error, InvalidInputError)


@pytest.mark.parametrize("said", [b"", b"hello", b'{"score": NaN}', b"[" * 100 + b"]" * 100])
def test_an_answer_of_a_service_that_is_no_json_is_not_the_callers_fault(said: bytes) -> None:
    with pytest.raises(InternalError):
        json_payload.output_to_json(pb.Output(json=said))


def test_vectors_come_back_as_rows() -> None:
    values = np.arange(6, dtype="<f4")
    output = pb.Output(embed=pb.Embeddings(dimensions=3, values=values.tobytes()))
    assert json_payload.output_to_json(output)["embeddings"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_finished_answer_names_its_reason_and_a_piece_does_not() -> None:
    piece = pb.Output(generate=pb.Generated(text="a"))
    done = pb.Output(generate=pb.Generated(text="a", finish_reason=pb.FINISH_REASON_LENGTH))
    assert json_payload.output_to_json(piece) == {"text": "a"}
    assert json_payload.output_to_json(done) == {"text": "a", "finish_reason": "length"}
