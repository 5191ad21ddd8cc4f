"""JSON Schemas of what the bridge takes and gives, for its OpenAPI document."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
TEXTS: Schema = {
    "type": "array",
    "items": {"type": "string", "minLength": 1},
    "minItems": 1,
    "maxItems": 2048,
}
COUNT: Schema = {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}
FUNCTION_NAME: Schema = {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"}
SECONDS: Schema = {"type": "number", "minimum": 0}
DATATYPES = [
    "BOOL",
    "INT8",
    "INT16",
    "INT32",
    "INT64",
    "UINT8",
    "UINT16",
    "UINT32",
    "UINT64",
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
]


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    """A closed object."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return schema | {"required": list(required)} if required else schema


def _answer(required: tuple[str, ...], **properties: Schema) -> Schema:
    """An object of an answer: clients must bear fields that later versions add."""
    return {"type": "object", "properties": properties, "required": list(required)}


def _list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _number(low: float, high: float) -> Schema:
    return {"type": "number", "minimum": low, "maximum": high}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


GENERATE_OPTIONS: dict[str, Schema] = {
    "max_tokens": COUNT | {"description": "Longest answer in tokens; 0 = the model's default."},
    "temperature": _number(0, 2),
    "top_k": COUNT,
    "top_p": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "min_p": _number(0, 1),
    "repetition_penalty": {"type": "number", "exclusiveMinimum": 0, "maximum": 2},
    "frequency_penalty": _number(-2, 2),
    "presence_penalty": _number(-2, 2),
    "seed": COUNT,
    "logit_bias": {
        "type": "object",
        "description": "Token id to number.",
        "propertyNames": {"pattern": "^[0-9]{1,9}$"},
        "additionalProperties": _number(-100, 100),
        "maxProperties": 300,
    },
    "stop": {
        "description": "Texts that end the answer.",
        "oneOf": [{"type": "string", "minLength": 1}, {**TEXTS, "maxItems": 16}],
    },
    "json_schema": {"type": "object", "description": "JSON Schema that the answer must match."},
    "grammar": {
        "type": "string",
        "maxLength": 65536,
        "description": "Grammar in llama.cpp's GBNF that the answer must match, from its rule root on.",
    },
    "n": {"type": "integer", "minimum": 0, "maximum": 16, "description": "Answers to the one prompt; 0 = 1."},
    "top_logprobs": {
        "type": "integer",
        "minimum": 0,
        "maximum": 20,
        "description": "Tell each token's log probability, and so many of the most probable in its place.",
    },
    "tools": {
        "type": "array",
        "items": _ref("Tool"),
        "maxItems": 128,
        "description": "Functions that the model may call; with messages only.",
    },
    "tool_choice": {
        "description": "Whether it must call one; {name} = this one.",
        "anyOf": [
            {"type": "string", "enum": ["auto", "none", "required"]},
            _object(("name",), name=FUNCTION_NAME),
        ],
    },
    "delivered_tokens": _list_of(COUNT),
}

TOOL = _object(
    ("name",),
    name=FUNCTION_NAME,
    description=TEXT,
    parameters={"type": "object", "description": "JSON Schema of the arguments."},
)

TOOL_CALL = _object(
    ("name", "arguments"),
    id=TEXT,
    name=FUNCTION_NAME,
    arguments={"type": "string", "description": "An object as JSON text."},
)

_TOLD: dict[str, Schema] = {"token": COUNT, "text": TEXT, "logprob": {"type": "number", "maximum": 0}}
TOKEN_LOGPROB = _answer(
    ("token", "text", "logprob", "top"), **_TOLD, top=_list_of(_answer(("token", "text", "logprob"), **_TOLD))
)

MESSAGE = _object(
    ("role", "content"),
    role={"type": "string", "enum": ["system", "user", "assistant", "tool"]},
    content=TEXT,
    tool_calls=_list_of(_ref("ToolCall")),
    tool_call_id={"type": "string", "maxLength": 256},
)

TENSOR = _object(
    ("name", "datatype", "shape", "data"),
    name=TEXT,
    datatype={"type": "string", "enum": DATATYPES},
    shape=_list_of({"type": "integer", "minimum": 0}),
    data={"type": "array", "description": "Row-major; flat or nested."},
)

TENSOR_SPEC = _answer(
    ("name", "datatype", "shape"),
    name=TEXT,
    datatype=TEXT,
    shape=_list_of({"type": "integer", "minimum": -1}),
)

TRUNCATE: Schema = {"type": "boolean"}
EMBED_OPTIONS: dict[str, Schema] = {
    "dimensions": COUNT,
    "truncate": TRUNCATE,
    "prompt_name": {"type": "string"},
}

PAYLOADS: dict[str, Schema] = {
    "GeneratePrompt": _object(("prompt",), prompt=TEXT, **GENERATE_OPTIONS),
    "GenerateChat": _object(
        ("messages",), messages={"type": "array", "items": _ref("Message"), "minItems": 1}, **GENERATE_OPTIONS
    ),
    "GenerateTokens": _object(
        ("tokens",), tokens={"type": "array", "items": COUNT, "minItems": 1}, **GENERATE_OPTIONS
    ),
    "EmbedText": _object(("text",), text={"type": "string", "minLength": 1}, **EMBED_OPTIONS),
    "EmbedTexts": _object(("texts",), texts=TEXTS, **EMBED_OPTIONS),
    "Rerank": _object(
        ("query", "documents"),
        query={"type": "string", "minLength": 1},
        documents=TEXTS,
        top_n=COUNT,
        truncate=TRUNCATE,
    ),
    "ClassifyText": _object(
        ("text",), text={"type": "string", "minLength": 1}, top_k=COUNT, truncate=TRUNCATE
    ),
    "ClassifyTexts": _object(("texts",), texts=TEXTS, top_k=COUNT, truncate=TRUNCATE),
    "Tensors": _object(
        ("inputs",), inputs={"type": "array", "items": _ref("Tensor"), "minItems": 1}, outputs=_list_of(TEXT)
    ),
}

