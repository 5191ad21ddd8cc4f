from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from inference_mesh.settings import SettingsError, load_settings
from workers.engine import Load
from workers.metrics import WorkerMetrics
from workers.settings import WorkerSettings

LOAD = Load(utilization=1.0, queued=3, running=8, kv_utilization=0.25, slots=8, kv_tokens=4096)
EXPECTED = {
    "vllm:num_requests_waiting": 3.0,
    "vllm:num_requests_running": 8.0,
    "vllm:kv_cache_usage_perc": 0.25,
    "vllm:gpu_cache_usage_perc": 0.25,
}


def page(metrics: WorkerMetrics) -> dict[str, Any]:
    text = generate_latest(metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def test_a_picker_finds_the_load_by_the_names_and_types_that_it_knows() -> None:
    metrics = WorkerMetrics("chat")
    metrics.join_inference_pool()
    metrics.observe_load(LOAD)
    families = page(metrics)
    assert {families[name].type for name in EXPECTED} == {"gauge"}
    assert {name: [one.value for one in families[name].samples] for name in EXPECTED} == {
        name: [value] for name, value in EXPECTED.items()
    }
    assert families["mesh_worker_queue_depth"].samples[0].value == 3


def test_a_picker_finds_the_size_of_the_cache_in_blocks() -> None:
    metrics = WorkerMetrics("chat")
    metrics.join_inference_pool()
    metrics.observe_load(LOAD)
    (sample,) = page(metrics)["vllm:cache_config_info"].samples
    assert sample.labels == {"model_name": "chat", "block_size": "16", "num_gpu_blocks": "256"}
    assert sample.value == 1


def test_before_the_model_is_loaded_no_size_of_its_cache_is_told() -> None:
    metrics = WorkerMetrics("chat")
    metrics.join_inference_pool()
    metrics.observe_load(Load(utilization=0, queued=0, running=0))
    assert page(metrics)["vllm:cache_config_info"].samples == []


def test_a_worker_that_is_in_no_pool_has_none_of_these_names() -> None:
    metrics = WorkerMetrics("chat")
    metrics.observe_load(LOAD)
    assert [name for name in page(metrics) if name.startswith("vllm:")] == []


def test_a_runtime_without_language_models_is_in_no_pool() -> None:
    told = {"model": Path("x.onnx"), "name": "iris", "runtime": "onnx", "inference_pool_metrics": "true"}
    with pytest.raises(SettingsError, match="inference_pool_metrics is for runtime llama"):
        load_settings(WorkerSettings, told)
