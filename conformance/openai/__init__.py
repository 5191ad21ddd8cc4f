"""The suite of OpenAI's REST API: models, chat, streams, completions, embeddings and errors.

The modules register their checks as they are imported, in the order of the report. What the API
leaves to the server (tools, schemas, token ids, several choices) is skipped where it is refused by name.
"""

from conformance.openai import (  # isort: skip
    models,
    chat,
    streaming,
    structure,
    completions,
    embeddings,
    errors,
)
from conformance.openai.server import OPENAI

__all__ = [
    "OPENAI",
    "chat",
    "completions",
    "embeddings",
    "errors",
    "models",
    "streaming",
    "structure",
]
