"""Texts and pairs of texts as the tokens of one model, within the length that it takes.

Owns the special tokens around a text and between two, and what becomes of one that is too long.
Reads only the vocabulary, so it may run in any thread.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from inference_mesh.errors import InputTooLongError, InvalidInputError
from workers.llama.native import NativeModel
from workers.text_tasks.texts import MAX_CHARACTERS_PER_TOKEN

RERANK_TEMPLATE = "rerank"
SPLIT = "\0"
"""Where a text is cut in two, so that the name of a control token in it stays plain text."""

_MOST_CUTS = 20


class TextReader:
    """Reads texts for one model. max_tokens: of one text with its special tokens."""

    def __init__(self, model: NativeModel, max_tokens: int) -> None:
        self._model = model
        self.max_tokens = max_tokens
        self._begin, self._end = _frame(model)
        template = model.named_template(RERANK_TEMPLATE)
        self._template = template if "{query}" in template and "{document}" in template else ""
        names = (
            model.piece(token, with_control=True).decode(errors="replace") for token in model.control_tokens()
        )
        longest_first = sorted(filter(None, names), key=len, reverse=True)
        self._names = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, text: str, place: str, *, is_cut: bool) -> list[int]:
        """The tokens of a text. is_cut: what is too long loses its end, else InputTooLongError."""
        room = self.max_tokens - len(self._begin) - len(self._end)
        tokens = self._plain(self._bounded(text, place, is_cut=is_cut))
        if not is_cut:
            self._check(len(tokens) + self.max_tokens - room, place)
        return _some([*self._begin, *tokens[:room], *self._end], place)

    def ids(self, ids: Sequence[int], place: str, *, is_cut: bool) -> list[int]:
        """Token ids of a request as they stand. Raises InvalidInputError, InputTooLongError."""
        if not ids:
            raise InvalidInputError(f"{place} is empty; at least one token is needed")
        size = self._model.vocabulary_size
        unknown = next((token for token in ids if token >= size), None)
        if unknown is not None:
            raise InvalidInputError(f"{place} has token {unknown}; the model has {size} tokens")
        if not is_cut:
            self._check(len(ids), place)
        return list(ids[: self.max_tokens])

    def pair(self, query: str, document: str, place: str, *, is_cut: bool) -> list[int]:
        """The tokens of a query with a document, as the model was trained to see them.

        is_cut: the document loses its end. Raises InputTooLongError, also if the query alone is
        too long.
        """
        self._bounded(query, "query", is_cut=False)
        document = self._bounded(document, place, is_cut=is_cut)
        if self._template:
            return self._pair_by_template(query, document, place, is_cut=is_cut)
        model = self._model
        begin = [model.begin_token] if model.adds_begin_token else []
        end = [model.end_token if model.end_token >= 0 else model.separator_token]
        end = end if model.adds_end_token else []
        separator = [model.separator_token] if model.adds_separator else []
        head = [*begin, *self._plain(query), *end, *separator]
        room = self.max_tokens - len(head) - len(end)
        tokens = self._plain(document)
        if not is_cut or room < 1:
            self._check(len(head) + len(tokens) + len(end), place)
        return _some([*head, *tokens[:room], *end], place)

    def _pair_by_template(self, query: str, document: str, place: str, *, is_cut: bool) -> list[int]:
        tokens = self._templated(query, document)
        for _ in range(_MOST_CUTS if is_cut else 0):
            if len(tokens) <= self.max_tokens or not document:
                break
            document = document[: min(len(document) * self.max_tokens // len(tokens), len(document) - 1)]
            tokens = self._templated(query, document)
        self._check(len(tokens), place)
        return _some(tokens, place)

    def _templated(self, query: str, document: str) -> list[int]:
        # In one step, so that a query with "{document}" in it stays as it is.
        texts = {"{query}": self._unsteered(query), "{document}": self._unsteered(document)}
        whole = re.sub(r"\{query\}|\{document\}", lambda found: texts[found.group()], self._template)
        return [token for part in whole.split(SPLIT) for token in self._steering(part)]

    def _unsteered(self, text: str) -> str:
        """The text with every name of a control token cut in two."""
        text = text.replace(SPLIT, "")
        if self._names is None:
            return text
        return self._names.sub(lambda found: f"{found.group()[:1]}{SPLIT}{found.group()[1:]}", text)

    def _plain(self, text: str) -> list[int]:
        return self._model.tokenize(text.encode(), adds_special=False, parses_special=False)

    def _steering(self, text: str) -> list[int]:
        return self._model.tokenize(text.encode(), adds_special=False, parses_special=True)

    def _bounded(self, text: str, place: str, *, is_cut: bool) -> str:
        most = self.max_tokens * MAX_CHARACTERS_PER_TOKEN
        if len(text) > most and not is_cut:
            raise InputTooLongError(
                f"{place} has {len(text)} characters; the model takes at most {self.max_tokens} tokens "
                f"and {most} characters"
            )
        return text[:most]

    def _check(self, count: int, place: str) -> None:
        if count > self.max_tokens:
            raise InputTooLongError(f"{place} has {count} tokens; the model takes at most {self.max_tokens}")


def _some(tokens: list[int], place: str) -> list[int]:
    """The tokens; a sequence without any would be an error of llama.cpp. Raises InvalidInputError."""
    if not tokens:
        raise InvalidInputError(f"{place} has nothing that the model has a token for")
    return tokens


def _frame(model: NativeModel) -> tuple[list[int], list[int]]:
    """The special tokens before and after each text."""
    bare = model.tokenize(b"a", adds_special=False, parses_special=False)
    whole = model.tokenize(b"a", adds_special=True, parses_special=False)
    for at in range(len(whole) - len(bare) + 1):
        if whole[at : at + len(bare)] == bare:
            return whole[:at], whole[at + len(bare) :]
    return [], []
