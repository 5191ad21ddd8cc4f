"""Disks that take nothing, and memory that does not suffice."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from onnx import TensorProto, helper

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError, UnavailableError
from tests.support.poor_disks import with_a_full_tmp, with_a_read_only_root
from tests.support.processes import (
    IRIS,
    MINILM,
    TINY_CHAT,
    MeshProcess,
    ProcessGroup,
    http_status_of,
    wait_until,
    write_models_file,
)

pytestmark = pytest.mark.faults

LOAD_LIMIT_S = 60.0
FREE = ("--grpc-port", "0", "--http-port", "0")
FLOWER = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [1, 4], "data": [5.1, 3.5, 1.4, 0.2]}]}
ADDRESS_SPACE_BYTES = 3 << 30
"""Enough for a worker and a small model, and not for the one below."""

TOO_MANY_FLOATS = 1 << 30


@pytest.mark.parametrize("disk", [with_a_read_only_root, with_a_full_tmp])
def test_f22_everything_starts_and_serves_where_nothing_can_be_written(
    group: ProcessGroup, tmp_path: Path, disk: Callable[[Path], tuple[str, ...]]
) -> None:
    poor: dict[str, Any] = {"prefix": disk(tmp_path), "environment": {**os.environ, "HOME": "/nowhere"}}
    workers = {
        name: group.start(
            "workers", "--model", str(model), "--name", name, "--runtime", runtime, *FREE, name=name, **poor
        )
        for name, model, runtime in (("minilm", MINILM, "onnx"), ("tiny-chat", TINY_CHAT, "llama"))
    }
    for worker in workers.values():
        worker.wait_until_ready()
    models = write_models_file(tmp_path / "models.yaml", {name: [one] for name, one in workers.items()})
    gateway = group.start("gateway", "--models", str(models), *FREE, **poor)
    gateway.wait_until_ready()
    bridge = group.start("rest_bridge", "--gateway", gateway.grpc_target, "--port", "0", **poor)
    bridge.wait_until_ready()
    with httpx.Client(base_url=bridge.url, timeout=30, trust_env=False) as http:
        for model, payload in (("minilm", {"text": "a"}), ("tiny-chat", {"prompt": "Once", "max_tokens": 4})):
            answer = http.post("/api/infer", json={"model": model, "payload": payload})
            assert answer.status_code == 200, answer.text


def too_large_model(folder: Path) -> Path:
    """A model of 4 GiB of weights, in a file without blocks."""
    weights = TensorProto(name="weights", data_type=TensorProto.FLOAT, dims=[TOO_MANY_FLOATS])
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "0"), ("length", str(4 * TOO_MANY_FLOATS))):
        weights.external_data.add(key=key, value=value)
    graph = helper.make_graph(
        [helper.make_node("Gather", ["weights", "index"], ["value"])],
        "large",
        [helper.make_tensor_value_info("index", TensorProto.INT64, ["n"])],
        [helper.make_tensor_value_info("value", TensorProto.FLOAT, ["n"])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    folder.mkdir()
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    with (folder / "weights.bin").open("wb") as file:
        file.truncate(4 * TOO_MANY_FLOATS)
    return folder


def test_f23_a_model_that_memory_does_not_hold_fails_alone_and_says_so(
    group: ProcessGroup, tmp_path: Path
) -> None:
    large = group.start(
        "workers",
        *("--model", str(too_large_model(tmp_path / "large")), "--name", "large", "--runtime", "onnx", *FREE),
        name="large",
        prefix=("prlimit", f"--as={ADDRESS_SPACE_BYTES}"),
    )
    small = group.worker(IRIS, name="iris", runtime="onnx")
    small.wait_until_ready()
    large.wait_for_ports()
    wait_until(lambda: "not loaded" in large.log_text(), "the load has failed", LOAD_LIMIT_S)
    assert large.popen.poll() is None, "the process lives and says what is wrong"
    assert http_status_of(f"{large.url}/readyz") == 503
    assert http_status_of(f"{large.url}/healthz") == 200
    models = write_models_file(tmp_path / "models.yaml", {"large": [large], "iris": [small]})
    gateway = group.gateway(models)
    gateway.wait_until_ready()
    assert asyncio.run(_outcomes(gateway)) == ("iris", UnavailableError)


async def _outcomes(gateway: MeshProcess) -> tuple[str, type[MeshError]]:
    """Who answers for the small model, and how a call of the large one fails."""
    index: dict[str, Any] = {"name": "index", "datatype": "INT64", "shape": [1], "data": [0]}
    async with MeshClient(gateway.grpc_target) as client:
        answer = await client.infer("iris", FLOWER)
        with pytest.raises(MeshError) as caught:
            await client.infer("large", {"inputs": [index]})
    return answer.model, type(caught.value)
