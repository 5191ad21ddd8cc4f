"""What Triton's documentation shows first, with its Python clients; prints what came of it as JSON."""

from __future__ import annotations

import json
import queue
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http

FLOWER = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
TEXTS = np.array([b"a cat", b"a dog"], dtype=object)
PROMPT = np.array([b"Once upon"], dtype=object)
TERMS = {"max_tokens": 8, "temperature": 0.0}


def by_http(address: str) -> dict[str, Any]:
    """Health, metadata, tensors in JSON and in bytes, texts."""
    client = triton_http.InferenceServerClient(address)
    found = {}
    for name, is_binary in (("json", False), ("binary", True)):
        features = triton_http.InferInput("features", [1, 4], "FP32")
        features.set_data_from_numpy(FLOWER, binary_data=is_binary)
        wanted = [triton_http.InferRequestedOutput("label", binary_data=is_binary)]
        result = client.infer("iris", [features], outputs=wanted, request_id="q")
        found[name] = result.as_numpy("label").tolist()
    texts = triton_http.InferInput("text_input", [2], "BYTES")
    texts.set_data_from_numpy(TEXTS)
    prompt = triton_http.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(PROMPT)
    text = client.infer("tiny-chat", [prompt], parameters=TERMS).as_numpy("text_output")
    return {
        **found,
        "text": text[0].decode(),
        "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("iris")],
        "metadata": client.get_model_metadata("iris")["inputs"],
        "vectors": list(client.infer("minilm", [texts]).as_numpy("embedding").shape),
    }


def by_grpc(address: str) -> dict[str, Any]:
    """The same, and a stream of a text model."""
    client = triton_grpc.InferenceServerClient(address)
    features = triton_grpc.InferInput("features", [1, 4], "FP32")
    features.set_data_from_numpy(FLOWER)
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    prompt = triton_grpc.InferInput("text_input", [1], "BYTES")
    prompt.set_data_from_numpy(PROMPT)
    client.async_stream_infer("tiny-chat", [prompt], parameters=TERMS)
    text = b""
    while True:
        result, error = answers.get(timeout=30)
        if error is not None:
            raise error
        text += result.as_numpy("text_output")[0]
        if result.get_response().parameters["triton_final_response"].bool_param:
            break
    client.stop_stream()
    texts = triton_grpc.InferInput("text_input", [2], "BYTES")
    texts.set_data_from_numpy(TEXTS)
    vectors = client.infer("minilm", [texts]).as_numpy("embedding")
    try:
        client.infer("nobody", [features])
        status = ""
    except triton_grpc.InferenceServerException as raised:
        status = raised.status()
    return {
        "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready("iris")],
        "label": client.infer("iris", [features]).as_numpy("label").tolist(),
        "metadata": client.get_model_metadata("iris", as_json=True)["inputs"][0]["name"],
        "stream": text.decode(),
        "text": client.infer("tiny-chat", [prompt], parameters=TERMS).as_numpy("text_output")[0].decode(),
        "vectors": [list(vectors.shape), str(vectors.dtype)],
        "unknown": status,
    }


def main() -> None:
    """Ask the bridge of the first argument and the gateway of the second, both host:port."""
    print(json.dumps({"http": by_http(sys.argv[1].removeprefix("http://")), "grpc": by_grpc(sys.argv[2])}))


if __name__ == "__main__":
    main()
