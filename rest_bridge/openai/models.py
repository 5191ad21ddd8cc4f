"""GET /v1/models and GET /v1/models/{name}: what the caller may use, in OpenAI's form."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from inference_mesh.v1 import inference_pb2
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import answer
from rest_bridge.openai.objects import Json
from rest_bridge.upstream import CallTerms, Upstream, caller_of

OWNER = "inference-mesh"


class OpenaiModels:
    """The handlers of the two routes."""

    def __init__(self, upstream: Upstream, terms: CallTerms, created_s: int) -> None:
        """created_s: when this bridge began, in Unix seconds; a model has no birthday of its own."""
        self._upstream = upstream
        self._terms = terms
        self._created_s = created_s

    async def list_models(self, request: Request) -> Response:
        """Every model of the caller, sorted by name."""
        caller = caller_of(request.headers, self._terms, notes_of(request.scope))
        models = await self._upstream.models(caller)
        return answer({"object": "list", "data": [self._model(model) for model in models]})

    async def get_model(self, request: Request) -> Response:
        """One model by name or alias."""
        caller = caller_of(request.headers, self._terms, notes_of(request.scope))
        return answer(self._model(await self._upstream.model(request.path_params["name"], "", caller)))

    def _model(self, model: inference_pb2.Model) -> Json:
        return {"id": model.name, "object": "model", "created": self._created_s, "owned_by": OWNER}
