"""What the gateway's metadata makes of a request."""

from __future__ import annotations

import pytest

from inference_mesh import metadata
from inference_mesh.errors import InvalidInputError
from inference_mesh.metadata import Metadata
from inference_mesh.v1 import payload_pb2
from workers.call_terms import engine_request, with_defaults
from workers.priority import HEAD_START_S, Priority, turn_s

PROMPT = payload_pb2.Payload(generate=payload_pb2.Generate(prompt="a"))
EMBED = payload_pb2.Payload(embed=payload_pb2.Embed(texts=["a"]))


def _sent(**values: str) -> Metadata:
    return tuple((f"x-mesh-{name.replace('_', '-')}", value) for name, value in values.items())


def _generate(**sampling: object) -> payload_pb2.Payload:
    sampled = payload_pb2.Sampling(**sampling)  # type: ignore[arg-type]
    return payload_pb2.Payload(generate=payload_pb2.Generate(prompt="a", sampling=sampled))


def test_a_request_without_metadata_has_no_terms() -> None:
    request = engine_request(PROMPT, 5.0, ())
    assert request.payload is PROMPT
    assert (request.deadline, request.max_tokens_limit, request.token_budget) == (5.0, 0, None)
    assert (request.tenant, request.priority) == ("", Priority.NORMAL)


def test_every_term_is_read() -> None:
    sent = _sent(max_tokens="7", token_budget="0", tenant="salt", priority="bulk")
    request = engine_request(PROMPT, None, sent)
    assert (request.max_tokens_limit, request.token_budget) == (7, 0)
    assert (request.tenant, request.priority) == ("salt", Priority.BULK)


@pytest.mark.parametrize(
    "sent",
    [
        _sent(max_tokens="0"),
        _sent(max_tokens=str(2**31)),
        _sent(max_tokens="-1"),
        _sent(max_tokens="\u0661"),
        _sent(max_tokens="9" * 5000),
        _sent(token_budget=""),
        _sent(token_budget="1.5"),
        _sent(token_budget="9" * 30),
        _sent(priority="urgent"),
        _sent(priority=""),
        ((metadata.DEFAULTS, b"\xff\xff"),),
    ],
)
def test_malformed_terms_are_refused_by_name(sent: Metadata) -> None:
    with pytest.raises(InvalidInputError) as caught:
        engine_request(PROMPT, None, sent)
    assert caught.value.message.startswith(sent[0][0])


def test_defaults_fill_what_a_request_leaves_out_and_nothing_else() -> None:
    defaults = payload_pb2.Generate(
        max_tokens=9, sampling=payload_pb2.Sampling(temperature=0.5, top_k=0, seed=3, logit_bias={1: 2.0})
    )
    sent = ((metadata.DEFAULTS, defaults.SerializeToString()),)
    filled = engine_request(_generate(temperature=0.0, top_p=0.5), None, sent).payload.generate
    assert (filled.prompt, filled.max_tokens) == ("a", 9)
    assert (filled.sampling.temperature, filled.sampling.top_p, filled.sampling.seed) == (0.0, 0.5, 3)
    assert filled.sampling.HasField("top_k")
    assert dict(filled.sampling.logit_bias) == {1: 2.0}


def test_a_requests_own_values_win_even_where_they_are_zero() -> None:
    defaults = payload_pb2.Generate(
        max_tokens=9, sampling=payload_pb2.Sampling(temperature=0.5, logit_bias={1: 2.0})
    )
    own = _generate(temperature=0.0, logit_bias={4: 1.0})
    own.generate.max_tokens = 3
    assert with_defaults(own, defaults) == own


def test_defaults_leave_the_callers_message_alone() -> None:
    before = PROMPT.SerializeToString()
    with_defaults(PROMPT, payload_pb2.Generate(max_tokens=9, sampling=payload_pb2.Sampling(seed=1)))
    assert PROMPT.SerializeToString() == before


def test_defaults_without_sampling_leave_the_models_own() -> None:
    filled = with_defaults(PROMPT, payload_pb2.Generate(max_tokens=9))
    assert not filled.generate.HasField("sampling")


def test_other_tasks_have_no_defaults() -> None:
    assert with_defaults(EMBED, payload_pb2.Generate(max_tokens=9)) is EMBED


def test_a_higher_class_goes_first_but_no_class_starves() -> None:
    assert turn_s(Priority.HIGH, 5.0) < turn_s(Priority.NORMAL, 0.0) < turn_s(Priority.BULK, 0.0)
    assert turn_s(Priority.BULK, 0.0) < turn_s(Priority.NORMAL, HEAD_START_S + 1)
    assert turn_s(Priority.BULK, 0.0) < turn_s(Priority.HIGH, 2 * HEAD_START_S + 1)
