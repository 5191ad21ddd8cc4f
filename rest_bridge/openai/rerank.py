"""POST /v1/rerank: documents by how well they answer a query, in Jina's and Cohere's form. Pure.

Sources: https://api.jina.ai/redoc (rerank), https://docs.cohere.com/reference/rerank
"""

from __future__ import annotations

from inference_mesh.v1 import inference_pb2, payload_pb2
from rest_bridge.dialect_endpoint import Asked
from rest_bridge.fields import Fields
from rest_bridge.openai.chat import LONGEST_NAME
from rest_bridge.openai.objects import Json

MOST_DOCUMENTS = 2048


def read_rerank(fields: Fields, request_id: str) -> Asked:
    """What a body asks for. Raises InvalidFieldError."""
    documents = _documents(fields)
    rerank = payload_pb2.Rerank(
        query=fields.required_text("query"),
        documents=documents,
        top_n=fields.integer("top_n", 1, 2**31 - 1) or 0,
        truncate=fields.flag("truncate"),
    )
    shown = documents if fields.flag("return_documents") else None
    model = fields.required_text("model", longest=LONGEST_NAME)
    return Asked(
        model,
        [payload_pb2.Payload(rerank=rerank)],
        document=lambda responses: _document(responses[0], request_id, shown),
    )


def _documents(fields: Fields) -> list[str]:
    """Texts, or objects with a text."""
    values = fields.items("documents", most=MOST_DOCUMENTS)
    if not values:
        raise fields.wrong("documents", f"a list of 1 to {MOST_DOCUMENTS} texts")
    if all(isinstance(value, str) for value in values):
        return values
    return [document.required_text("text") for document in fields.objects("documents")]


def _document(response: inference_pb2.InferResponse, request_id: str, shown: list[str] | None) -> Json:
    tokens = response.usage.prompt_tokens
    return {
        "id": request_id,
        "model": response.model,
        "results": [_result(ranked, shown) for ranked in response.output.rerank.documents],
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def _result(ranked: payload_pb2.RankedDocument, shown: list[str] | None) -> Json:
    result: Json = {"index": ranked.index, "relevance_score": ranked.score}
    return result if shown is None else {**result, "document": {"text": shown[ranked.index]}}
