"""Turns the input of a generate payload into the tokens of a prompt.

Owns the checks of prompt, messages and token ids, and the length limit. Reads only the
vocabulary, so it may run in any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh.errors import InputTooLongError, InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.chat_template import ChatTemplate, Segment
from workers.llama.native import NativeModel


class PromptReader:
    """Reads prompts for one model."""

    def __init__(self, model: NativeModel, pieces: Sequence[bytes], context_tokens: int) -> None:
        """context_tokens: prompt and answer together; the answer needs at least one."""
        self._model = model
        self._limit = context_tokens - 1
        names = [_text(model, token) for token in sorted(model.control_tokens())]
        longest_name = max((len(name.encode()) for name in names), default=0)
        self._longest_piece = max(longest_name, max(map(len, pieces), default=0), 1)
        self._begin_text = _text(model, model.begin_token)
        self._template = ChatTemplate(
            model.chat_template,
            names,
            begin_text=self._begin_text,
            end_text=_text(model, model.end_token),
            render_known=model.apply_known_template,
        )

    def tokens(self, request: payload_pb2.Generate) -> list[int]:
        """The prompt's tokens, at least one. Raises InvalidInputError, InputTooLongError."""
        kind = request.WhichOneof("input")
        if kind == "prompt":
            tokens = self._tokenize([Segment(request.prompt, may_steer=True)] if request.prompt else [])
        elif kind == "chat":
            messages = [(message.role, message.content) for message in request.chat.messages]
            tokens = self._tokenize(self._template.render(messages))
        elif kind == "tokens":
            self._check_length(len(request.tokens.ids))
            tokens = self.checked_ids(request.tokens.ids, "tokens.ids")
        else:
            raise InvalidInputError("generate has no input; set prompt, chat or tokens")
        if not tokens:
            raise InvalidInputError(f"generate.{kind} is empty")
        self._check_length(len(tokens))
        return tokens

    def checked_ids(self, ids: Sequence[int], field: str) -> list[int]:
        """Token ids of a request. Raises InvalidInputError naming the first unknown one."""
        size = self._model.vocabulary_size
        unknown = next((token for token in ids if token >= size), None)
        if unknown is not None:
            raise InvalidInputError(f"{field} has token {unknown}; the model has {size} tokens")
        return list(ids)

    def _tokenize(self, segments: Sequence[Segment]) -> list[int]:
        size = sum(len(segment.text.encode()) for segment in segments)
        self._check_length(size // self._longest_piece, "at least ")
        tokens: list[int] = []
        for index, segment in enumerate(segments):
            begins_itself = bool(self._begin_text) and segment.text.startswith(self._begin_text)
            tokens += self._model.tokenize(
                segment.text.encode(),
                adds_special=index == 0 and not begins_itself,
                parses_special=segment.may_steer,
            )
        if self._model.adds_end_token and tokens and tokens[-1] == self._model.end_token:
            tokens.pop()
        return tokens

    def _check_length(self, count: int, bound: str = "") -> None:
        if count > self._limit:
            raise InputTooLongError(
                f"the prompt has {bound}{count} tokens; the model takes at most {self._limit}"
            )


def _text(model: NativeModel, token: int) -> str:
    return model.piece(token, with_control=True).decode("utf-8", errors="replace") if token >= 0 else ""
