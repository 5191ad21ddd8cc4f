"""The dialects over HTTP, and with them the list of all protocols of the matrix."""

from __future__ import annotations

from typing import Any

from tests.integration.parity.faces import (
    MAX_TOKENS,
    Face,
    Question,
    Rest,
    native_infer,
    native_stream,
    oip_infer,
    oip_stream,
    oip_stream_by_status,
)

INFER, STREAM, OIP, OIP_STREAM = "Infer", "InferStream", "ModelInfer", "ModelStreamInfer"


def _terms(question: Question, **others: Any) -> dict[str, Any]:
    return {"model": question.model, "temperature": question.temperature, **others}


def _own(question: Question) -> dict[str, Any]:
    payload = {
        "prompt": question.prompt,
        "max_tokens": MAX_TOKENS,
        "temperature": question.temperature,
    }
    return {"model": question.model, "payload": payload}


def _own_stream(question: Question) -> dict[str, Any]:
    return {**_own(question), "stream": True}


def _messages(question: Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": question.prompt}]


def _chat(question: Question) -> dict[str, Any]:
    return _terms(question, messages=_messages(question), max_tokens=MAX_TOKENS)


def _chat_stream(question: Question) -> dict[str, Any]:
    return {**_chat(question), "stream": True}


def _completion(question: Question) -> dict[str, Any]:
    return _terms(question, prompt=question.prompt, max_tokens=MAX_TOKENS)


def _completion_stream(question: Question) -> dict[str, Any]:
    return {**_completion(question), "stream": True}


def _response(question: Question) -> dict[str, Any]:
    return _terms(question, input=question.prompt, max_output_tokens=MAX_TOKENS)


def _response_stream(question: Question) -> dict[str, Any]:
    return {**_response(question), "stream": True}


def _tensors(question: Question) -> dict[str, Any]:
    text = {"name": "text_input", "datatype": "BYTES", "shape": [1], "data": [question.prompt]}
    return {"inputs": [text], "parameters": _parameters(question)}


def _generate(question: Question) -> dict[str, Any]:
    return {"text_input": question.prompt, "parameters": _parameters(question)}


def _parameters(question: Question) -> dict[str, Any]:
    return {"max_tokens": MAX_TOKENS, "temperature": question.temperature}


def _own_error(body: Any) -> tuple[str, str]:
    error = body["error"]
    assert {"code", "message", "request_id"} <= set(error)
    return str(error["message"]), str(error["code"])


def _openai_error(body: Any) -> tuple[str, str]:
    error = body["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return str(error["message"]), f"{error['type']} {error['code']}"


def _anthropic_error(body: Any) -> tuple[str, str]:
    assert body["type"] == "error"
    assert set(body["error"]) == {"type", "message"}
    return str(body["error"]["message"]), str(body["error"]["type"])


def _oip_error(body: Any) -> tuple[str, str]:
    assert isinstance(body["error"], str)
    return str(body["error"]), ""


def _tensor_text(body: Any) -> str:
    return "".join(output["data"][0] for output in body["outputs"] if output["name"] == "text_output")


def _choice_delta(event: Any) -> str:
    return "".join(choice["delta"].get("content") or "" for choice in event["choices"])


def _choice_text(event: Any) -> str:
    return "".join(choice["text"] for choice in event["choices"])


def _message_delta(event: Any) -> str:
    return str(event["delta"]["text"]) if event["type"] == "content_block_delta" else ""


def _response_delta(event: Any) -> str:
    return str(event["delta"]) if event["type"] == "response.output_text.delta" else ""


OWN = Rest("/api/infer", _own, lambda body: str(body["output"]["text"]), error_of=_own_error)
OWN_STREAM = Rest(
    "/api/infer",
    _own_stream,
    event_text=lambda event: str(event.get("output", {}).get("text", "")),
    error_of=_own_error,
)
CHAT = Rest(
    "/v1/chat/completions",
    _chat,
    lambda body: str(body["choices"][0]["message"]["content"]),
    error_of=_openai_error,
)
CHAT_STREAM = Rest("/v1/chat/completions", _chat_stream, event_text=_choice_delta, error_of=_openai_error)
COMPLETION = Rest("/v1/completions", _completion, _choice_text, error_of=_openai_error)
COMPLETION_STREAM = Rest(
    "/v1/completions", _completion_stream, event_text=_choice_text, error_of=_openai_error
)
RESPONSE = Rest(
    "/v1/responses",
    _response,
    lambda body: str(body["output"][0]["content"][0]["text"]),
    error_of=_openai_error,
)
RESPONSE_STREAM = Rest("/v1/responses", _response_stream, event_text=_response_delta, error_of=_openai_error)
MESSAGES = Rest(
    "/v1/messages",
    _chat,
    lambda body: str(body["content"][0]["text"]),
    error_of=_anthropic_error,
    key_header="x-api-key",
)
MESSAGES_STREAM = Rest(
    "/v1/messages",
    _chat_stream,
    event_text=_message_delta,
    error_of=_anthropic_error,
    key_header="x-api-key",
)
OIP_REST = Rest("/v2/models/{model}/infer", _tensors, _tensor_text, error_of=_oip_error)
GENERATE = Rest(
    "/v2/models/{model}/generate",
    _generate,
    lambda body: str(body["text_output"]),
    error_of=_oip_error,
)
GENERATE_STREAM = Rest(
    "/v2/models/{model}/generate_stream",
    _generate,
    event_text=lambda event: str(event["text_output"]),
    error_of=_oip_error,
)

FACES = (
    Face("grpc-native", INFER, native_infer),
    Face("grpc-native-stream", STREAM, native_stream),
    Face("grpc-oip", OIP, oip_infer),
    Face("grpc-oip-stream", OIP_STREAM, oip_stream),
    Face("grpc-oip-stream-by-status", OIP_STREAM, oip_stream_by_status),
    Face("rest-infer", INFER, OWN),
    Face("rest-infer-stream", STREAM, OWN_STREAM),
    Face("rest-openai-chat", INFER, CHAT),
    Face("rest-openai-chat-stream", STREAM, CHAT_STREAM),
    Face("rest-openai-completions", INFER, COMPLETION),
    Face("rest-openai-completions-stream", STREAM, COMPLETION_STREAM),
    Face("rest-openai-responses", INFER, RESPONSE),
    Face("rest-openai-responses-stream", STREAM, RESPONSE_STREAM),
    Face("rest-anthropic", INFER, MESSAGES),
    Face("rest-anthropic-stream", STREAM, MESSAGES_STREAM),
    Face("rest-oip", OIP, OIP_REST),
    Face("rest-oip-generate", INFER, GENERATE),
    Face("rest-oip-generate-stream", STREAM, GENERATE_STREAM),
)
"""Every protocol, gRPC first: the first one is what the others are compared with."""
