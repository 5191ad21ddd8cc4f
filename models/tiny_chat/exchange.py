"""A question with its one right answer, and the grammar that its generators share."""

from __future__ import annotations

from dataclasses import dataclass, field

from models.tiny_chat.chat import Message


@dataclass(frozen=True)
class Exchange:
    """A question, its answer, and what must stand before it in the conversation."""

    category: str
    question: str
    answer: str
    system: str = ""
    history: tuple[Message, ...] = field(default=())
    needs_no_tools: bool = False

    def messages(self) -> list[Message]:
        """The conversation up to and with the question."""
        system = [Message("system", self.system)] if self.system else []
        return [*system, *self.history, Message("user", self.question)]


def with_article(noun: str) -> str:
    """`an owl`, `a dog`."""
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def capitalised(text: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return text[0].upper() + text[1:]
