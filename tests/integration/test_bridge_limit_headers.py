from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from inference_mesh import limit_standing
from inference_mesh.errors import QuotaViolation, StreamBrokenError, TokenBudgetError, UnauthenticatedError
from inference_mesh.limit_standing import LimitStanding
from inference_mesh.v1 import inference_pb2, payload_pb2
from tests.fakes.fake_gateway import piece
from tests.support.bridge import RunningBridge, running_bridge

CHAT = {"model": "chat", "payload": {"prompt": "Once"}}
LIMITS = limit_standing.encode(
    [
        LimitStanding("key:ab12:requests", "requests", 10, 7, 2, 0.6),
        LimitStanding("tenant:acme:tokens", "tokens", 1000, 640, 60, 12.5),
    ]
)
DECISION = "model=chat;version=1;rule=name;wait_ms=0"


@pytest.fixture
async def bridge() -> AsyncIterator[RunningBridge]:
    async with running_bridge() as running:
        yield running


async def refuse(_: Any) -> inference_pb2.InferResponse:
    reached = QuotaViolation("tenant:acme:tokens", "1000 tokens in 60 s")
    raise TokenBudgetError("the token budget is spent", retry_after_s=12.5, violations=(reached,))


async def refuse_stream(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
    raise TokenBudgetError("the token budget is spent", retry_after_s=12.5)
    yield


def token_piece(text: str, *tokens: int, **fields: Any) -> inference_pb2.InferStreamResponse:
    generated = payload_pb2.Generated(text=text, tokens=tokens)
    return inference_pb2.InferStreamResponse(output=payload_pb2.Output(generate=generated), **fields)


def error_event(text: str) -> dict[str, Any]:
    event = text.removesuffix("\n\n").split("\n\n")[-1]
    assert event.startswith("event: error\ndata: ")
    return dict(json.loads(event.partition("data: ")[2])["error"])


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_tells_how_the_limits_stand_and_how_it_was_decided(
    bridge: RunningBridge, stream: bool
) -> None:
    bridge.gateway.told_first = (("x-mesh-limits", LIMITS), ("x-mesh-cache", "miss"))
    if stream:
        bridge.gateway.told_first += (("x-mesh-decision", DECISION),)
    else:
        bridge.gateway.told_last = (("x-mesh-decision", DECISION),)
    headers = (await bridge.infer(CHAT | {"stream": stream})).headers
    assert headers["x-mesh-decision"] == DECISION
    assert headers["x-mesh-cache"] == "miss"
    assert headers["x-ratelimit-remaining-requests"] == "7"
    assert headers["x-ratelimit-reset-tokens"] == "12.5s"
    assert headers["ratelimit"] == '"key:ab12:requests";r=7;t=1, "tenant:acme:tokens";r=640;t=13'
    assert not [name for name in headers if name in ("x-mesh-limits", "x-mesh-delivered")]


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_tells_the_limit_in_every_language(bridge: RunningBridge, stream: bool) -> None:
    bridge.gateway.infer_script = refuse
    bridge.gateway.stream_script = refuse_stream
    bridge.gateway.told_last = (("x-mesh-limits", LIMITS),)
    answer = await bridge.infer(CHAT | {"stream": stream})
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "13"
    assert answer.headers["retry-after-ms"] == "12500"
    assert answer.headers["x-ratelimit-limit-tokens"] == "1000"
    assert '"tenant:acme:tokens";q=1000' in answer.headers["ratelimit-policy"]


async def test_the_limit_that_was_reached_is_in_the_body(bridge: RunningBridge) -> None:
    bridge.gateway.infer_script = refuse
    assert (await bridge.infer(CHAT)).json()["error"]["quota"] == [
        {"subject": "tenant:acme:tokens", "description": "1000 tokens in 60 s"}
    ]


async def test_a_caller_without_credentials_is_told_which_kind_to_send(bridge: RunningBridge) -> None:
    async def unknown(_: Any) -> inference_pb2.InferResponse:
        raise UnauthenticatedError

    bridge.gateway.infer_script = unknown
    answer = await bridge.infer(CHAT)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")


async def test_a_session_passes_to_the_gateway_and_an_identity_does_not(bridge: RunningBridge) -> None:
    await bridge.infer(
        CHAT,
        x_session_id="s-1",
        x_mesh_tenant="acme",
        x_mesh_priority="high",
        x_user="root",
        x_tenant="acme",
        x_other="1",
    )
    metadata = bridge.gateway.metadata
    assert metadata["x-session-id"] == "s-1"
    assert not {"x-mesh-tenant", "x-mesh-priority", "x-user", "x-tenant", "x-other"} & set(metadata)


async def test_which_headers_pass_is_a_setting() -> None:
    async with running_bridge(forward_headers="x-experiment") as bridge:
        await bridge.infer(CHAT, x_session_id="s-1", x_experiment="blue")
        assert bridge.gateway.metadata["x-experiment"] == "blue"
        assert "x-session-id" not in bridge.gateway.metadata


async def test_a_stream_that_breaks_says_how_many_tokens_were_sent(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield token_piece("Once", 5, model="chat")
        yield token_piece(" upon a", 6, 7)
        raise StreamBrokenError("the worker died")

    bridge.gateway.stream_script = script
    error = error_event((await bridge.infer(CHAT | {"stream": True})).text)
    assert (error["code"], error["delivered_tokens"]) == ("UNAVAILABLE", 3)


async def test_without_token_ids_the_gateways_own_count_is_told(bridge: RunningBridge) -> None:
    async def script(_: Any) -> AsyncIterator[inference_pb2.InferStreamResponse]:
        yield piece("Once upon", model="chat")
        raise StreamBrokenError("the worker died")

    bridge.gateway.stream_script = script
    bridge.gateway.told_last = (("x-mesh-delivered", "2"),)
    assert error_event((await bridge.infer(CHAT | {"stream": True})).text)["delivered_tokens"] == 2


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (payload_pb2.LENGTH_REASON_MAX_TOKENS, "max_tokens"),
        (payload_pb2.LENGTH_REASON_CONTEXT, "context"),
        (payload_pb2.LENGTH_REASON_CLAMP, "clamp"),
        (payload_pb2.LENGTH_REASON_TOKEN_BUDGET, "token_budget"),
    ],
)
async def test_an_answer_that_was_cut_says_by_which_limit(
    bridge: RunningBridge, reason: payload_pb2.LengthReason, text: str
) -> None:
    async def cut(request: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        generated = payload_pb2.Generated(
            text="Once", finish_reason=payload_pb2.FINISH_REASON_LENGTH, length_reason=reason
        )
        output = payload_pb2.Output(generate=generated)
        return inference_pb2.InferResponse(model=request.model, output=output)

    bridge.gateway.infer_script = cut
    output = (await bridge.infer(CHAT)).json()["output"]
    assert output == {"text": "Once", "finish_reason": "length", "length_reason": text}


async def test_an_answer_that_was_kept_says_so_in_its_usage(bridge: RunningBridge) -> None:
    async def kept(request: inference_pb2.InferRequest) -> inference_pb2.InferResponse:
        usage = payload_pb2.Usage(prompt_tokens=3, response_cached=True)
        return inference_pb2.InferResponse(model=request.model, usage=usage)

    bridge.gateway.infer_script = kept
    assert (await bridge.infer(CHAT)).json()["usage"]["response_cached"] is True


async def test_pages_of_allowed_origins_may_read_the_limits() -> None:
    async with running_bridge(cors_origins="http://page.example") as bridge:
        answer = await bridge.infer(CHAT, origin="http://page.example")
        exposed = answer.headers["access-control-expose-headers"]
        assert {"ratelimit", "retry-after-ms", "x-mesh-decision"} <= set(exposed.split(", "))
