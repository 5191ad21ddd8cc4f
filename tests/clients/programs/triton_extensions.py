"""Triton's extensions and every datatype, with its Python clients; prints what came of it as JSON.

Arguments: the bridge, the gateway, and a key that may load models.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton_http
from tritonclient.utils import InferenceServerException

FLOWER = np.array([[5.1, 3.5, 1.4, 0.2]], dtype=np.float32)
# Texts, as the strings of ONNX are.
TEXTS = np.array([[b"", '\u00fc\t"\\\n'.encode()]], dtype=object)


def arrays() -> dict[str, Any]:
    """For each datatype an array of (1, 2): the ends of its range, or what is hard to write."""
    found: dict[str, Any] = {"BOOL": np.array([[True, False]])}
    for bits in (8, 16, 32, 64):
        for kind in ("int", "uint"):
            ends = np.iinfo(f"{kind}{bits}")
            found[f"{kind.upper()}{bits}"] = np.array([[ends.min, ends.max]], dtype=f"{kind}{bits}")
    for bits in (16, 32, 64):
        ends = np.finfo(f"float{bits}")
        found[f"FP{bits}"] = np.array([[ends.tiny, -ends.max]], dtype=f"float{bits}")
    return {**found, "BYTES": TEXTS}


def is_same(sent: Any, got: Any) -> bool:
    """Whether the same values came back; texts count as their UTF-8."""
    if got is None or got.shape != sent.shape:
        return False
    if sent.dtype == object:
        as_bytes = [one.encode() if isinstance(one, str) else one for one in sent.reshape(-1)]
        back = [one.encode() if isinstance(one, str) else one for one in got.reshape(-1)]
        return as_bytes == back
    return bool(got.dtype == sent.dtype and np.array_equal(got, sent))


def wrong_by_grpc(client: Any, headers: dict[str, str]) -> list[str]:
    """The datatypes that do not come back as they were sent."""
    sent, inputs = arrays(), []
    for name, array in sent.items():
        inputs.append(triton_grpc.InferInput(name.lower(), array.shape, name))
        inputs[-1].set_data_from_numpy(array)
    result = client.infer("every-type", inputs, headers=headers)
    return [name for name in sent if not is_same(sent[name], result.as_numpy(f"{name.lower()}_back"))]


def wrong_by_http(client: Any, headers: dict[str, str], *, is_binary: bool) -> list[str]:
    """The same; FP16 has no form in JSON, and goes as bytes."""
    sent = arrays()
    inputs, outputs = [], []
    for name, array in sent.items():
        as_bytes = is_binary or name == "FP16"
        inputs.append(triton_http.InferInput(name.lower(), array.shape, name))
        inputs[-1].set_data_from_numpy(array, binary_data=as_bytes)
        outputs.append(triton_http.InferRequestedOutput(f"{name.lower()}_back", binary_data=as_bytes))
    result = client.infer("every-type", inputs, outputs=outputs, headers=headers)
    return [name for name in sent if not is_same(sent[name], result.as_numpy(f"{name.lower()}_back"))]


def managed(client: Any, form: Any, headers: dict[str, str], **as_json: Any) -> dict[str, Any]:
    """What a client's calls beside inference give. form: the module of the client."""
    terms = {"headers": headers, **as_json}
    features = form.InferInput("features", [1, 4], "FP32")
    features.set_data_from_numpy(FLOWER)
    client.load_model("iris", headers=headers)
    before = client.get_inference_statistics("iris", **terms)["model_stats"][0]
    client.infer("iris", [features], headers=headers)
    after = client.get_inference_statistics("iris", **terms)["model_stats"][0]
    client.unload_model("iris", headers=headers)
    refused = {}
    for what, ask in (
        ("load with a configuration", lambda: client.load_model("iris", headers=headers, config="{}")),
        ("unload of nobody", lambda: client.unload_model("nobody", headers=headers)),
        ("configuration of nobody", lambda: client.get_model_config("nobody", headers=headers)),
        ("statistics of nobody", lambda: client.get_inference_statistics("nobody", headers=headers)),
    ):
        try:
            ask()
        except InferenceServerException as error:
            refused[what] = error.status()
    return {
        "server": client.get_server_metadata(**terms),
        "config": client.get_model_config("iris", **terms),
        "before": before,
        "after": after,
        "every": [one["name"] for one in client.get_inference_statistics(**terms)["model_stats"]],
        "index": client.get_model_repository_index(**terms),
        "refused": refused,
    }


def main() -> None:
    """Ask the bridge of the first argument and the gateway of the second, both host:port."""
    key = {"x-api-key": sys.argv[3]}
    headers = dict(key)  # of gRPC: the client for HTTP writes into the headers that it is given
    by_http = triton_http.InferenceServerClient(sys.argv[1].removeprefix("http://"))
    by_grpc = triton_grpc.InferenceServerClient(sys.argv[2])
    found = {
        "http": managed(by_http, triton_http, dict(key)),
        "grpc": managed(by_grpc, triton_grpc, headers, as_json=True),
        "wrong": {
            "grpc": wrong_by_grpc(by_grpc, headers),
            "http binary": wrong_by_http(by_http, dict(key), is_binary=True),
            "http json": wrong_by_http(by_http, dict(key), is_binary=False),
        },
        "types": list(arrays()),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
