"""Triton's own clients before a host: configuration, statistics, repository, and every datatype."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from inference_mesh.tensors import DATATYPES
from tests.clients.test_python_clients import results_of
from tests.e2e.conftest import RunningMesh
from tests.support.callers import ADMIN, write_callers
from tests.support.onnx_models import every_type_model, write
from tests.support.processes import IRIS, process_group, write_models_file


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What the clients' program printed, of a host behind a gateway and a bridge."""
    folder = tmp_path_factory.mktemp("hosted")
    every_type = write(every_type_model(), folder / "every-type")
    listed = [
        {"name": "iris", "model": str(IRIS), "runtime": "onnx", "task": "tensors"},
        {"name": "every-type", "model": str(every_type), "runtime": "onnx", "task": "tensors"},
    ]
    models = folder / "host.yaml"
    models.write_text(yaml.safe_dump({"models": listed}))
    callers = write_callers(folder, {"name": "ops"}, scopes=ADMIN)
    with process_group(folder) as group:
        host = group.start("workers.host", "--models", str(models), "--grpc-port", "0", "--http-port", "0")
        host.wait_until_ready()
        models_file = write_models_file(folder / "models.yaml", {"iris": [host], "every-type": [host]})
        files = [f for name, path in callers.settings.items() for f in (f"--{name}", str(path))]
        gateway = group.gateway(models_file, "--auth", "required", *files)
        gateway.wait_until_ready()
        bridge = group.bridge(gateway)
        bridge.wait_until_ready()
        mesh = RunningMesh(group, {"host": host}, gateway, bridge, models_file)
        ((_, key),) = callers["ops"]
        yield results_of("triton_extensions.py", mesh, key)


def numbers(statistics: dict[str, Any], name: str) -> tuple[int, int]:
    """Calls and nanoseconds; gRPC's JSON leaves zeros out, and has integers as texts."""
    duration = statistics["inference_stats"][name]
    return int(duration.get("count", 0)), int(duration.get("ns", 0))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("form", ["http", "grpc"])
def test_a_model_shows_its_configuration(found: dict[str, Any], form: str) -> None:
    config = found[form]["config"]
    config = config.get("config", config)
    assert (config["name"], config["platform"], config["backend"]) == (
        "iris",
        "onnxruntime_onnx",
        "onnxruntime",
    )
    (features,) = config["input"]
    assert (features["name"], features["data_type"]) == ("features", "TYPE_FP32")
    assert [int(size) for size in features["dims"]] == [-1, 4]
    assert [one["name"] for one in config["output"]] == ["label", "probabilities"]


@pytest.mark.parametrize("form", ["http", "grpc"])
def test_a_call_is_in_the_statistics(found: dict[str, Any], form: str) -> None:
    before, after = found[form]["before"], found[form]["after"]
    calls = numbers(after, "success")[0] - numbers(before, "success")[0]
    assert calls == 1
    assert numbers(after, "success")[1] > numbers(before, "success")[1]
    assert int(after["inference_count"]) == numbers(after, "success")[0]
    assert int(after["last_inference"]) > 1_600_000_000_000
    assert numbers(after, "fail") == (0, 0)
    assert found[form]["every"] == ["every-type", "iris"]


@pytest.mark.parametrize("form", ["http", "grpc"])
def test_the_repository_is_listed_and_what_it_cannot_do_is_refused(found: dict[str, Any], form: str) -> None:
    index = found[form]["index"]
    index = index["models"] if form == "grpc" else index
    assert [(one["name"], one["state"]) for one in index] == [("every-type", "READY"), ("iris", "READY")]
    wrong, missing = ("400", "404") if form == "http" else ("INVALID_ARGUMENT", "NOT_FOUND")
    assert {what: status.removeprefix("StatusCode.") for what, status in found[form]["refused"].items()} == {
        "load with a configuration": wrong,
        "unload of nobody": missing,
        "configuration of nobody": missing,
        "statistics of nobody": missing,
    }


def test_extensions_are_those_of_the_transport(found: dict[str, Any]) -> None:
    by_grpc, by_http = (set(found[form]["server"]["extensions"]) for form in ("grpc", "http"))
    assert {"model_configuration", "model_repository", "statistics"} <= by_grpc
    assert by_http - by_grpc == {"binary_tensor_data", "generate"}


def test_every_datatype_comes_back_as_it_was_sent(found: dict[str, Any]) -> None:
    assert set(found["types"]) == set(DATATYPES)
    assert found["wrong"] == {"grpc": [], "http binary": [], "http json": []}
