"""The OpenAPI 3.1 document of the bridge, at /openapi.json.

Owns how the routes are described; a test holds it against the routes. Schemas of payloads
and outputs are `openapi_schemas`'.
"""

from __future__ import annotations

from typing import Any

from inference_mesh.installed_version import installed_version
from rest_bridge import openapi_dialects
from rest_bridge.openapi_schemas import SCHEMAS

Json = dict[str, Any]

ERRORS = {
    400: "The request is wrong; the message names the field and what is allowed.",
    401: "No credential, or not a valid one.",
    403: "The key lacks the scope that the call needs.",
    404: "No such model or version that the caller may use.",
    408: "The body did not arrive in time.",
    413: "The body is larger than the limit.",
    415: "The content type is not application/json.",
    429: "Too many requests, or the model's queue is full; retry_after_s says when to come back.",
    431: "The head of the request is larger than the limit.",
    499: "The call was cancelled before the answer was complete.",
    500: "A fault of the mesh; the log has it under the request's id.",
    501: "This model or the service behind it cannot do that.",
    503: "Nobody can answer now; retry.",
    504: "The deadline passed before the answer was complete.",
}
ANSWER_HEADERS = {
    "x-request-id": "RequestId",
    "x-mesh-decision": "Decision",
    "x-mesh-cache": "Cache",
    "ratelimit-policy": "RateLimitPolicy",
    "ratelimit": "RateLimit",
}
READING_ERRORS = (400, 401, 403, 404, 429, 431, 499, 500, 501, 503, 504)

INFER_EXAMPLES: Json = {
    "prompt": {"value": {"model": "tiny-chat", "payload": {"prompt": "Once upon a time", "max_tokens": 32}}},
    "chat": {
        "value": {
            "model": "tiny-chat",
            "payload": {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 32},
            "stream": True,
        }
    },
    "embeddings": {"value": {"model": "minilm", "payload": {"texts": ["a cat", "a dog"]}}},
}


def document() -> Json:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Inference mesh",
            "version": installed_version(),
            "description": "Many local models behind one API: JSON over HTTP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}, {"apiKey": []}, {}],
        "paths": {
            "/api/infer": {"post": _infer()},
            "/api/models": {"get": _list_models()},
            "/api/models/{name}": {"get": _get_model()},
            **{path: {"post": _dialect(path)} for path in openapi_dialects.REQUESTS},
            **{path: {"get": _dialect_page(path)} for path in openapi_dialects.PAGES},
            "/healthz": {"get": _operation("Whether the process lives", _answer("It does.", "Health"), {})},
            "/readyz": {"get": _readyz()},
            "/metrics": {"get": _metrics()},
        },
        "components": {
            "schemas": {**SCHEMAS, **openapi_dialects.SCHEMAS},
            "headers": _headers(),
            "parameters": _parameters(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "authorization: Bearer mesh_…"},
                "apiKey": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


def _infer() -> Json:
    answer = _answer('The whole result; events if the body says "stream": true.', "InferAnswer")
    answer["content"]["text/event-stream"] = {
        "schema": {"description": "Server-sent events, each with a JSON object as its data."},
        "example": 'data: {"output": {"text": "Once"}}\n\ndata: [DONE]\n\n',
    }
    operation = _operation("Run one request on a model", answer, _errors(*ERRORS), _parameter_refs())
    operation["operationId"] = "infer"
    operation["tags"] = ["inference"]
    operation["description"] = (
        'The form of `payload` follows from the model\'s task. With `"stream": true` the answer is a '
        "stream of server-sent events: one for each piece, the last with finish_reason, usage and "
        "timing, then `data: [DONE]`. A stream that breaks ends with `event: error` and no `[DONE]`."
    )
    operation["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": _ref("InferRequest"), "examples": INFER_EXAMPLES}},
    }
    return operation


def _list_models() -> Json:
    answer = _answer("Sorted by name.", "Models")
    operation = _operation(
        "List the models that the caller may use", answer, _errors(*READING_ERRORS), _parameter_refs()
    )
    return operation | {"operationId": "listModels", "tags": ["models"]}


def _get_model() -> Json:
    parameters = [
        *_parameter_refs(),
        _path_parameter("name"),
        {
            "name": "version",
            "in": "query",
            "description": "Version; absent = the one that the registry chooses.",
            "schema": {"type": "string"},
        },
    ]
    answer = _answer("The model.", "Model")
    operation = _operation("Describe one model", answer, _errors(*READING_ERRORS), parameters)
    return operation | {"operationId": "getModel", "tags": ["models"]}


def _path_parameter(name: str) -> Json:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": "Name or alias.",
        "schema": {"type": "string", "minLength": 1},
    }


