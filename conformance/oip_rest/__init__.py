"""The suite of the Open Inference Protocol v2 over REST, with Triton's extensions.

The modules register their checks as they are imported, in the order of the report. What the
protocol does not demand (versions, bytes after the JSON, generate) is skipped where a server has it not.
"""

from conformance.oip_rest import (  # isort: skip
    health,
    metadata,
    inference,
    binary,
    refusals,
    generate,
)
from conformance.oip_rest.server import OIP_REST

__all__ = ["OIP_REST", "binary", "generate", "health", "inference", "metadata", "refusals"]
