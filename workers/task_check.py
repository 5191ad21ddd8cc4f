"""Whether a payload is of the kind that a model takes. Pure.

The ranges of a payload's fields are the engine's to judge: they follow from the model.
"""

from __future__ import annotations

from inference_mesh.errors import InvalidInputError, PayloadMismatchError
from inference_mesh.json_payload import task_name
from inference_mesh.v1 import inference_pb2, payload_pb2


def check_kind(payload: payload_pb2.Payload, model: inference_pb2.Model) -> None:
    """Raises InvalidInputError for a payload without a kind, PayloadMismatchError for a wrong one."""
    kind = payload.WhichOneof("kind")
    allowed = kinds_of(model)
    if kind is None:
        raise InvalidInputError(f"payload: is missing; this model takes {' or '.join(allowed)}")
    if kind not in allowed:
        raise PayloadMismatchError(f"payload: is {kind}; this model takes {' or '.join(allowed)}")


def kinds_of(model: inference_pb2.Model) -> tuple[str, ...]:
    """The kinds of payload that a model takes: its task's, and tensors if its inputs are named."""
    task = task_name(model.task)
    return (task, "tensors") if model.inputs and task != "tensors" else (task,)
