from __future__ import annotations

import asyncio
import json

import grpc
import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from inference_mesh import http_errors
from inference_mesh.errors import (
    InvalidInputError,
    MeshError,
    OverloadedError,
    QuotaViolation,
    TokenBudgetError,
    UnauthenticatedError,
    all_error_classes,
    http_status,
)
from inference_mesh.settings import SettingsError, load_settings
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge import openapi, sse
from rest_bridge.client_watch import while_wanted
from rest_bridge.gateway_notes import GatewayNotes
from rest_bridge.infer import InferBody, event_of, infer_body
from rest_bridge.models import model_to_json
from rest_bridge.problem import HttpRefusalError, answer_of
from rest_bridge.settings import BridgeSettings
from rest_bridge.upstream import Caller, CallTerms, caller_of

TERMS = CallTerms(300, 3600, forward_headers=("x-session-id",))


def caller(headers: dict[str, str]) -> Caller:
    return caller_of(headers, TERMS, GatewayNotes())


def make_error(error_class: type[MeshError]) -> MeshError:
    error = error_class.__new__(error_class)
    MeshError.__init__(error, "what happened")
    return error


@pytest.mark.parametrize("error_class", all_error_classes(), ids=lambda found: found.__name__)
def test_every_error_has_the_status_of_its_code_and_the_one_form(error_class: type[MeshError]) -> None:
    error = make_error(error_class)
    status, headers, body = answer_of("/api/infer", error)
    assert status == http_status(error)
    assert dict(headers)[b"content-type"] == b"application/json"
    assert json.loads(body) == {
        "error": {"code": error.code.name, "message": "what happened", "request_id": ""}
    }
    assert 400 <= status <= 599


def test_every_status_of_the_table_is_described_in_the_openapi_document() -> None:
    described = set(openapi.ERRORS)
    assert {http_status(make_error(found)) for found in all_error_classes()} <= described
    assert set(http_errors.CODE_OF_HTTP_STATUS) - {404, 405, 406, 417} <= described


def test_a_retry_hint_is_rounded_up_to_whole_seconds_in_the_header() -> None:
    _, headers, body = answer_of("/api/infer", OverloadedError("full", retry_after_s=0.2004))
    assert dict(headers)[b"retry-after"] == b"1"
    assert dict(headers)[b"retry-after-ms"] == b"201"
    assert json.loads(body)["error"]["retry_after_s"] == 0.2


def test_no_header_names_more_than_two_minutes_but_the_body_does() -> None:
    _, headers, body = answer_of("/api/infer", TokenBudgetError("spent", retry_after_s=3000.0))
    assert dict(headers)[b"retry-after"] == b"120"
    assert dict(headers)[b"retry-after-ms"] == b"120000"
    assert json.loads(body)["error"]["retry_after_s"] == 3000.0


def test_the_limits_that_were_reached_are_in_the_body() -> None:
    reached = QuotaViolation("tenant:acme:tokens", "1000 tokens in 60 s")
    _, _, body = answer_of("/api/infer", TokenBudgetError("spent", violations=(reached,)))
    assert json.loads(body)["error"]["quota"] == [
        {"subject": "tenant:acme:tokens", "description": "1000 tokens in 60 s"}
    ]


def test_only_a_missing_credential_is_asked_for() -> None:
    assert dict(answer_of("/api/infer", UnauthenticatedError())[1])[b"www-authenticate"] == b"Bearer"
    assert b"www-authenticate" not in dict(answer_of("/api/infer", OverloadedError("full"))[1])


def test_what_is_not_mapped_says_nothing_of_itself() -> None:
    status, _, body = answer_of("/api/infer", ZeroDivisionError("secret"))
    assert status == 500
    assert json.loads(body)["error"] == {"code": "INTERNAL", "message": "internal error", "request_id": ""}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (HTTPException(404), 404, grpc.StatusCode.NOT_FOUND),
        (HTTPException(405, headers={"Allow": "GET"}), 405, grpc.StatusCode.UNIMPLEMENTED),
        (HttpRefusalError(415, "no"), 415, grpc.StatusCode.INVALID_ARGUMENT),
        (ClientDisconnect(), 499, grpc.StatusCode.CANCELLED),
    ],
)
def test_refusals_of_http_itself_have_the_same_form(
    error: Exception, status: int, code: grpc.StatusCode
) -> None:
    answered, _, body = answer_of("/api/infer", error)
    assert (answered, json.loads(body)["error"]["code"]) == (status, code.name)


def test_events_are_one_line_each_whatever_the_text_holds() -> None:
    event = sse.event({"text": "a\nb\r\n\u2028data: x"})
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    assert event.count(b"\n") == 2
    assert json.loads(event.removeprefix(b"data: "))["text"] == "a\nb\r\n\u2028data: x"
    assert sse.error_event(b"{}") == b"event: error\ndata: {}\n\n"


