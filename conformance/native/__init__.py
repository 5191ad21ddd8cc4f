"""The suite of the mesh's own protocol: inference_mesh.v1.InferenceService and grpc.health.v1.

The modules register their checks as they are imported, in the order of the report.
"""

from conformance.native import health, models, generation, streams, texts, refusals  # isort: skip
from conformance.native.server import NATIVE

__all__ = ["NATIVE", "generation", "health", "models", "refusals", "streams", "texts"]
