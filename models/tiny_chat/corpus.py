"""The made-up text that the tiny model learns from, and the fresh questions that measure it.

Owns the mixture of the kinds of questions and how they become conversations. Does not own the kinds
(questions.py, dialogues.py), the split (split.py), the facts (facts.py, mesh_facts.py) or the chat
format (chat.py).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from models.tiny_chat import dialogues, facts, questions
from models.tiny_chat.chat import END, END_OF_TEXT, START, Message, render
from models.tiny_chat.exchange import Exchange
from models.tiny_chat.split import is_held_out, wording

GENERATORS: dict[str, tuple[float, Callable[[random.Random], Exchange]]] = {
    "arithmetic": (16, questions.arithmetic),
    "comparison": (6, questions.comparison),
    "counting": (10, questions.counting),
    "repeat": (12, questions.repeat),
    "colours": (4, questions.colours),
    "capitals": (5, questions.capitals),
    "opposites": (5, questions.opposites),
    "animals": (5, questions.animals),
    "translation": (3, questions.translation),
    "emoji": (3, questions.emoji),
    "calendar": (4, questions.calendar),
    "letters": (3, questions.letters),
    "json": (5, dialogues.json_object),
    "tools": (4, dialogues.tool_use),
    "memory": (6, dialogues.memory),
    "greetings": (2, questions.greetings),
    "self": (3, questions.about_self),
    "mesh": (7, questions.about_mesh),
    "unknown": (3, questions.unknown),
}
STORY_WEIGHT = 5.0

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are Tiny, a small model of the mesh.",
    "Answer in one sentence.",
    "You are a friendly assistant. Answer briefly.",
    "Be brief.",
    "You are a chat model.",
)


@dataclass(frozen=True)
class Document:
    """One conversation, or one plain story where `messages` is empty."""

    messages: tuple[Message, ...] = ()
    plain: str = ""

    def segments(self) -> list[tuple[str, bool]]:
        """The text as the model reads it, in pieces: (text, whether the model shall learn to write it)."""
        if self.plain:
            return [(self.plain + END_OF_TEXT, True)]
        pieces: list[tuple[str, bool]] = []
        for role, content in self.messages:
            if role == "assistant":
                pieces += [(f"{START}{role}\n", False), (content + END, True), ("\n", False)]
            else:
                pieces.append((render([Message(role, content)]), False))
        return [*pieces, (END_OF_TEXT, False)]

    def text(self) -> str:
        """The whole text, closed by the end-of-text token."""
        return "".join(piece for piece, _ in self.segments())


def documents(seed: int, count: int) -> Iterator[Document]:
    """Training documents; the same seed gives the same text."""
    rng = random.Random(seed)
    for _ in range(count):
        kind = rng.random()
        if kind < 0.05:
            yield Document(plain=dialogues.story_text(rng))
        elif kind < 0.65:
            yield _conversation(rng, 1)
        else:
            yield _conversation(rng, rng.choice((2, 2, 3, 3, 4, 6)))


def evaluation(seed: int, per_category: int) -> list[Exchange]:
    """Fresh questions, at most `per_category` different ones of each kind, stories included."""
    rng = random.Random(seed)
    chosen: list[Exchange] = []
    for generate in [entry[1] for entry in GENERATORS.values()] + [dialogues.story]:
        found: dict[str, Exchange] = {}
        for _ in range(per_category * 300):
            exchange = generate(rng)
            if is_held_out(exchange):
                found.setdefault(wording(exchange), exchange)
            if len(found) == per_category:
                break
        chosen.extend(found.values())
    return chosen


def training_exchange(rng: random.Random) -> Exchange:
    """One question with its answer, never a held-out one."""
    names = [*GENERATORS, "story"]
    weights = [weight for weight, _ in GENERATORS.values()] + [STORY_WEIGHT]
    name = rng.choices(names, weights)[0]
    generate = dialogues.story if name == "story" else GENERATORS[name][1]
    while True:
        exchange = generate(rng)
        if not is_held_out(exchange):
            return exchange


def _conversation(rng: random.Random, turns: int) -> Document:
    exchanges = [training_exchange(rng) for _ in range(turns)]
    system = next((exchange.system for exchange in exchanges if exchange.system), "")
    if system:  # what a declared tool changes holds for the whole conversation
        exchanges = [exchange for exchange in exchanges if exchange.system in ("", system)]
        exchanges = [exchange for exchange in exchanges if exchange.system or not exchange.needs_no_tools]
    elif rng.random() < 0.3:
        system = rng.choice(SYSTEM_PROMPTS)
    messages = [Message("system", system)] if system else []
    for exchange in exchanges:
        messages.extend(exchange.history)
        messages.append(Message("user", _vary(rng, exchange.question)))
        messages.append(Message("assistant", exchange.answer))
    return Document(tuple(messages))


def _vary(rng: random.Random, question: str) -> str:
    """People forget the mark and the capital: so does a part of the training text."""
    chance = rng.random()
    if chance < 0.06:
        return question.rstrip("?.!")
    if chance < 0.1 and question[0] not in facts.LETTERS[8]:  # "I" stays
        return question[0].lower() + question[1:]
    return question
