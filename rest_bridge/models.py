"""GET /api/models and GET /api/models/{name}: what the caller may use."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from inference_mesh import json_payload
from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.gateway_notes import notes_of
from rest_bridge.json_body import answer
from rest_bridge.upstream import Caller, CallTerms, Upstream, caller_of


class ModelsEndpoint:
    """The handlers of the two routes."""

    def __init__(self, upstream: Upstream, terms: CallTerms) -> None:
        self._upstream = upstream
        self._terms = terms

    async def list_models(self, request: Request) -> Response:
        """Every model of the caller, sorted by name."""
        models = await self._upstream.models(self._caller(request))
        return answer({"models": [model_to_json(model) for model in models]})

    async def get_model(self, request: Request) -> Response:
        """One model by name or alias; ?version= asks for one that is not the default."""
        caller = self._caller(request)
        version = request.query_params.get("version", "")
        model = await self._upstream.model(request.path_params["name"], version, caller)
        return answer(model_to_json(model))

    def _caller(self, request: Request) -> Caller:
        return caller_of(request.headers, self._terms, notes_of(request.scope))


def model_to_json(model: inference_pb2.Model) -> dict[str, object]:
    """A model as JSON; sizes and tensors only where the model has them."""
    document: dict[str, object] = {
        "name": model.name,
        "version": model.version,
        "task": json_payload.task_name(model.task),
        "aliases": list(model.aliases),
        "ready": model.ready,
        "runtime": model.runtime,
    }
    if model.max_tokens:
        document["max_tokens"] = model.max_tokens
    if model.slots:
        document["slots"] = model.slots
    if model.dimensions:
        document["dimensions"] = model.dimensions
    if model.inputs or model.outputs:
        document["inputs"] = [_spec_to_json(spec) for spec in model.inputs]
        document["outputs"] = [_spec_to_json(spec) for spec in model.outputs]
    return document


def _spec_to_json(spec: payload_pb2.TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