PAYLOAD: Schema = {
    "description": (
        "By the model's task: generate, embed, rerank, classify, tensors; any JSON for task json. "
        "A bare text is a prompt, or a text to embed or classify."
    ),
    "anyOf": [{"type": "string", "minLength": 1}, *(_ref(name) for name in PAYLOADS)],
}

OUTPUTS: dict[str, Schema] = {
    "Generated": _answer(
        ("text",),
        text=TEXT,
        index={**COUNT, "description": "Which of the n answers; absent = the first."},
        tool_calls=_list_of(_ref("ToolCall")),
        logprobs=_list_of(_ref("TokenLogprob")),
        others=_list_of({"type": "object", "description": "The answers after the first."}),
        stop_text={"type": "string", "description": "Which text of stop ended it."},
        finish_reason={"type": "string", "enum": ["stop", "length", "tool_calls"]},
        length_reason={
            "type": "string",
            "enum": ["max_tokens", "context", "clamp", "token_budget"],
            "description": "Which limit ended the answer.",
        },
    ),
    "Embeddings": _answer(("embeddings",), embeddings=_list_of(_list_of({"type": "number"}))),
    "Ranking": _answer(
        ("documents",), documents=_list_of(_answer(("index", "score"), index=COUNT, score={"type": "number"}))
    ),
    "Classifications": _answer(
        ("results",),
        results=_list_of(_list_of(_answer(("label", "score"), label=TEXT, score={"type": "number"}))),
    ),
    "TensorOutputs": _answer(("outputs",), outputs=_list_of(_ref("Tensor"))),
}

SCHEMAS: dict[str, Schema] = {
    "InferRequest": _object(
        ("model", "payload"),
        model={"type": "string", "minLength": 1, "maxLength": 256, "description": "Name or alias."},
        payload=PAYLOAD,
        version={"type": "string", "maxLength": 256, "description": "Empty = the registry's choice."},
        stream={"type": "boolean", "default": False},
        id={
            "type": "string",
            "pattern": "^[!-~]{1,128}$",
            "description": "Id of the request; wins over x-request-id.",
        },
    ),
    "InferAnswer": _answer(
        ("id", "model", "version", "output", "usage", "timing"),
        id=TEXT,
        model=TEXT,
        version=TEXT,
        output={
            "description": "Of the payload's kind; any JSON for task json.",
            "anyOf": [*(_ref(name) for name in OUTPUTS), {}],
        },
        usage=_ref("Usage"),
        timing=_ref("Timing"),
    ),
    "Usage": _answer(
        ("prompt_tokens", "completion_tokens"),
        prompt_tokens=COUNT,
        completion_tokens=COUNT,
        cached_tokens=COUNT,
        response_cached={
            "type": "boolean",
            "description": "True: the whole answer was kept from an earlier call, and no budget was charged.",
        },
    ),
    "Timing": _answer(("queue_s", "compute_s"), queue_s=SECONDS, compute_s=SECONDS, first_token_s=SECONDS),
    "Models": _answer(("models",), models=_list_of(_ref("Model"))),
    "Model": _answer(
        ("name", "version", "task", "aliases", "ready", "runtime"),
        name=TEXT,
        version=TEXT,
        task={
            "type": "string",
            "enum": ["unspecified", "generate", "embed", "rerank", "classify", "tensors", "json"],
        },
        aliases=_list_of(TEXT),
        ready={"type": "boolean"},
        runtime=TEXT,
        max_tokens=COUNT,
        slots={**COUNT, "description": "Requests that one replica works on at once."},
        dimensions=COUNT,
        inputs=_list_of(_ref("TensorSpec")),
        outputs=_list_of(_ref("TensorSpec")),
    ),
    "Error": _answer(
        ("error",),
        error=_answer(
            ("code", "message", "request_id"),
            code={"type": "string", "description": "Name of the gRPC code."},
            message=TEXT,
            request_id=TEXT,
            retry_after_s=SECONDS,
            quota={
                **_list_of(_answer(("subject", "description"), subject=TEXT, description=TEXT)),
                "description": "The limits that were reached, the first one first.",
            },
            delivered_tokens={**COUNT, "description": "In an error event: tokens that were sent before it."},
        ),
    ),
    "Health": _answer(("status",), status={"const": "ok"}),
    "Readiness": _answer(
        ("ready", "detail"),
        ready={"type": "boolean"},
        detail={"type": "object", "additionalProperties": TEXT},
    ),
    "Message": MESSAGE,
    "Tool": TOOL,
    "ToolCall": TOOL_CALL,
    "TokenLogprob": TOKEN_LOGPROB,
    "Tensor": TENSOR,
    "TensorSpec": TENSOR_SPEC,
    **PAYLOADS,
    **OUTPUTS,
}
