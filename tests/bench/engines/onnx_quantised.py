"""What weights of 8 bits cost in quality and bring in speed: one table, MiniLM on 256 sentences."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped, unused-ignore]
from numpy.typing import NDArray

from models.quantise import quantised
from tests.bench.engines.onnx_corpus import Ids, embed, load_tokenizer, open_graph, sentences, sorted_batches
from tests.bench.report import print_table
from tests.support.processes import MINILM
from workers.onnx.prepared_graph import GraphStore

SENTENCES = 256
ROUNDS = 5


def main() -> None:
    """Measure and print."""
    tokenizer = load_tokenizer(MINILM)
    ids = [tokenizer.encode(text).ids for text in sentences(tokenizer, SENTENCES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        graph = folder / "model.onnx"
        graph.write_bytes(quantised(onnx.load(str(MINILM / "model.onnx"))).SerializeToString())
        store = GraphStore(folder / "cache")
        sessions = {
            "32 bits": open_graph(MINILM / "model.onnx"),
            "32 bits, no padding": _prepared(store, MINILM / "model.onnx"),
            "8 bits": open_graph(graph),
            "8 bits, no padding": _prepared(store, graph),
        }
        size_mb = {"32": (MINILM / "model.onnx").stat().st_size / 1e6, "8 ": graph.stat().st_size / 1e6}
    wanted = np.concatenate([embed(sessions["32 bits"], [one]) for one in ids])
    speeds: dict[str, list[float]] = {label: [] for label in sessions}
    for _ in range(ROUNDS):
        for label, session in sessions.items():
            speeds[label].append(_cpu_ms(session, ids))
    rows = [
        [
            label,
            f"{size_mb[label[:2]]:.1f}",
            *_quality(session, ids, wanted),
            f"{statistics.median(speeds[label]):.2f}",
        ]
        for label, session in sessions.items()
    ]
    print_table(
        ["weights", "MB", "cosine mean", "least", "alone/in batch, least", "same nearest", "CPU ms/sentence"],
        rows,
    )


def _prepared(store: GraphStore, graph: Path) -> ort.InferenceSession:
    source = store.prepared(graph, "cpu").source
    assert isinstance(source, Path)
    return open_graph(source)


def _quality(
    session: ort.InferenceSession, ids: Sequence[Ids], wanted: NDArray[np.float32]
) -> tuple[str, str, str, str]:
    alone = np.concatenate([embed(session, [one]) for one in ids])
    together = np.concatenate([embed(session, ids[place : place + 32]) for place in range(0, len(ids), 32)])
    cosines = (alone * wanted).sum(axis=1)
    stable = (alone * together).sum(axis=1)
    same = (_nearest(alone) == _nearest(wanted)).mean()
    return f"{cosines.mean():.4f}", f"{cosines.min():.4f}", f"{stable.min():.6f}", f"{same:.3f}"


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    similar = vectors @ vectors.T
    np.fill_diagonal(similar, -1)
    return np.asarray(similar.argmax(axis=1))


def _cpu_ms(session: ort.InferenceSession, ids: Sequence[Ids]) -> float:
    before = time.process_time()
    for batch in sorted_batches(ids):
        embed(session, batch)
    return (time.process_time() - before) / len(ids) * 1000


if __name__ == "__main__":
    main()
