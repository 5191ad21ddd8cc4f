"""What the endpoint picker of an InferencePool reads of a real worker."""

from __future__ import annotations

from pathlib import Path

from inference_mesh.client import MeshClient
from tests.support.processes import TINY_CHAT, metric_sum, process_group, wait_until

SLOTS, CONTEXT, BLOCK = 2, 256, 16
LONG = {
    "prompt": "Once upon a time",
    "max_tokens": 200,
    "temperature": 0,
    "logit_bias": {"0": -100, "1": -100, "2": -100},
}


async def test_a_worker_in_a_pool_tells_its_queue_its_cache_and_their_sizes(tmp_path: Path) -> None:
    flags = ("--slots", str(SLOTS), "--context", str(CONTEXT), "--inference-pool-metrics", "true")
    with process_group(tmp_path) as group:
        worker = group.worker(TINY_CHAT, *flags, name="chat", runtime="llama")
        worker.wait_until_ready()
        page = worker.metrics_text()
        blocks = SLOTS * CONTEXT // BLOCK
        size = {"model_name": "chat", "block_size": str(BLOCK), "num_gpu_blocks": str(blocks)}
        assert metric_sum(page, "vllm:cache_config_info", **size) == 1
        assert metric_sum(page, "vllm:num_requests_running", model_name="chat") == 0
        async with MeshClient(worker.grpc_target) as client:
            stream = client.stream("chat", LONG)
            await anext(stream)
            await anext(stream)
            wait_until(
                lambda: metric_sum(worker.metrics_text(), "vllm:kv_cache_usage_perc") > 0,
                "the cache is in use",
            )
            await stream.aclose()
