"""What the texts of a request must be like. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh.errors import InvalidInputError

MAX_TEXTS = 2048

LARGE_CHARACTERS = 2_000
"""About a page: what is tokenised in less than a millisecond."""

MAX_CHARACTERS_PER_TOKEN = 256
"""No tokenizer makes fewer tokens than one of so many characters, save of what is no language.

It bounds the work that a text of megabytes can cause.
"""


def check_texts(texts: Sequence[str], field: str) -> None:
    """Raises InvalidInputError unless there are 1 to 2,048 texts and none is empty."""
    check_count(len(texts), field)
    for position, text in enumerate(texts):
        if not text:
            raise InvalidInputError(f"{field}[{position}] is empty; every text needs at least one character")


def check_count(count: int, field: str) -> None:
    """Raises InvalidInputError unless it is 1 to 2,048."""
    if not 1 <= count <= MAX_TEXTS:
        raise InvalidInputError(f"{field} has {count} texts; allowed are 1 to {MAX_TEXTS}")
