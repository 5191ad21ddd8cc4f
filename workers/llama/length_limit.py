"""How long an answer may become, and which limit it is that ends it. Pure.

Owns the rule between the limits. Does not own whether a prompt itself is too long.
"""

from __future__ import annotations

from typing import NamedTuple

from inference_mesh.errors import InputTooLongError, TokenBudgetError
from inference_mesh.v1 import payload_pb2


class LengthLimit(NamedTuple):
    """tokens: of the whole answer, at least 1. reason: what an answer of that length ends by."""

    tokens: int
    reason: payload_pb2.LengthReason


def length_limit(
    prompt_tokens: int,
    *,
    asked: int,
    clamp: int,
    token_budget: int | None,
    context_tokens: int,
    answers: int = 1,
) -> LengthLimit:
    """The nearest limit; of equal ones the caller's own, then the context, then the clamp.

    asked: by the request, or the default. clamp: 0 = none. token_budget: of prompt and answers
    together, of which each answer gets the same share; the other limits hold for each answer.
    Raises InputTooLongError or TokenBudgetError if there is no room for one token.
    """
    room = context_tokens - prompt_tokens
    if room < 1:
        raise InputTooLongError(
            f"the prompt has {prompt_tokens} tokens; the model takes at most {context_tokens - 1}"
        )
    limits = [
        LengthLimit(asked, payload_pb2.LENGTH_REASON_MAX_TOKENS),
        LengthLimit(room, payload_pb2.LENGTH_REASON_CONTEXT),
    ]
    if clamp:
        limits.append(LengthLimit(clamp, payload_pb2.LENGTH_REASON_CLAMP))
    if token_budget is not None:
        share = (token_budget - prompt_tokens) // answers
        limits.append(LengthLimit(share, payload_pb2.LENGTH_REASON_TOKEN_BUDGET))
    nearest = min(limits, key=lambda limit: limit.tokens)
    if nearest.tokens < 1:
        raise TokenBudgetError(
            f"the prompt has {prompt_tokens} tokens; the budget holds {token_budget} with {_told(answers)}"
        )
    return nearest


def _told(answers: int) -> str:
    return "the answer" if answers == 1 else f"{answers} answers"
