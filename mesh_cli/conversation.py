"""A conversation with a model: what was said, and the loop of prompt and answer."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import aclosing

from inference_mesh.client import MeshClient
from inference_mesh.errors import MeshError
from inference_mesh.v1 import payload_pb2
from mesh_cli.errors import FailedError, NotRunningError, UsageError
from mesh_cli.payloads import Sampling, chat_payload
from mesh_cli.target import Access, explained

PROMPT = ">>> "
HELP = "/clear forgets the conversation, /exit leaves, Ctrl-C stops an answer"


class Conversation:
    """The messages so far. A turn that failed leaves no trace; one that was stopped is kept."""

    def __init__(self, model: str, sampling: Sampling, system: str | None = None) -> None:
        self.model = model
        self._sampling = sampling
        self._opening = [{"role": "system", "content": system}] if system else []
        self.messages: list[dict[str, str]] = list(self._opening)

    def clear(self) -> None:
        """Forget everything but the system message."""
        self.messages = list(self._opening)

    async def answer(self, mesh: MeshClient, text: str) -> AsyncGenerator[str, None]:
        """The pieces of the answer to a text. Raises MeshError."""
        turn = [*self.messages, {"role": "user", "content": text}]
        said = ""
        try:
            async for piece in mesh.stream(self.model, chat_payload(turn, self._sampling)):
                said += piece.output.generate.text
                yield piece.output.generate.text
        finally:
            if said:
                self.messages = [*turn, {"role": "assistant", "content": said}]


def talk(conversation: Conversation, access: Access, timeout_s: float) -> None:
    """Talk until the end of the input, /exit, or Ctrl-C at the prompt.

    Raises NotRunningError, UsageError and MeshError at the start; a later error ends only its
    turn, unless the input is a pipe.
    """
    is_terminal = sys.stdin.isatty()
    with asyncio.Runner() as runner:
        mesh = runner.run(_open(access, timeout_s, conversation.model))
        try:
            if is_terminal:
                _import_line_editing()
                print(HELP)
            while (text := _next_text(PROMPT if is_terminal else None)) is not None:
                if text == "/clear":
                    conversation.clear()
                elif text:
                    _turn(runner, conversation, mesh, text, access, is_terminal=is_terminal)
        finally:
            runner.run(mesh.close())


async def _open(access: Access, timeout_s: float, model: str) -> MeshClient:
    mesh = access.client(timeout_s)
    try:
        found = await mesh.model(model)
        if found.task != payload_pb2.TASK_GENERATE:
            raise UsageError(f"model '{found.name}' does not generate text; use `mesh infer`")
    except BaseException as error:
        await mesh.close()
        if isinstance(error, MeshError):
            raise explained(error, access) from None
        raise
    return mesh


def _next_text(prompt: str | None) -> str | None:
    """The user's next words; None = leave."""
    try:
        text = input(prompt or "").strip()
    except EOFError:
        return None
    except KeyboardInterrupt:
        print()
        return None
    return None if text in ("/exit", "/quit") else text


def _turn(
    runner: asyncio.Runner,
    conversation: Conversation,
    mesh: MeshClient,
    text: str,
    access: Access,
    *,
    is_terminal: bool,
) -> None:
    try:
        runner.run(_print_answer(conversation, mesh, text))
    except KeyboardInterrupt:
        print(" [stopped]")
        if not is_terminal:
            raise FailedError("stopped") from None
    except MeshError as error:
        reported = explained(error, access)
        if not is_terminal or isinstance(reported, NotRunningError):
            raise reported from None
        print(f"error: {error.code.name} {error.message}", file=sys.stderr)


async def _print_answer(conversation: Conversation, mesh: MeshClient, text: str) -> None:
    async with aclosing(conversation.answer(mesh, text)) as pieces:
        async for piece in pieces:
            print(piece, end="", flush=True)
    print()


def _import_line_editing() -> None:
    """Arrow keys and history at the prompt, where Python was built with them."""
    try:
        import readline  # noqa: F401
    except ImportError:
        return
