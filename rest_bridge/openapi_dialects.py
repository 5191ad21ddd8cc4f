"""The foreign dialects in the OpenAPI document: paths and schemas under /v1 and /v2.

Owns what of a dialect is promised here. Requests may have more fields than are listed: those that
only hint are tolerated, and those that would change the answer are refused by name.
"""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

ANY: Json = {}
OBJECT: Json = {"type": "object"}
TEXT: Json = {"type": "string"}
COUNT: Json = {"type": "integer", "minimum": 0}
MODEL: Json = {"type": "string", "minLength": 1, "maxLength": 256}
FLAG: Json = {"type": ["boolean", "null"]}
NULLABLE_TEXT: Json = {"type": ["string", "null"]}

HELLO: Json = {"model": "tiny-chat", "messages": [{"role": "user", "content": "Hello"}]}
FLOWER: Json = {"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}
EXAMPLES: dict[str, Json] = {
    "/v1/chat/completions": HELLO | {"max_tokens": 32},
    "/v1/completions": {"model": "tiny-chat", "prompt": "Once upon a time", "max_tokens": 16},
    "/v1/embeddings": {"model": "minilm", "input": ["a cat", "a dog"]},
    "/v1/rerank": {"model": "reranker", "query": "a pet", "documents": ["a cat", "a car"]},
    "/v1/responses": {"model": "tiny-chat", "input": "Hello"},
    "/v1/messages": HELLO | {"max_tokens": 32},
    "/v2/models/{model}/infer": {"inputs": [FLOWER]},
    "/v2/models/{model}/generate": {"text_input": "Once upon a time", "max_tokens": 16},
    "/v2/models/{model}/generate_stream": {"text_input": "Once upon a time", "max_tokens": 16},
    "/v2/repository/index": {"ready": True},
    "/v2/repository/models/{model}/load": {},
    "/v2/repository/models/{model}/unload": {},
}
SUMMARIES = {
    "/v1/chat/completions": "Continue a chat (OpenAI)",
    "/v1/completions": "Continue texts (OpenAI, the older form)",
    "/v1/embeddings": "Turn texts into vectors (OpenAI)",
    "/v1/rerank": "Rank documents for a query (Jina, Cohere)",
    "/v1/responses": "Make a response, without a memory (OpenAI)",
    "/v1/messages": "Continue a conversation (Anthropic)",
    "/v2/models/{model}/infer": "Run a model on tensors (Open Inference Protocol)",
    "/v2/models/{model}/generate": "Continue a text (Triton's generate extension)",
    "/v2/models/{model}/generate_stream": "Continue a text, piece by piece (Triton's generate extension)",
    "/v2/repository/index": "List the models of the repository (Triton's model repository extension)",
    "/v2/repository/models/{model}/load": "Load a model (Triton's model repository extension)",
    "/v2/repository/models/{model}/unload": "Unload a model (Triton's model repository extension)",
}
BODY_IS_OPTIONAL = frozenset(path for path in SUMMARIES if path.startswith("/v2/repository"))
STREAMED = frozenset(
    {
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v2/models/{model}/generate_stream",
    }
)


def _object(required: tuple[str, ...], **properties: Json) -> Json:
    """An object that may have more than what is listed."""
    return {"type": "object", "properties": properties, "required": list(required)}


def _list_of(items: Json, *, least: int = 0) -> Json:
    return {"type": "array", "items": items, "minItems": least}


def _number(low: float, high: float) -> Json:
    return {"type": ["number", "null"], "minimum": low, "maximum": high}


def _ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


_TOKENS = _list_of({"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, least=1)
_TEXTS_OR_TOKENS: Json = {
    "anyOf": [TEXT, _list_of(TEXT, least=1), _TOKENS, _list_of(_TOKENS, least=1)],
}
_GENERATION: dict[str, Json] = {
    "model": MODEL,
    "stream": FLAG,
    "temperature": _number(0, 2),
    "top_p": _number(0, 1),
}
_USAGE = _object(("prompt_tokens", "total_tokens"), prompt_tokens=COUNT, total_tokens=COUNT)
_FINISH: Json = {"type": ["string", "null"], "enum": ["stop", "length", "tool_calls", None]}

_TEXT_INPUT = _object(("text_input",), text_input={"type": "string", "minLength": 1}, parameters=OBJECT)
_TEXT_OUTPUT = _object(("model_name", "text_output"), text_output=TEXT)
_STEP = _object((), parameters={"type": ["object", "null"]})
_DURATION = _object(("count", "ns"), count=COUNT, ns=COUNT)
_STATISTICS = _object(
    ("model_stats",),
    model_stats=_list_of(
        _object(
            ("name", "version", "last_inference", "inference_count", "execution_count", "inference_stats"),
            last_inference=COUNT,
            inference_count=COUNT,
            execution_count=COUNT,
            inference_stats={"type": "object", "additionalProperties": _DURATION},
        )
    ),
)

REQUESTS: dict[str, Json] = {
    "/v1/chat/completions": _object(
        ("model", "messages"),
        messages=_list_of(OBJECT, least=1),
        n={"type": ["integer", "null"], "minimum": 1, "maximum": 16},
        max_completion_tokens={"type": ["integer", "null"], "minimum": 1},
        response_format={"type": ["object", "null"]},
        tools={"type": ["array", "null"], "items": OBJECT},
        **_GENERATION,
    ),
    "/v1/completions": _object(("model", "prompt"), prompt=_TEXTS_OR_TOKENS, **_GENERATION),
    "/v1/embeddings": _object(
        ("model", "input"),
        model=MODEL,
        input=_TEXTS_OR_TOKENS,
        encoding_format={"enum": ["float", "base64", None]},
        dimensions={"type": ["integer", "null"], "minimum": 1},
    ),
    "/v1/rerank": _object(
        ("model", "query", "documents"),
        model=MODEL,
        query={"type": "string", "minLength": 1},
        documents={"type": "array", "minItems": 1, "maxItems": 2048},
        top_n={"type": ["integer", "null"], "minimum": 1},
        return_documents=FLAG,
    ),
    "/v1/responses": _object(
        ("model", "input"), input={"anyOf": [TEXT, _list_of(OBJECT, least=1)]}, **_GENERATION
    ),
    "/v1/messages": _object(
        ("model", "max_tokens", "messages"),
        max_tokens={"type": "integer", "minimum": 1},
        messages=_list_of(OBJECT, least=1),
        **{**_GENERATION, "temperature": _number(0, 1)},
    ),
    "/v2/models/{model}/infer": _object(
        ("inputs",),
        inputs=_list_of(_ref("OipTensor"), least=1),
        id=TEXT,
        parameters=OBJECT,
        outputs=_list_of(OBJECT),
    ),
    "/v2/models/{model}/generate": _TEXT_INPUT,
    "/v2/models/{model}/generate_stream": _TEXT_INPUT,
    "/v2/repository/index": _object((), ready=FLAG),
    "/v2/repository/models/{model}/load": _STEP,
    "/v2/repository/models/{model}/unload": _STEP,
}

ANSWERS: dict[str, Json] = {
    "/v1/chat/completions": _object(
        ("id", "object", "created", "model", "choices", "usage"),
        object={"const": "chat.completion"},
        created=COUNT,
        choices=_list_of(_object(("index", "message", "finish_reason"), finish_reason=_FINISH), least=1),
        usage=_USAGE,
    ),
    "/v1/completions": _object(
        ("id", "object", "created", "model", "choices", "usage"),
        object={"const": "text_completion"},
        created=COUNT,
        choices=_list_of(
            _object(("index", "text", "finish_reason"), text=TEXT, finish_reason=_FINISH), least=1
        ),
        usage=_USAGE,
    ),
    "/v1/embeddings": _object(
        ("object", "data", "model", "usage"),
        object={"const": "list"},
        data=_list_of(_object(("object", "index", "embedding"), index=COUNT)),
        usage=_USAGE,
    ),
    "/v1/rerank": _object(
        ("id", "model", "results", "usage"),
        results=_list_of(
            _object(("index", "relevance_score"), index=COUNT, relevance_score={"type": "number"})
        ),
        usage=_USAGE,
    ),
    "/v1/responses": _object(
        ("id", "object", "created_at", "status", "output", "usage"),
        object={"const": "response"},
        status={"enum": ["completed", "incomplete"]},
        output=_list_of(_object(("type", "id"))),
    ),
    "/v1/messages": _object(
        ("id", "type", "role", "content", "model", "stop_reason", "usage"),
        type={"const": "message"},
        stop_reason={"enum": ["end_turn", "max_tokens", "stop_sequence", "tool_use"]},
        content=_list_of(_object(("type",))),
    ),
    "/v2/models/{model}/infer": _object(
        ("model_name", "outputs"), model_name=TEXT, outputs=_list_of(_ref("OipTensor"))
    ),
    "/v2/models/{model}/generate": _TEXT_OUTPUT,
    "/v2/models/{model}/generate_stream": _TEXT_OUTPUT,
    "/v2/repository/index": _list_of(
        _object(("name", "version", "state", "reason"), name=TEXT, version=TEXT, state=TEXT, reason=TEXT)
    ),
}
"""What is answered with 200; a path that is missing here has an empty answer."""

PAGES: dict[str, tuple[str, Json]] = {
    "/v1/models": ("List the models (OpenAI)", _ref("OpenaiModels")),
    "/v1/models/{name}": ("Describe one model (OpenAI)", _ref("OpenaiModel")),
    "/v2": ("Describe the server (Open Inference Protocol)", _object(("name", "version", "extensions"))),
    "/v2/health/live": ("Whether the process lives (Open Inference Protocol)", _object(("live",))),
    "/v2/health/ready": ("Whether calls are taken (Open Inference Protocol)", _object(("ready",))),
    "/v2/models/{model}": (
        "Describe what a model takes and gives (Open Inference Protocol)",
        _object(("name", "versions", "platform", "inputs", "outputs")),
    ),
    "/v2/models/{model}/config": (
        "Describe a model in Triton's form (Open Inference Protocol)",
        _object(
            ("name", "platform", "backend", "max_batch_size", "input", "output"),
            input=_list_of(_ref("OipPort")),
            output=_list_of(_ref("OipPort")),
        ),
    ),
    "/v2/models/{model}/stats": ("What the gateway counted of a model (Triton's statistics)", _STATISTICS),
    "/v2/models/stats": ("What the gateway counted of every model (Triton's statistics)", _STATISTICS),
    "/v2/models/{model}/ready": (
        "Whether a model takes calls (Open Inference Protocol)",
        _object(("name", "ready")),
    ),
}
"""What is asked by GET: a summary, and the schema of the answer."""

_OPENAI_MODEL = _object(
    ("id", "object", "created", "owned_by"),
    id=TEXT,
    object={"const": "model"},
    created=COUNT,
    owned_by=TEXT,
)
SCHEMAS: dict[str, Json] = {
    "OpenaiError": _object(
        ("error",),
        error=_object(
            ("message", "type", "param", "code"),
            message=TEXT,
            type=TEXT,
            param=NULLABLE_TEXT,
            code=NULLABLE_TEXT,
        ),
    ),
    "AnthropicError": _object(
        ("type", "error", "request_id"),
        type={"const": "error"},
        error=_object(("type", "message"), type=TEXT, message=TEXT),
        request_id=TEXT,
    ),
    "OipError": _object(("error",), error=TEXT),
    "OipTensor": _object(("name", "datatype", "shape"), name=TEXT, datatype=TEXT, shape=_list_of(COUNT)),
    "OipPort": _object(
        ("name", "data_type", "dims"),
        name=TEXT,
        data_type={"type": "string", "pattern": "^TYPE_[A-Z0-9]+$"},
        dims=_list_of({"type": "integer"}),
    ),
    "OpenaiModel": _OPENAI_MODEL,
    "OpenaiModels": _object(("object", "data"), object={"const": "list"}, data=_list_of(_ref("OpenaiModel"))),
}


def error_schema(path: str) -> str:
    """The name of the schema of a path's errors."""
    if path.startswith("/v2"):
        return "OipError"
    return "AnthropicError" if path == "/v1/messages" else "OpenaiError"
