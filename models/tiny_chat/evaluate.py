"""Measures the GGUF that ships: fresh questions, greedy, through llama.cpp, exact match by kind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from models.tiny_chat.chat import Message, render
from models.tiny_chat.corpus import evaluation
from models.tiny_chat.exchange import Exchange

DEFAULT_MODEL = Path(__file__).resolve().parent.parent / "files" / "tiny-chat.gguf"
EVALUATION_SEED = 2026
PER_CATEGORY = 40
MAX_ANSWER_TOKENS = 160
UNSCORED = "story"
"""A story has no one right answer: only whether it ends is counted."""


class Answer(NamedTuple):
    """What the model wrote, and whether it came to its end by itself."""

    text: str
    is_ended: bool


class Result(NamedTuple):
    """One question and what came of it."""

    exchange: Exchange
    answer: Answer

    @property
    def is_exact(self) -> bool:
        """The very text that was wanted, and then the end."""
        return self.answer.is_ended and self.answer.text == self.exchange.answer


def load(model: Path = DEFAULT_MODEL) -> Callable[[Sequence[Message]], Answer]:
    """A function from a conversation to the model's greedy answer. Needs llama-cpp-python."""
    import llama_cpp  # an extra of the worker: evaluation alone needs it

    llama = llama_cpp.Llama(str(model), n_ctx=1024, n_threads=1, n_threads_batch=1, verbose=False)

    def ask(messages: Sequence[Message]) -> Answer:
        prompt = llama.tokenize(render(messages, ask=True).encode(), add_bos=False, special=True)
        answer = llama.create_completion(prompt, max_tokens=MAX_ANSWER_TOKENS, temperature=0.0)
        choice = answer["choices"][0]  # type: ignore[index]
        return Answer(choice["text"], choice["finish_reason"] == "stop")

    return ask


def evaluate(ask: Callable[[Sequence[Message]], Answer], exchanges: Iterable[Exchange]) -> list[Result]:
    """Asks everything once, each question in a conversation of its own."""
    return [Result(exchange, ask(exchange.messages())) for exchange in exchanges]


def fresh_questions() -> list[Exchange]:
    """The questions behind the figures of the card."""
    return evaluation(EVALUATION_SEED, PER_CATEGORY)


def table(results: Sequence[Result]) -> str:
    """The figures by kind and in all, as a Markdown table."""
    kinds: dict[str, list[Result]] = defaultdict(list)
    for result in results:
        kinds[result.exchange.category].append(result)
    lines = ["| kind | exact | of | ended |", "|---|---|---|---|"]
    for kind, rows in kinds.items():
        exact = "–" if kind == UNSCORED else str(sum(row.is_exact for row in rows))
        lines.append(f"| {kind} | {exact} | {len(rows)} | {sum(row.answer.is_ended for row in rows)} |")
    scored = [row for row in results if row.exchange.category != UNSCORED]
    exact_count, ended = sum(row.is_exact for row in scored), sum(row.answer.is_ended for row in results)
    share = exact_count / len(scored)
    lines.append(f"| **all** | **{exact_count}** ({share:.1%}) | {len(scored)} | {ended} of {len(results)} |")
    return "\n".join(lines)


def failures(results: Sequence[Result]) -> str:
    """What was asked, wanted and answered where it was not exact."""
    wrong = [row for row in results if not row.is_exact and row.exchange.category != UNSCORED]
    return "\n".join(
        f"{row.exchange.category}: {row.exchange.question!r} "
        f"wanted {row.exchange.answer!r} got {row.answer.text!r}"
        for row in wrong
    )
