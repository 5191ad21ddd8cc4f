"""The routes under /v2/repository: which models there are, and what is to be in memory.

Source: Triton's model repository extension. Who may load, and which parameters there are, the
gateway and the hosts behind it say.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inference_mesh import strict_json
from inference_mesh.errors import InvalidInputError
from inference_mesh.oip import open_inference_pb2 as oip
from rest_bridge.fields import Fields
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import answer, off_loop_if_large
from rest_bridge.open_inference.answer import index_of
from rest_bridge.open_inference.upstream import OpenInferenceUpstream, Parameters
from rest_bridge.upstream import Caller, CallTerms, caller_of

INTEGERS = range(-(2**63), 2**63)


def repository_routes(upstream: OpenInferenceUpstream, terms: CallTerms) -> list[Route]:
    """All of them."""
    pages = _Repository(upstream, terms)
    model = "/v2/repository/models/{model}"
    return [
        Route("/v2/repository/index", pages.index, methods=["POST"]),
        Route(f"{model}/load", pages.load, methods=["POST"]),
        Route(f"{model}/unload", pages.unload, methods=["POST"]),
    ]


class _Repository:
    """What is asked by POST; a body may be left out."""

    def __init__(self, upstream: OpenInferenceUpstream, terms: CallTerms) -> None:
        self._upstream = upstream
        self._terms = terms

    async def index(self, request: Request) -> Response:
        """The models, or only those that are ready."""
        fields = await _fields(request)
        index = await self._upstream.repository_index(self._caller(request), ready=fields.flag("ready"))
        return answer(index_of(index))

    async def load(self, request: Request) -> Response:
        """Load a model; the answer is empty, and comes once the model is ready."""
        return await self._step(request, self._upstream.load)

    async def unload(self, request: Request) -> Response:
        """Take a model out of memory; the answer is empty, and comes once it has left."""
        return await self._step(request, self._upstream.unload)

    async def _step(
        self, request: Request, step: Callable[[str, Parameters, Caller], Awaitable[None]]
    ) -> Response:
        parameters = parameters_of(await _fields(request))
        await step(request.path_params["model"], parameters, self._caller(request))
        return Response()

    def _caller(self, request: Request) -> Caller:
        return caller_of(request.headers, self._terms, notes_of(request.scope))


def parameters_of(fields: Fields) -> Parameters:
    """The parameters of a body in their gRPC form. Raises InvalidFieldError."""
    nested = fields.nested("parameters")
    if nested is None:
        return {}
    return {name: _parameter(nested, name) for name in nested.names() if name in nested}


def _parameter(parameters: Fields, name: str) -> oip.ModelRepositoryParameter:
    value = parameters[name]
    if isinstance(value, bool):
        return oip.ModelRepositoryParameter(bool_param=value)
    if isinstance(value, int) and value in INTEGERS:
        return oip.ModelRepositoryParameter(int64_param=value)
    if isinstance(value, str):
        return oip.ModelRepositoryParameter(string_param=value)
    raise parameters.wrong(name, "a text, an integer, true or false")


async def _fields(request: Request) -> Fields:
    """The fields of the body; none if there is no body. Triton's clients name no content type."""
    body = await request.body()
    document = await off_loop_if_large(len(body), strict_json.loads, body) if body else {}
    if not isinstance(document, dict):
        raise InvalidInputError("the body must be a JSON object")
    return Fields(document)
