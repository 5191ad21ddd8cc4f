"""The routes under /v1."""

from __future__ import annotations

import time
from collections.abc import Callable

from starlette.routing import Route

from inference_mesh.asgi_limits import AsgiApp
from rest_bridge.dialect_endpoint import Asked, Dialect
from rest_bridge.fields import Fields
from rest_bridge.openai.chat import read_chat
from rest_bridge.openai.completions import read_completion
from rest_bridge.openai.embeddings import read_embedding
from rest_bridge.openai.models import OpenaiModels
from rest_bridge.openai.rerank import read_rerank
from rest_bridge.openai.responses import read_response
from rest_bridge.upstream import CallTerms, Upstream


def openai_routes(
    endpoint_of: Callable[[Dialect], AsgiApp], upstream: Upstream, terms: CallTerms
) -> list[Route]:
    """All of them. endpoint_of: the application that serves a dialect."""
    models = OpenaiModels(upstream, terms, int(time.time()))
    dialects: dict[str, Dialect] = {
        "/v1/chat/completions": _dated(read_chat),
        "/v1/completions": _dated(read_completion),
        "/v1/embeddings": read_embedding,
        "/v1/rerank": read_rerank,
        "/v1/responses": _dated(read_response),
    }
    return [
        *(Route(path, endpoint_of(dialect), methods=["POST"]) for path, dialect in dialects.items()),
        Route("/v1/models", models.list_models),
        Route("/v1/models/{name}", models.get_model),
    ]


def _dated(read: Callable[[Fields, str, int], Asked]) -> Dialect:
    """A dialect whose answers tell when they were made, in Unix seconds."""
    return lambda fields, request_id: read(fields, request_id, int(time.time()))
