"""Turns the input of a generate payload into the tokens of a prompt.

Owns the checks of prompt, messages and token ids, and the length limit. Reads only the
vocabulary, so it may run in any thread.
"""

from __future__ import annotations

from collections.abc import Sequence

from inference_mesh.errors import InputTooLongError, InvalidInputError
from inference_mesh.v1 import payload_pb2
from workers.llama.chat_template import ChatTemplate, Message, Segment
from workers.llama.native import NativeModel
from workers.llama.tools.tool_set import MAX_CALLS, ToolSet, call_document, check_id
from workers.llama.vocabulary import Vocabulary


class PromptReader:
    """Reads prompts for one model."""

    def __init__(self, model: NativeModel, vocabulary: Vocabulary, context_tokens: int) -> None:
        """context_tokens: prompt and answer together; the answer needs at least one."""
        self._model = model
        self._limit = context_tokens - 1
        names = list(vocabulary.control_names.values())
        longest_name = max((len(name.encode()) for name in names), default=0)
        self._longest_piece = max(longest_name, max(map(len, vocabulary.pieces), default=0), 1)
        self._begin_text = _text(model, model.begin_token)
        self._template = ChatTemplate(
            model.chat_template,
            names,
            begin_text=self._begin_text,
            end_text=_text(model, model.end_token),
            render_known=model.apply_known_template,
        )

    @property
    def template(self) -> str:
        """The text of the model's chat template; empty if it has none."""
        return self._template.source

    def tokens(self, request: payload_pb2.Generate, tools: ToolSet | None = None) -> list[int]:
        """The prompt's tokens, at least one. tools: what a chat's template shows to the model.

        Raises InvalidInputError, InputTooLongError, UnsupportedError.
        """
        kind = request.WhichOneof("input")
        if kind == "prompt":
            tokens = self._tokenize([Segment(request.prompt, may_steer=True)] if request.prompt else [])
        elif kind == "chat":
            messages = [_message(message, index) for index, message in enumerate(request.chat.messages)]
            documents = tools.documents() if tools is not None else ()
            tokens = self._tokenize(self._template.render(messages, documents))
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


def _message(message: payload_pb2.ChatMessage, index: int) -> Message:
    """A message as the template takes it. Raises InvalidInputError."""
    where = f"chat.messages[{index}]"
    if message.tool_calls and message.role != "assistant":
        raise InvalidInputError(f"{where}.tool_calls are taken with role 'assistant' only")
    if message.tool_call_id and message.role != "tool":
        raise InvalidInputError(f"{where}.tool_call_id is taken with role 'tool' only")
    if len(message.tool_calls) > MAX_CALLS:
        raise InvalidInputError(
            f"{where}.tool_calls has {len(message.tool_calls)} entries; allowed: at most {MAX_CALLS}"
        )
    check_id(message.tool_call_id, f"{where}.tool_call_id")
    calls = [call_document(call, f"{where}.tool_calls[{at}]") for at, call in enumerate(message.tool_calls)]
    return Message(message.role, message.content, calls, message.tool_call_id)


def _text(model: NativeModel, token: int) -> str:
    return model.piece(token, with_control=True).decode("utf-8", errors="replace") if token >= 0 else ""
