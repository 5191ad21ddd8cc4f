"""Refusals: which status a wrong request has, and the form of its error."""

from __future__ import annotations

from conformance.checks import NotApplicableError, expect, shown
from conformance.doors import WRONG_KEY
from conformance.http_answers import expect_status, member, send_with_key
from conformance.openai.server import CHAT, MODELS, OPENAI, UNKNOWN_MODEL, OpenaiServer, error_of

UNKNOWN_PATH = "/v1/conformance/no-such-path"


@OPENAI.check
async def an_error_has_its_four_fields(server: OpenaiServer) -> None:
    """error has the texts message and type, and param and code, which may be null."""
    for response in (
        await server.http.get(f"{MODELS}/{UNKNOWN_MODEL}"),
        await server.post(CHAT, {"model": await server.generate_model()}),
    ):
        error = error_of(response, 400, 404, 422)
        expect(member(error, "type", str), "'type' is empty")
        absent = [name for name in ("param", "code") if name not in error]
        expect(not absent, f"there is no {absent} in {shown(error)}")


@OPENAI.check
async def missing_messages_are_refused(server: OpenaiServer) -> None:
    """A chat without messages, or with none in their list, is 400."""
    body = await server.chat_body(messages=[])
    error_of(await server.post(CHAT, body), 400)
    del body["messages"]
    error_of(await server.post(CHAT, body), 400)


@OPENAI.check
async def messages_of_another_type_are_refused(server: OpenaiServer) -> None:
    """Messages that are a text, or a list of texts, are 400."""
    for messages in ("Hi", ["Hi"], {"role": "user", "content": "Hi"}):
        error_of(await server.post(CHAT, await server.chat_body(messages=messages)), 400)


@OPENAI.check
async def a_message_without_a_role_is_refused(server: OpenaiServer) -> None:
    """A message that does not say whose it is, is 400."""
    error_of(await server.post(CHAT, await server.chat_body(messages=[{"content": "Hi"}])), 400)


@OPENAI.check
async def malformed_json_is_refused(server: OpenaiServer) -> None:
    """A body that is no JSON, or no JSON object, is 400."""
    for body in (b'{"model": ', b"[]", b'"text"', b"\xff\xfe"):
        error_of(await server.post_bytes(CHAT, body), 400)


@OPENAI.check
async def an_empty_body_is_refused(server: OpenaiServer) -> None:
    """A chat without a body is 400."""
    error_of(await server.post_bytes(CHAT, b""), 400)


@OPENAI.check
async def a_missing_model_is_refused(server: OpenaiServer) -> None:
    """A chat that names no model is 400, unless the server has a model of its own for that."""
    body = await server.chat_body(max_tokens=1)
    del body["model"]
    response = await server.post(CHAT, body)
    if response.status_code == 200:
        raise NotApplicableError("the server chooses a model by itself")
    error_of(response, 400)


@OPENAI.check
async def a_temperature_below_0_is_refused(server: OpenaiServer) -> None:
    """A temperature of -1 is 400."""
    error_of(await server.post(CHAT, await server.chat_body(temperature=-1)), 400)


@OPENAI.check
async def a_temperature_above_2_is_refused(server: OpenaiServer) -> None:
    """A temperature of 99 is 400, unless the server's range is wider than OpenAI's."""
    response = await server.post(CHAT, await server.chat_body(temperature=99))
    if response.status_code == 200:
        raise NotApplicableError("the server takes temperatures above 2")
    error_of(response, 400)


@OPENAI.check
async def numbers_of_another_type_are_refused(server: OpenaiServer) -> None:
    """A temperature or max_tokens that is a word is 400."""
    error_of(await server.post(CHAT, await server.chat_body(temperature="hot")), 400)
    error_of(await server.post(CHAT, await server.chat_body(max_tokens="many")), 400)


@OPENAI.check
async def a_negative_max_tokens_is_refused(server: OpenaiServer) -> None:
    """max_tokens = -1 is 400."""
    error_of(await server.post(CHAT, await server.chat_body(max_tokens=-1)), 400)


@OPENAI.check
async def a_chat_with_an_unknown_model_is_not_found(server: OpenaiServer) -> None:
    """A chat that names no model of the server is 404."""
    error_of(await server.post(CHAT, await server.chat_body(model=UNKNOWN_MODEL)), 404)


@OPENAI.check
async def a_call_without_a_key_is_refused(server: OpenaiServer) -> None:
    """A chat without a key is 401."""
    _needs_a_key(server)
    expect_status(await send_with_key(server.http, "POST", CHAT, None, await server.chat_body()), 401)


@OPENAI.check
async def a_call_with_a_wrong_key_is_refused(server: OpenaiServer) -> None:
    """A chat with a key that does not exist is 401."""
    _needs_a_key(server)
    expect_status(await send_with_key(server.http, "POST", CHAT, WRONG_KEY, await server.chat_body()), 401)


@OPENAI.check
async def an_unknown_path_is_not_found(server: OpenaiServer) -> None:
    """A path that does not exist is 404."""
    expect_status(await server.http.get(UNKNOWN_PATH), 404)


@OPENAI.check
async def another_method_is_refused(server: OpenaiServer) -> None:
    """PUT, which no endpoint has, is 405 for a chat; or 404, from servers that route by method as well."""
    # GET lists stored completions at OpenAI, so that it says nothing.
    expect_status(await server.http.put(CHAT, json={}), 405, 404)


@OPENAI.check
async def refusals_by_http_have_the_form_too(server: OpenaiServer) -> None:
    """An unknown path, another method and a wrong key have an error of the form of a wrong request."""
    error_of(await server.http.get(UNKNOWN_PATH), 404)
    error_of(await server.http.put(CHAT, json={}), 405, 404)
    if server.has_key:
        body = await server.chat_body()
        error_of(await send_with_key(server.http, "POST", CHAT, WRONG_KEY, body), 401)


def _needs_a_key(server: OpenaiServer) -> None:
    if not server.has_key:
        raise NotApplicableError("no key was given to this run")
