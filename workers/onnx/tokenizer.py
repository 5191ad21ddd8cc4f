"""Texts as token ids, with the model's own tokenizer and our own limits.

Owns tokenizer.json. The padding and truncation that it may prescribe are turned off: they
would make every text as long as the longest that the model was trained on.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tokenizers

from inference_mesh.errors import InputTooLongError, InvalidInputError, ModelNotReadyError

MAX_TEXTS = 2048
# About a page: what is encoded in less than a millisecond.
LARGE_CHARACTERS = 2_000
# No tokenizer makes fewer tokens than one of so many characters, save of what is no language.
# It bounds the work that a text of megabytes can cause.
MAX_CHARACTERS_PER_TOKEN = 256
DEFAULT_MAX_TOKENS = 512
PADDING_TOKENS = ("[PAD]", "<pad>", "<|pad|>")
CONFIG_FILE = "tokenizer_config.json"


class Tokenizer:
    """Encodes texts; usable from several threads at a time.

    max_tokens: longest text with its special tokens; 0 = as the files say, else 512.
    """

    def __init__(self, path: Path, max_tokens: int) -> None:
        source = _read(path)
        self._whole = _load(source, path.name)
        self._cut = _load(source, path.name)
        self.max_tokens = max_tokens or _stated_max_tokens(self._whole, path) or DEFAULT_MAX_TOKENS
        self.pad_id = _pad_id(self._whole)
        self._whole.no_padding()
        self._whole.no_truncation()
        self._cut.no_padding()
        if self.max_tokens <= self._cut.num_special_tokens_to_add(is_pair=True):
            raise ModelNotReadyError(f"max_tokens is {self.max_tokens}: too few for the special tokens alone")
        self._cut.enable_truncation(self.max_tokens)

    @property
    def max_characters(self) -> int:
        """Longest text that is looked at."""
        return self.max_tokens * MAX_CHARACTERS_PER_TOKEN

    def encode(self, text: str, place: str) -> tokenizers.Encoding:
        """The text's tokens. Raises InputTooLongError naming `place`, the tokens and the limit."""
        self._check_characters(text, place)
        encoding = _only(self._whole, text)
        self._check_tokens(encoding, place)
        return encoding

    def encode_cut(self, text: str) -> tokenizers.Encoding:
        """The text's tokens, as many as the model takes."""
        return _only(self._cut, text[: self.max_characters])

    def encode_pair(self, first: str, second: str, place: str) -> tokenizers.Encoding:
        """The tokens of both texts together. Raises InputTooLongError."""
        self._check_characters(first, place)
        self._check_characters(second, place)
        encoding = _only(self._whole, (first, second))
        self._check_tokens(encoding, place)
        return encoding

    def _check_characters(self, text: str, place: str) -> None:
        if len(text) > self.max_characters:
            raise InputTooLongError(
                f"{place} has {len(text)} characters; the model takes at most {self.max_tokens} tokens "
                f"and {self.max_characters} characters"
            )

    def _check_tokens(self, encoding: tokenizers.Encoding, place: str) -> None:
        if len(encoding) > self.max_tokens:
            raise InputTooLongError(
                f"{place} has {len(encoding)} tokens; the model takes at most {self.max_tokens}"
            )


def check_texts(texts: Sequence[str], field: str) -> None:
    """Raises InvalidInputError unless there are 1 to 2,048 texts and none is empty."""
    if not 1 <= len(texts) <= MAX_TEXTS:
        raise InvalidInputError(f"{field} has {len(texts)} texts; allowed are 1 to {MAX_TEXTS}")
    for position, text in enumerate(texts):
        if not text:
            raise InvalidInputError(f"{field}[{position}] is empty; every text needs at least one character")


def _only(tokenizer: tokenizers.Tokenizer, text: str | tuple[str, str]) -> tokenizers.Encoding:
    # The call for many texts leaves the GIL while it works; the call for one does not.
    return tokenizer.encode_batch_fast([text])[0]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelNotReadyError(f"{path.name} cannot be read as UTF-8") from error


def _load(source: str, name: str) -> tokenizers.Tokenizer:
    try:
        return tokenizers.Tokenizer.from_str(source)
    except Exception as error:  # the library raises plain Exception
        raise ModelNotReadyError(f"{name} is damaged or not a tokenizer") from error


def _stated_max_tokens(tokenizer: tokenizers.Tokenizer, path: Path) -> int:
    """What tokenizer_config.json or the tokenizer's own truncation says; 0 if neither does."""
    stated: Any = None
    config = path.with_name(CONFIG_FILE)
    if config.is_file():
        try:
            stated = json.loads(config.read_bytes()).get("model_max_length")
        except (ValueError, AttributeError) as error:
            raise ModelNotReadyError(f"{CONFIG_FILE} is not a JSON object") from error
    # Absent limits are written as 1e30.
    if isinstance(stated, int) and 0 < stated <= 1_000_000:
        return stated
    return int((tokenizer.truncation or {}).get("max_length", 0))


def _pad_id(tokenizer: tokenizers.Tokenizer) -> int:
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"])
    known = (tokenizer.token_to_id(token) for token in PADDING_TOKENS)
    return next((token_id for token_id in known if token_id is not None), 0)
