from __future__ import annotations

from inference_mesh.v1 import payload_pb2
from workers.engine import Chunk
from workers.metrics import WorkerMetrics
from workers.token_pace import TokenPace

FIRST = "mesh_worker_time_to_first_token_seconds"
LATER = "mesh_worker_time_per_output_token_seconds"
PROMPT_READ = Chunk(payload_pb2.Output(), prompt_tokens=3)
TEXT = Chunk(payload_pb2.Output(generate=payload_pb2.Generated(text="a")), prompt_tokens=3)


def last(tokens: int) -> Chunk:
    return Chunk(TEXT.output, 3, payload_pb2.Usage(prompt_tokens=3, completion_tokens=tokens))


def told(
    chunks: list[tuple[Chunk, float]], delivered: int = 0
) -> tuple[float | None, float | None, float | None]:
    """Time to the first token, mean time of the later ones, and how many texts had one."""
    metrics = WorkerMetrics("chat")
    pace = TokenPace(metrics, 10.0, delivered)
    for chunk, now_s in chunks:
        pace.note(chunk, now_s)
    samples = (f"{FIRST}_sum", f"{LATER}_sum", f"{LATER}_count")
    first, later, count = (metrics.registry.get_sample_value(name, {"model": "chat"}) for name in samples)
    return first, later, count


def test_the_time_of_a_token_is_the_mean_after_the_first_one() -> None:
    assert told([(PROMPT_READ, 10.1), (TEXT, 10.5), (TEXT, 11.0), (last(5), 12.5)]) == (0.5, 0.5, 1)


def test_a_resumed_text_counts_only_its_own_tokens() -> None:
    assert told([(TEXT, 10.5), (last(105), 12.5)], delivered=100) == (0.5, 0.5, 1)


def test_a_text_of_one_token_has_no_pace() -> None:
    assert told([(last(1), 10.5)]) == (0.5, None, None)


def test_a_text_that_broke_off_has_a_first_token_only() -> None:
    assert told([(PROMPT_READ, 10.1), (TEXT, 10.5)]) == (0.5, None, None)


def test_answers_made_side_by_side_count_their_own_tokens_only() -> None:
    metrics = WorkerMetrics("chat")
    pace = TokenPace(metrics, 10.0, 0, 4)
    pace.note(TEXT, 11.0)
    pace.note(last(4 * 11), 12.0)
    assert metrics.registry.get_sample_value(f"{LATER}_sum", {"model": "chat"}) == 0.1