def _dialect(path: str) -> Json:
    """An operation of a foreign dialect."""
    answer = _answer("The answer.", "Error")
    if path in openapi_dialects.ANSWERS:
        answer["content"]["application/json"]["schema"] = openapi_dialects.ANSWERS[path]
    else:
        del answer["content"]
    if path in openapi_dialects.STREAMED:
        answer["content"]["text/event-stream"] = {
            "schema": {"description": 'Server-sent events, if the body says "stream": true.'}
        }
    errors = _errors(*ERRORS, schema=openapi_dialects.error_schema(path))
    parameters = [*_parameter_refs(), *_path_parameters(path)]
    operation = _operation(openapi_dialects.SUMMARIES[path], answer, errors, parameters)
    operation["tags"] = ["dialects"]
    operation["requestBody"] = {
        "required": path not in openapi_dialects.BODY_IS_OPTIONAL,
        "content": {
            "application/json": {
                "schema": openapi_dialects.REQUESTS[path],
                "example": openapi_dialects.EXAMPLES[path],
            }
        },
    }
    return operation


def _dialect_page(path: str) -> Json:
    """An operation of a foreign dialect that is asked by GET."""
    summary, schema = openapi_dialects.PAGES[path]
    answer = _answer("The answer.", "Error")
    answer["content"]["application/json"]["schema"] = schema
    errors = _errors(*READING_ERRORS, schema=openapi_dialects.error_schema(path))
    if path.endswith("ready"):
        errors["503"] = _answer("It does not.", "Error")
        errors["503"]["content"]["application/json"]["schema"] = {}
    operation = _operation(summary, answer, errors, [*_parameter_refs(), *_path_parameters(path)])
    return operation | {"tags": ["dialects"]}


def _path_parameters(path: str) -> list[Json]:
    return [_path_parameter(name) for name in ("name", "model") if f"{{{name}}}" in path]


def _readyz() -> Json:
    not_ready = {"503": _answer("It cannot; `detail` says why.", "Readiness")}
    return _operation("Whether the process can serve", _answer("It can.", "Readiness"), not_ready)


def _metrics() -> Json:
    text = {"description": "Metrics.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    return _operation("Metrics in Prometheus' text format", text, {})


def _operation(summary: str, answer: Json, errors: Json, parameters: list[Json] | None = None) -> Json:
    """An operation; without parameters it is one of the process, open to everybody."""
    operation: Json = {"summary": summary, "responses": {"200": answer, **errors}}
    if parameters is None:
        return operation | {"security": [], "tags": ["operations"]}
    return operation | {"parameters": parameters}


def _answer(description: str, schema: str) -> Json:
    return {
        "description": description,
        "headers": {name: {"$ref": f"#/components/headers/{key}"} for name, key in ANSWER_HEADERS.items()},
        "content": {"application/json": {"schema": _ref(schema)}},
    }


def _errors(*statuses: int, schema: str = "Error") -> Json:
    answers = {str(status): _answer(ERRORS[status], schema) for status in statuses}
    for status in ("429", "503"):
        answers[status]["headers"]["retry-after"] = {"$ref": "#/components/headers/RetryAfter"}
        answers[status]["headers"]["retry-after-ms"] = {"$ref": "#/components/headers/RetryAfterMs"}
    return answers


def _headers() -> Json:
    return {
        "RequestId": {"description": "Id of the request.", "schema": {"type": "string"}},
        "RetryAfter": {
            "description": "Whole seconds after which to come back, at most 120; the body has the true hint.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "RetryAfterMs": {
            "description": "The same in milliseconds.",
            "schema": {"type": "integer", "minimum": 0, "maximum": 120_000},
        },
        "Decision": {
            "description": "How the call was decided: model, version, rule, wait and limits.",
            "schema": {"type": "string"},
        },
        "Cache": {
            "description": "Whether the answer was kept from an earlier call; for models that keep answers.",
            "schema": {"type": "string", "enum": ["hit", "miss"]},
        },
        "RateLimitPolicy": {
            "description": "The caller's limits (draft-ietf-httpapi-ratelimit-headers).",
            "schema": {"type": "string"},
        },
        "RateLimit": {
            "description": "What is left of each limit, and the seconds until all of it is there again; the "
            "same as x-ratelimit-{limit,remaining,reset}-{requests,tokens} for the tightest.",
            "schema": {"type": "string"},
        },
    }


def _parameters() -> Json:
    return {
        "RequestId": {
            "name": "x-request-id",
            "in": "header",
            "description": "Id of the request, returned unchanged; absent = made here.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[!-~]{1,128}$"},
        },
        "RequestTimeout": {
            "name": "x-request-timeout",
            "in": "header",
            "description": "Seconds after which the caller no longer wants the answer.",
            "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600, "default": 300},
        },
    }


def _parameter_refs() -> list[Json]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in _parameters()]


def _ref(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
