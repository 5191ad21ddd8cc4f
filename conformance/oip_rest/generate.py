"""The generate extension: one text in, one text out, at once or as server-sent events."""

from __future__ import annotations

import json

from conformance.checks import NotApplicableError, expect, expect_same
from conformance.event_stream import event_stream_of
from conformance.http_answers import document_of, expect_status, member
from conformance.oip_rest.refused import expect_error
from conformance.oip_rest.server import GENERATE, OIP_REST, UNKNOWN_MODEL, OipRestServer, path_of


@OIP_REST.check
async def generate_answers_with_a_text(server: OipRestServer) -> None:
    """POST …/generate of a text_input has a text_output and the model_name."""
    name = await server.text_model()
    response = await server.http.post(path_of(name, "generate"), json=GENERATE)
    expect_status(response, 200)
    document = document_of(response)
    # A model may end its text at once, so that an empty one says nothing.
    member(document, "text_output", str)
    expect_same(member(document, "model_name", str), name, "model_name")


@OIP_REST.check
async def generate_stream_is_server_sent_events(server: OipRestServer) -> None:
    """POST …/generate_stream is text/event-stream of objects with a text_output each."""
    name = await server.text_model()
    body = {**GENERATE, "parameters": {**GENERATE["parameters"], "stream": True}}
    response = await server.http.post(path_of(name, "generate_stream"), json=body)
    if response.status_code in (404, 405, 501):
        raise NotApplicableError("the server has no generate_stream, which is an extension")
    stream = event_stream_of(response)
    kind = stream.content_type
    expect(kind.startswith("text/event-stream"), f"content-type is {kind!r}; text/event-stream was expected")
    for event in stream.events:
        document = json.loads(event)
        member(document, "text_output", str)
        expect_same(member(document, "model_name", str), name, "model_name")


@OIP_REST.check
async def generate_without_a_text_is_refused(server: OipRestServer) -> None:
    """A generate call without its text_input is a 4xx with an error, streamed or not."""
    name = await server.text_model()
    for action in ("generate", "generate_stream"):
        expect_error(await server.http.post(path_of(name, action), json={"parameters": {}}))


@OIP_REST.check
async def generate_with_an_unknown_model_is_refused(server: OipRestServer) -> None:
    """A generate call to no model is a 4xx with an error."""
    await server.text_model()
    expect_error(await server.http.post(path_of(UNKNOWN_MODEL, "generate"), json=GENERATE))
