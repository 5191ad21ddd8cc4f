"""The demonstration asks a model only once the gateway has found it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from inference_mesh.client import MeshClient
from mesh_cli.demo import until_routed
from tests.support.processes import IRIS, ProcessGroup, process_group, write_models_file

SETOSA = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}


async def test_a_worker_that_listens_after_the_gateway_did_is_asked_when_it_is_routed(tmp_path: Path) -> None:
    with process_group(tmp_path) as group:
        gateway = await asyncio.to_thread(_late_worker, group, tmp_path)
        async with MeshClient(gateway) as mesh:
            await until_routed(mesh, "iris")
            answer = await mesh.infer("iris", SETOSA)
    assert answer.model == "iris"


def _late_worker(group: ProcessGroup, folder: Path) -> str:
    """A worker that is started once the gateway has failed to reach it; the gateway's address."""
    first = group.worker(IRIS, name="iris", runtime="onnx")
    first.wait_until_ready()
    port = first.grpc
    models = write_models_file(folder / "models.yaml", {"iris": [first]})
    first.stop()
    gateway = group.gateway(models)
    gateway.wait_until_ready()
    second = group.worker(IRIS, "--grpc-port", str(port), name="iris", runtime="onnx")
    second.wait_until_ready()
    return gateway.grpc_target
