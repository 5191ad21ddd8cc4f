"""How answers are printed: text as it is, vectors and tensors in short, or all as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from inference_mesh import strict_json
from inference_mesh.json_payload import output_to_json, timing_to_json, usage_to_json
from inference_mesh.tensors import to_array
from inference_mesh.v1 import inference_pb2, payload_pb2

SHOWN_NUMBERS = 4


def answer_json(answer: inference_pb2.InferResponse) -> str:
    """The whole answer in the form of `POST /api/infer`."""
    return _dumps(
        {
            "id": answer.request_id,
            "model": answer.model,
            "version": answer.version,
            "output": output_to_json(answer.output),
            "usage": usage_to_json(answer.usage),
            "timing": timing_to_json(answer.timing),
        }
    )


def piece_json(piece: inference_pb2.InferStreamResponse) -> str:
    """One piece of a stream; the last has usage and timing."""
    document: dict[str, Any] = {"output": output_to_json(piece.output)}
    if piece.HasField("usage"):
        document |= {"usage": usage_to_json(piece.usage), "timing": timing_to_json(piece.timing)}
    return _dumps(document)


def answer_text(output: payload_pb2.Output) -> str:
    """The answer for a person."""
    kind = output.WhichOneof("kind")
    if kind == "generate":
        return "\n\n".join(_generated(one) for one in (output.generate, *output.generate.others))
    if kind == "embed":
        return "\n".join(_vectors(output.embed))
    if kind == "tensors":
        return "\n".join(_tensor(tensor) for tensor in output.tensors.tensors)
    if kind == "classify":
        return "\n".join(_labels(result) for result in output.classify.results)
    if kind == "rerank":
        return "\n".join(f"{item.score:.4f}  document {item.index}" for item in output.rerank.documents)
    return output.json.decode(errors="replace")


def vectors_of(embeddings: payload_pb2.Embeddings) -> np.ndarray[Any, np.dtype[np.float32]]:
    """float32 (texts, dimensions)."""
    return np.frombuffer(embeddings.values, dtype="<f4").reshape(-1, max(1, embeddings.dimensions))


def _generated(generated: payload_pb2.Generated) -> str:
    """The text, and each call on a line of its own."""
    calls = [f"{call.name}({call.arguments})" for call in generated.tool_calls]
    return "\n".join([generated.text, *calls] if generated.text else calls)


def _vectors(embeddings: payload_pb2.Embeddings) -> Iterable[str]:
    for vector in vectors_of(embeddings):
        first = ", ".join(f"{number:.4f}" for number in vector[:SHOWN_NUMBERS])
        more = ", …" if len(vector) > SHOWN_NUMBERS else ""
        yield f"[{first}{more}]  {len(vector)} numbers, length {np.linalg.norm(vector):.4f}"


def _tensor(tensor: payload_pb2.Tensor) -> str:
    values = np.array2string(to_array(tensor), precision=4, threshold=32, separator=", ")
    return f"{tensor.name} {tensor.datatype} {list(tensor.shape)}: {values}"


def _labels(result: payload_pb2.LabelScores) -> str:
    return ", ".join(f"{one.label} {one.score:.4f}" for one in result.labels)


def _dumps(document: object) -> str:
    return strict_json.dumps(document).decode()
