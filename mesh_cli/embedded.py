"""The models that come with the mesh: what `path: embedded:NAME` stands for, and how to get it.

Owns the names and places. Does not make models: `models/` does.
"""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

from inference_mesh.cache import cache_dir

SCHEME = "embedded:"


@dataclasses.dataclass(frozen=True, slots=True)
class EmbeddedModel:
    """One model that comes with the mesh.

    file: what must exist for it to be whole. maker: module that makes it; None = it ships.
    """

    name: str
    path: Path
    file: Path
    maker: str | None = None

    def is_present(self) -> bool:
        """True if it can be loaded now."""
        return self.file.is_file()

    @property
    def cure(self) -> str:
        """How to get it."""
        return "run `mesh prepare`" if self.maker else "it is part of the distribution: install it again"


def embedded_models() -> dict[str, EmbeddedModel]:
    """All of them, by name."""
    shipped, made = _shipped_folder(), cache_dir() / "models"
    models = (
        EmbeddedModel("minilm", made / "minilm", made / "minilm" / "model.onnx", "models.minilm"),
        EmbeddedModel("tiny-chat", shipped / "tiny-chat.gguf", shipped / "tiny-chat.gguf"),
        EmbeddedModel("iris", shipped / "iris", shipped / "iris" / "model.onnx"),
    )
    return {model.name: model for model in models}


def _shipped_folder() -> Path:
    """`models/files` of the installed package, found without importing it."""
    found = importlib.util.find_spec("models")
    places = list(found.submodule_search_locations or ()) if found else []
    return Path(places[0] if places else "models") / "files"
