"""The names by which the endpoint picker of an InferencePool reads how busy an LLM worker is.

Owns the gauges that a worker has twice where it is a member of such a pool. Names and labels are those
of vLLM, which pickers know without a setting of their own. Source: Gateway API Inference Extension,
docs/proposals/003-model-server-protocol.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Gauge

from workers.engine import Load

BLOCK_TOKENS = 16
"""Tokens that a picker hashes together when it looks for prompts with the same beginning. llama.cpp's
cache has no blocks: a prompt is found again up to the token where it differs."""

ONLY_IN_A_POOL = "only with the setting inference_pool_metrics."


class InferencePoolMetrics:
    """Owns these series in a worker's registry."""

    def __init__(self, registry: CollectorRegistry, model: str) -> None:
        self._registry = registry
        self._model = model
        self._waiting = self._gauge("num_requests_waiting", "Requests that wait for the engine")
        self._running = self._gauge("num_requests_running", "Requests at work in the engine")
        kv = "Share of the KV cache in use, 0 to 1"
        self._kv = self._gauge("kv_cache_usage_perc", kv)
        self._kv_before = self._gauge("gpu_cache_usage_perc", f"{kv}; for pickers that know the old name")
        self._cache = Gauge(
            "vllm:cache_config_info",
            f"1; its labels tell the size of the KV cache, counted in blocks; {ONLY_IN_A_POOL}",
            ("model_name", "block_size", "num_gpu_blocks"),
            registry=registry,
        )

    def observe_load(self, load: Load) -> None:
        """How busy the engine is now."""
        self._waiting.labels(self._model).set(load.queued)
        self._running.labels(self._model).set(load.running)
        self._kv.labels(self._model).set(load.kv_utilization)
        self._kv_before.labels(self._model).set(load.kv_utilization)
        if load.kv_tokens:
            blocks = load.kv_tokens // BLOCK_TOKENS
            self._cache.labels(self._model, str(BLOCK_TOKENS), str(blocks)).set(1)

    def _gauge(self, name: str, meaning: str) -> Gauge:
        return Gauge(f"vllm:{name}", f"{meaning}; {ONLY_IN_A_POOL}", ("model_name",), registry=self._registry)
