"""The suite of the Open Inference Protocol v2 over gRPC, with Triton's extensions.

The modules register their checks as they are imported, in the order of the report. What the
protocol does not demand (streams, the repository, configuration, statistics) is skipped where a
server has it not.
"""

from conformance.oip_grpc import (  # isort: skip
    health,
    metadata,
    inference,
    contents,
    refusals,
    streams,
    extensions,
)
from conformance.oip_grpc.server import OIP_GRPC

__all__ = [
    "OIP_GRPC",
    "contents",
    "extensions",
    "health",
    "inference",
    "metadata",
    "refusals",
    "streams",
]
