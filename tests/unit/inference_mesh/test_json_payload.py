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


FUNCTION = {"name": "add", "description": "Adds.", "parameters": {"type": "object"}}


@pytest.mark.parametrize("tool", [FUNCTION, {"type": "function", "function": FUNCTION}])
@pytest.mark.parametrize("choice", [{"name": "add"}, {"type": "function", "function": {"name": "add"}}])
def test_tools_may_have_openais_form(tool: dict[str, Any], choice: dict[str, Any]) -> None:
    document = {"messages": [{"role": "user", "content": "hi"}], "tools": [tool], "tool_choice": choice}
    generate = json_payload.payload_from_json(GENERATE, document).generate
    assert generate.tools == [pb.Tool(name="add", description="Adds.", parameters='{"type": "object"}')]
    assert generate.tool_choice == pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, name="add")


@pytest.mark.parametrize(
    "call",
    [
        {"id": "c1", "name": "add", "arguments": '{"a": 1}'},
        {"id": "c1", "name": "add", "arguments": {"a": 1}},
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
    ],
)
def test_a_conversation_may_have_calls_and_what_they_gave(call: dict[str, Any]) -> None:
    messages = [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c1"},
    ]
    chat = json_payload.payload_from_json(GENERATE, {"messages": messages}).generate.chat
    assert chat.messages[0].tool_calls == [pb.ToolCall(id="c1", name="add", arguments='{"a": 1}')]
    assert (chat.messages[1].content, chat.messages[1].tool_call_id) == ("2", "c1")


def test_what_shapes_an_answer_reaches_the_payload() -> None:
    document = {"prompt": "a", "n": 3, "top_logprobs": 0, "grammar": "root ::=", "tool_choice": "none"}
    generate = json_payload.payload_from_json(GENERATE, document).generate
    assert (generate.n, generate.top_logprobs, generate.grammar) == (3, 0, "root ::=")
    assert generate.HasField("top_logprobs")
    assert generate.tool_choice.mode == pb.TOOL_CHOICE_MODE_NONE
    assert not json_payload.payload_from_json(GENERATE, {"prompt": "a"}).generate.HasField("top_logprobs")


@pytest.mark.parametrize(
    "document",
    [
        {"n": "2"},
        {"n": -1},
        {"top_logprobs": 1.5},
        {"grammar": {}},
        {"tools": {}},
        {"tools": ["add"]},
        {"tools": [{"name": 1}]},
        {"tools": [{"name": "a", "strict": True}]},
        {"tools": [{"name": "a", "parameters": []}]},
        {"tools": [{"type": "retrieval", "function": {"name": "a"}}]},
        {"tools": [{"type": "function", "function": "a"}]},
        {"tool_choice": "always"},
        {"tool_choice": {}},
        {"tool_choice": {"name": 1}},
        {"tool_choice": 1},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": "a", "name": "x"}]},
        {"messages": [{"role": "assistant", "tool_calls": {}}]},
        {"messages": [{"role": "assistant", "tool_calls": [{"name": "a", "arguments": []}]}]},
        {"messages": [{"role": "tool", "content": "a", "tool_call_id": 1}]},
    ],
)
def test_a_wrong_field_of_an_answers_shape_is_refused_by_name(document: dict[str, Any]) -> None:
    base = {} if "messages" in document else {"prompt": "a"}
    with pytest.raises(InvalidInputError, match=next(iter(document))):
        json_payload.payload_from_json(GENERATE, {**base, **document})


def test_an_answer_has_its_calls_log_probabilities_and_the_other_answers() -> None:
    told = pb.TokenLogprob(token=5, text=b"\xf0", logprob=-0.25, top=[pb.TokenLogprob(token=6, text=b"a")])
    first = pb.Generated(
        text="x",
        tokens=[5],
        finish_reason=pb.FINISH_REASON_TOOL_CALLS,
        tool_calls=[pb.ToolCall(id="c1", name="add", arguments="{}")],
        logprobs=[told],
    )
    first.others.append(pb.Generated(text="y", index=1, finish_reason=pb.FINISH_REASON_STOP, stop_text="end"))
    assert json_payload.output_to_json(pb.Output(generate=first)) == {
        "text": "x",
        "tool_calls": [{"id": "c1", "name": "add", "arguments": "{}"}],
        "logprobs": [
            {
                "token": 5,
                "text": "\ufffd",
                "logprob": -0.25,
                "top": [{"token": 6, "text": "a", "logprob": 0.0}],
            }
        ],
        "finish_reason": "tool_calls",
        "others": [{"index": 1, "text": "y", "finish_reason": "stop", "stop_text": "end"}],
    }


def test_instructions_by_name_and_cuts_reach_the_payload() -> None:
    embed = json_payload.payload_from_json(
        pb.TASK_EMBED, {"text": "a", "prompt_name": "query", "truncate": True}
    ).embed
    assert (embed.prompt_name, embed.truncate) == ("query", True)
    ranked = {"query": "a", "documents": ["b"], "truncate": True}
    assert json_payload.payload_from_json(pb.TASK_RERANK, ranked).rerank.truncate
    assert json_payload.payload_from_json(pb.TASK_CLASSIFY, {"text": "a", "truncate": True}).classify.truncate