def test_a_piece_shows_only_what_it_has() -> None:
    text = payload_pb2.Output(generate=payload_pb2.Generated(text="x"))
    plain = event_of(inference_pb2.InferStreamResponse(output=text))
    assert json.loads(plain.removeprefix(b"data: ")) == {"output": {"text": "x"}}
    usage = payload_pb2.Usage(prompt_tokens=1)
    last = json.loads(event_of(inference_pb2.InferStreamResponse(usage=usage)).removeprefix(b"data: "))
    assert set(last) == {"usage", "timing"}


def test_the_body_of_a_request_is_taken_apart() -> None:
    body = infer_body({"model": "m", "payload": {"a": 1}, "version": "2", "stream": True, "id": "i"}, 50)
    assert body == InferBody("m", {"a": 1}, "2", True, "i", 50)
    assert infer_body({"model": "m", "payload": 0, "version": None}, 1) == InferBody("m", 0, "", False, "", 1)


@pytest.mark.parametrize(
    ("document", "named"),
    [
        ({"payload": 1}, "'model'"),
        ({"model": "m"}, "'payload'"),
        ({"model": "m" * 257, "payload": 1}, "'model'"),
        ({"model": "m", "payload": 1, "stream": 1}, "'stream'"),
        ({"model": "m", "payload": 1, "version": 2}, "'version'"),
        ({"model": "m", "payload": 1, "prompt": "x"}, "'prompt'"),
    ],
)
def test_a_wrong_field_is_named(document: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        infer_body(document, 10)


async def test_a_caller_is_told_apart_by_credentials_and_shows_none() -> None:
    one = caller({"authorization": "Bearer a", "cookie": "c"})
    other = caller({"x-api-key": "Bearer a"})
    assert one.credentials == (("authorization", "Bearer a"),)
    assert one.digest != other.digest
    assert b"Bearer" not in one.digest
    assert caller({}).credentials == ()


async def test_a_credential_with_a_line_break_or_beyond_ascii_is_refused() -> None:
    for value in ("a\nb", "é", "\x00"):
        with pytest.raises(UnauthenticatedError):
            caller({"x-api-key": value})


async def test_a_block_that_nobody_wants_is_cancelled_and_others_are_not() -> None:
    gone = asyncio.Event()

    async def receive() -> dict[str, object]:
        await gone.wait()
        return {"type": "http.disconnect"}

    async with while_wanted(receive, asyncio.Event()):
        await asyncio.sleep(0)
    with pytest.raises(ZeroDivisionError):
        async with while_wanted(receive, asyncio.Event()):
            _ = 1 // 0
    gone.set()
    with pytest.raises(MeshError) as left:
        async with while_wanted(receive, asyncio.Event()):
            await asyncio.Event().wait()
    assert left.value.code is grpc.StatusCode.CANCELLED


async def test_a_block_ends_as_unavailable_when_the_bridge_must_end() -> None:
    async def receive() -> dict[str, object]:
        await asyncio.Event().wait()
        return {}

    cut_off = asyncio.Event()
    cut_off.set()
    with pytest.raises(MeshError) as ended:
        async with while_wanted(receive, cut_off):
            await asyncio.Event().wait()
    assert ended.value.code is grpc.StatusCode.UNAVAILABLE


def test_a_model_shows_only_sizes_that_it_has() -> None:
    document = model_to_json(inference_pb2.Model(name="m", task=payload_pb2.TASK_GENERATE, max_tokens=9))
    assert document["max_tokens"] == 9
    assert "dimensions" not in document
    assert "inputs" not in document


def test_allowed_origins_are_a_list_in_one_text() -> None:
    settings = load_settings(BridgeSettings, {"cors_origins": " http://a , http://b ,"})
    assert settings.allowed_origins == ("http://a", "http://b")
    assert load_settings(BridgeSettings).allowed_origins == ()


def test_a_client_names_no_header_that_the_gateway_believes() -> None:
    for name in ("x-mesh-tenant", "X-Mesh-Model", "x-user-id", "x-tenant", "grpc-timeout", "authorization"):
        with pytest.raises(SettingsError):
            load_settings(BridgeSettings, {"forward_headers": name})
    for name in ("x-auth-request-user", "x_forwarded_user", "x-consumer-username", "remote-user"):
        with pytest.raises(SettingsError):
            load_settings(BridgeSettings, {"forward_headers": name})
    for name in ("blank name", "x-data-bin", "traceparent", "x-request-id", "x-api-key", "cookie"):
        with pytest.raises(SettingsError):
            load_settings(BridgeSettings, {"forward_headers": name})
    settings = load_settings(BridgeSettings, {"forward_headers": "X-Session-Id, x-experiment"})
    assert settings.forwarded_header_names == ("x-session-id", "x-experiment")


async def test_only_headers_of_the_list_are_forwarded() -> None:
    found = caller({"x-session-id": "s-1", "x-mesh-tenant": "acme", "x-user": "u", "x-tenant": "t"})
    assert found.forwarded == (("x-session-id", "s-1"),)
    assert {name for name, _ in found.metadata()} == {"x-session-id", "x-request-id"}


async def test_a_forwarded_value_that_metadata_cannot_carry_is_refused() -> None:
    with pytest.raises(InvalidInputError):
        caller({"x-session-id": "s\xe9"})
