"""The list of models, and one model by its id."""

from __future__ import annotations

from urllib.parse import quote

from conformance.checks import expect, expect_same
from conformance.http_answers import Json, document_of, expect_status, member
from conformance.openai.server import MODELS, MOST_TRIED, OPENAI, UNKNOWN_MODEL, OpenaiServer, error_of


@OPENAI.check
async def models_are_listed(server: OpenaiServer) -> None:
    """GET /v1/models answers with a list of models, each with id, object, created and owned_by."""
    response = await server.http.get(MODELS)
    expect_status(response, 200)
    document = document_of(response)
    expect_same(member(document, "object", str), "list", "object")
    models = member(document, "data", list)
    expect(models, "the list is empty")
    for model in models:
        _expect_model(model)


@OPENAI.check
async def each_model_has_an_id_of_its_own(server: OpenaiServer) -> None:
    """No id is listed twice."""
    listed = await server.listed()
    twice = sorted({one for one in listed if listed.count(one) > 1})
    expect(not twice, f"listed twice: {twice}")


@OPENAI.check
async def a_listed_model_is_found_by_its_id(server: OpenaiServer) -> None:
    """GET /v1/models/{id} answers with the model, for each of the first listed ones."""
    for name in (await server.listed())[:MOST_TRIED]:
        # An id may have a slash, which clients such as OpenAI's own write as %2F.
        response = await server.http.get(f"{MODELS}/{quote(name, safe='')}")
        expect_status(response, 200)
        model = document_of(response)
        _expect_model(model)
        expect_same(model["id"], name, "id")


@OPENAI.check
async def an_unknown_model_is_not_found(server: OpenaiServer) -> None:
    """GET /v1/models/{id} of no model is 404 with an error."""
    error_of(await server.http.get(f"{MODELS}/{UNKNOWN_MODEL}"), 404)


def _expect_model(model: Json) -> None:
    expect(member(model, "id", str), "'id' is empty")
    expect_same(member(model, "object", str), "model", "object")
    expect(member(model, "created", int) >= 0, f"created is {model['created']}")
    member(model, "owned_by", str)
