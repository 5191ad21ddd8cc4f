"""The models of a running mesh, fetched and shown."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from inference_mesh.json_payload import task_name
from inference_mesh.v1 import inference_pb2, payload_pb2
from mesh_cli.target import Access

TIMEOUT_S = 10.0


async def fetch_models(access: Access) -> list[inference_pb2.Model]:
    """The models that the caller may use. Raises MeshError."""
    async with access.client(TIMEOUT_S) as mesh:
        return await mesh.models()


def model_json(model: inference_pb2.Model) -> dict[str, object]:
    """One model for scripts."""
    return {
        "name": model.name,
        "version": model.version,
        "task": task_name(model.task),
        "aliases": list(model.aliases),
        "ready": model.ready,
        "runtime": model.runtime,
        "max_tokens": model.max_tokens,
        "slots": model.slots,
        "dimensions": model.dimensions,
        "inputs": [_spec_json(spec) for spec in model.inputs],
        "outputs": [_spec_json(spec) for spec in model.outputs],
    }


def models_table(models: Sequence[inference_pb2.Model]) -> Table:
    """The models for a person, one a row."""
    table = Table(box=None, pad_edge=False)
    for heading in ("NAME", "TASK", "READY", "RUNTIME", "VERSION", "TOKENS", "WIDTH", "ALIASES"):
        table.add_column(heading)
    for model in models:
        table.add_row(
            model.name,
            task_name(model.task),
            "[green]yes[/]" if model.ready else "[red]no[/]",
            model.runtime or "-",
            model.version or "-",
            str(model.max_tokens or "-"),
            str(model.dimensions or "-"),
            ", ".join(model.aliases) or "-",
        )
    return table


def _spec_json(spec: payload_pb2.TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": list(spec.shape)}
