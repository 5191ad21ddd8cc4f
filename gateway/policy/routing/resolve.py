"""Which model a name and a version mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from gateway.policy.facts import ModelFacts, RefusalKind, Refuse

SHOWN_NAME_LENGTH = 64
_VERSION = re.compile(r"[A-Za-z0-9._+-]{0,64}")


def names_of(models: Iterable[ModelFacts]) -> dict[str, ModelFacts]:
    """The models by name and by alias."""
    return {name: model for model in models for name in (model.name, *model.aliases)}


def resolve(name: str, version: str, names: Mapping[str, ModelFacts]) -> ModelFacts | Refuse:
    """The model of that name or alias, if it has that version; empty version = any."""
    if not name:
        return Refuse(RefusalKind.INVALID, "model: is missing; the name of a model is required")
    if _VERSION.fullmatch(version) is None:
        return Refuse(RefusalKind.INVALID, "version: allowed are up to 64 of A-Z a-z 0-9 . _ + -")
    model = names.get(name)
    if model is None:
        shown = name[:SHOWN_NAME_LENGTH]
        return Refuse(RefusalKind.MODEL_NOT_FOUND, f"there is no model {shown!r}")
    if version and model.version and version != model.version:
        return Refuse(
            RefusalKind.MODEL_NOT_FOUND,
            f"model '{model.name}' has no version '{version}'; it has '{model.version}'",
        )
    return model
