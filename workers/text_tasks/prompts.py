"""The instructions that a model wants before each text, from the files beside it.

Owns the keys `prompts` and `default_prompt_name` of model.json or, where it has neither, of the file
that sentence-transformers writes; their others are not looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pydantic

from inference_mesh.errors import InvalidInputError, ModelNotReadyError

DESCRIPTION_FILE = "model.json"
SENTENCE_TRANSFORMERS_FILE = "config_sentence_transformers.json"


class Prompts(pydantic.BaseModel):
    """prompts: instructions by name. default_prompt_name: the one for a request that names none."""

    model_config = pydantic.ConfigDict(frozen=True, extra="ignore", strict=True)

    prompts: Mapping[str, str] = {}
    default_prompt_name: str | None = None

    @pydantic.model_validator(mode="after")
    def _default_is_known(self) -> Prompts:
        if self.default_prompt_name is not None and self.default_prompt_name not in self.prompts:
            raise ValueError(f"default_prompt_name is '{self.default_prompt_name}', which is no prompt")
        return self

    def prefix(self, name: str) -> str:
        """What is put before each text; name: as the request has it. Raises InvalidInputError."""
        if not name:
            return self.prompts[self.default_prompt_name] if self.default_prompt_name else ""
        if name not in self.prompts:
            known = ", ".join(sorted(self.prompts)) or "none"
            raise InvalidInputError(f"prompt_name is '{name}'; this model has {known}")
        return self.prompts[name]


def read_prompts(folder: Path) -> Prompts:
    """The prompts of a model's folder; none without those files. Raises ModelNotReadyError."""
    for name in (DESCRIPTION_FILE, SENTENCE_TRANSFORMERS_FILE):
        found = _read(folder / name)
        if found.model_fields_set:
            return found
    return Prompts()


def _read(path: Path) -> Prompts:
    if not path.is_file():
        return Prompts()
    try:
        return Prompts.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ModelNotReadyError(f"{path.name} cannot be read: {error.strerror}") from error
    except pydantic.ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"]) or "the document"
        raise ModelNotReadyError(f"{path.name}: {place}: {first['msg']}") from error
