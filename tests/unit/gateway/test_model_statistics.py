"""What is counted of the calls of a model, and in which form it is told."""

from __future__ import annotations

import pytest

from gateway.front.open_inference_answers import config_of, statistics_of
from gateway.model_statistics import ModelStatistics
from gateway.usage.record import UsageRecord
from inference_mesh.config.models_file import ModelEntry
from inference_mesh.oip import open_inference_pb2 as oip


def record(outcome: str = "OK", duration_s: float = 0.5, *, version: str = "1") -> UsageRecord:
    """A call of the model m that ended."""
    return UsageRecord(1000.25, "r", "t", "k", "m", version, "Infer", 1, 1, 0, False, duration_s, outcome)


def told(statistics: ModelStatistics, version: str = "1") -> oip.ModelStatistics:
    """What is told of the model m."""
    return statistics_of("m", version, statistics.of("m", version))


def entry(*versions: str) -> ModelEntry:
    """A model of these versions."""
    listed = [{"version": one, "weight": 1, "endpoints": ["127.0.0.1:1"]} for one in versions]
    return ModelEntry.model_validate({"name": "m", "versions": listed})


def test_a_model_without_calls_has_zeros() -> None:
    found = told(ModelStatistics())
    assert (found.name, found.version, found.last_inference, found.inference_count) == ("m", "1", 0, 0)
    assert found.inference_stats.success == oip.StatisticDuration()
    assert found.inference_stats.HasField("compute_input"), "as Triton, which leaves no duration out"


def test_calls_and_their_times_add_up_by_how_they_ended() -> None:
    statistics = ModelStatistics()
    statistics.count(record(duration_s=0.5), 0.2, "")
    statistics.count(record(duration_s=0.25), 0.0, "")
    statistics.count(record("UNAVAILABLE", 1.0), 0.5, "")
    found = told(statistics)
    times = found.inference_stats
    assert (times.success.count, times.success.ns) == (2, 750_000_000)
    assert (times.fail.count, times.fail.ns) == (1, 1_000_000_000)
    assert (times.queue.count, times.queue.ns) == (2, 200_000_000)
    assert (times.compute_infer.count, times.compute_infer.ns) == (2, 550_000_000)
    assert (found.inference_count, found.execution_count) == (2, 2)
    assert found.last_inference == 1_000_250


def test_a_kept_answer_is_a_success_that_no_model_computed() -> None:
    statistics = ModelStatistics()
    statistics.count(record(duration_s=0.5), 0.0, "miss")
    statistics.count(record(duration_s=0.001), 0.0, "hit")
    found = told(statistics)
    times = found.inference_stats
    assert (times.success.count, times.cache_miss.count, times.cache_hit.count) == (2, 1, 1)
    assert times.cache_hit.ns == 1_000_000
    assert (times.compute_infer.count, found.inference_count, found.execution_count) == (1, 1, 1)


def test_versions_are_counted_apart_and_a_call_taken_over_is_a_failure() -> None:
    statistics = ModelStatistics()
    statistics.count(record(version="2"), 0.0, "")
    statistics.count_taken_over("m", "1", 0.5)
    first, second = told(statistics, "1").inference_stats, told(statistics, "2").inference_stats
    assert (first.success.count, first.fail.count) == (0, 1)
    assert (second.success.count, second.fail.count) == (1, 0)


def test_models_that_left_the_registry_are_forgotten() -> None:
    statistics = ModelStatistics()
    statistics.count(record(), 0.0, "")
    statistics.keep_only({"m"})
    assert told(statistics).inference_count == 1
    statistics.keep_only({"other"})
    assert told(statistics).inference_count == 0


def test_a_configuration_has_what_the_worker_and_the_registry_say() -> None:
    metadata = oip.ModelMetadataResponse(
        name="m", versions=["2"], platform="onnxruntime_onnx", properties={"task": "tensors"}
    )
    metadata.inputs.add(name="x", datatype="FP32", shape=[-1, 4])
    metadata.inputs.add(name="text", datatype="BYTES", shape=[1])
    metadata.outputs.add(name="y", datatype="INT64", shape=[-1])
    config = config_of(metadata, entry("1", "2"))
    assert (config.name, config.platform, config.backend) == ("m", "onnxruntime_onnx", "onnxruntime")
    assert [(one.name, one.data_type, list(one.dims)) for one in config.input] == [
        ("x", oip.TYPE_FP32, [-1, 4]),
        ("text", oip.TYPE_STRING, [1]),
    ]
    assert [(one.name, one.data_type, list(one.dims)) for one in config.output] == [
        ("y", oip.TYPE_INT64, [-1])
    ]
    assert config.parameters["task"].string_value == "tensors"
    assert list(config.version_policy.specific.versions) == [1, 2]
    assert not config.model_transaction_policy.decoupled


def test_a_model_that_generates_answers_a_request_piece_by_piece() -> None:
    metadata = oip.ModelMetadataResponse(name="m", platform="llama_cpp", properties={"task": "generate"})
    config = config_of(metadata, entry("1"))
    assert config.model_transaction_policy.decoupled
    assert config.backend == "llama_cpp"


@pytest.mark.parametrize("versions", [("v1",), ("1", "2.0"), ("99999999999999999999",)])
def test_versions_that_are_not_all_numbers_make_no_version_policy(versions: tuple[str, ...]) -> None:
    config = config_of(oip.ModelMetadataResponse(name="m"), entry(*versions))
    assert not config.HasField("version_policy")


def test_a_model_whose_registry_names_no_version_has_no_version_policy() -> None:
    unnamed = ModelEntry.model_validate({"name": "m", "endpoints": ["127.0.0.1:1"]})
    config = config_of(oip.ModelMetadataResponse(name="m"), unnamed)
    assert not config.HasField("version_policy")


def test_a_datatype_that_is_not_known_has_no_type() -> None:
    metadata = oip.ModelMetadataResponse(name="m")
    metadata.inputs.add(name="x", datatype="COMPLEX64", shape=[1])
    assert config_of(metadata, entry("1")).input[0].data_type == oip.TYPE_INVALID
