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
from workers.text_tasks.texts import MAX_CHARACTERS_PER_TOKEN

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
        self.vocabulary_size = int(self._whole.get_vocab_size(with_added_tokens=True))
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
        self.check_length(len(encoding), place)
        return encoding

    def encode_cut(self, text: str) -> tokenizers.Encoding:
        """The text's tokens, as many as the model takes."""
        return _only(self._cut, text[: self.max_characters])

    def encode_pair(self, first: str, second: str, place: str) -> tokenizers.Encoding:
        """The tokens of both texts together. Raises InputTooLongError."""
        self._check_characters(first, place)
        self._check_characters(second, place)
        encoding = _only(self._whole, (first, second))
        self.check_length(len(encoding), place)
        return encoding

    def encode_pair_cut(self, first: str, second: str, place: str) -> tokenizers.Encoding:
        """The same with as much of the second text as the model takes.

        Raises InputTooLongError if that is nothing.
        """
        self._check_characters(first, place)
        head = _only(self._whole, first, special=False)
        special = self._whole.num_special_tokens_to_add(is_pair=True)
        room = self.max_tokens - special - len(head)
        if room < 1:
            raise InputTooLongError(
                f"{place}: without the second text it has {len(head) + special} tokens already; "
                f"the model takes at most {self.max_tokens}"
            )
        tail = _only(self._whole, second[: self.max_characters], special=False)
        tail.truncate(room)
        return self._whole.post_process(head, tail)

    def check_ids(self, ids: Sequence[int], place: str) -> None:
        """Raises InvalidInputError unless there is at least one id and all are of the vocabulary."""
        if not ids:
            raise InvalidInputError(f"{place} is empty; it needs at least one token")
        if max(ids) >= self.vocabulary_size:
            raise InvalidInputError(
                f"{place} has {max(ids)}; the model's tokens are 0 to {self.vocabulary_size - 1}"
            )

    def check_length(self, count: int, place: str) -> None:
        """Raises InputTooLongError if the model does not take so many tokens."""
        if count > self.max_tokens:
            raise InputTooLongError(f"{place} has {count} tokens; the model takes at most {self.max_tokens}")

    def _check_characters(self, text: str, place: str) -> None:
        if len(text) > self.max_characters:
            raise InputTooLongError(
                f"{place} has {len(text)} characters; the model takes at most {self.max_tokens} tokens "
                f"and {self.max_characters} characters"
            )


def _only(
    tokenizer: tokenizers.Tokenizer, text: str | tuple[str, str], *, special: bool = True
) -> tokenizers.Encoding:
    # The call for many texts leaves the GIL while it works; the call for one does not.
    return tokenizer.encode_batch_fast([text], add_special_tokens=special)[0]


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
