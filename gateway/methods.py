"""The inference methods by name: of which service each is, and its path on the wire."""

from __future__ import annotations

NATIVE_SERVICE = "inference_mesh.v1.InferenceService"
OIP_SERVICE = "inference.GRPCInferenceService"
NATIVE_METHODS = frozenset({"Infer", "InferStream"})
INFERENCE_METHODS = NATIVE_METHODS | {"ModelInfer", "ModelStreamInfer"}
"""Those that run a model."""
TWO_WAY_METHODS = frozenset({"ModelStreamInfer"})
"""Those in which the caller goes on asking."""


def path_of(method: str) -> str:
    """The path of an inference method, e.g. "/inference_mesh.v1.InferenceService/Infer"."""
    service = NATIVE_SERVICE if method in NATIVE_METHODS else OIP_SERVICE
    return f"/{service}/{method}"
