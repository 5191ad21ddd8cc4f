"""Which replica has the beginning of a prompt in its cache. Pure.

Every gateway computes it alike, without shared state: the replica with the highest score for
the beginning, unless it has far more than its share of the work; then the next. The key
of a tenant's beginning has the tenant's salt in it, as the workers' caches have.
Sources: Thaler & Ravishankar 1998 (rendezvous hashing); Mirrokni, Thorup & Zadimoghaddam 2018
(consistent hashing with bounded loads).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Protocol, TypeVar

from gateway.policy.routing.protobuf_fields import LENGTH_DELIMITED, Span, fields, part

BOUND = 1.25
"""No replica gets more than so many times its share because of its cache."""
PROMPT_BYTES = 512
CHAT_BYTES = 16 * 1024

_PAYLOAD, _GENERATE = 4, 1
_PROMPT, _CHAT, _TOKENS = 1, 2, 3
_MESSAGES, _ROLE = 1, 1
_MASK = (1 << 64) - 1


class Candidate(Protocol):
    """A replica that could take the call."""

    @property
    def address_hash(self) -> int:
        """Of its address: `address_hash`."""

    def work(self, now_s: float) -> float:
        """Calls that it works on."""

    def weight(self, now_s: float) -> float:
        """How much it takes, relative to the others."""


C = TypeVar("C", bound=Candidate)


def prefix_of(request: bytes) -> bytes | None:
    """What a native request's prompt begins with; None if it makes no text.

    Of a chat: up to and with the first user message, so that all turns of a conversation have
    the same one. Of a prompt: its first bytes.
    """
    payload = part(request, _PAYLOAD)
    generate = part(request, _GENERATE, payload) if payload else None
    if generate is None:
        return None
    for span in fields(request, generate.start, generate.end):
        if span.wire_type == LENGTH_DELIMITED and span.number in (_PROMPT, _TOKENS):
            return request[span.start : min(span.end, span.start + PROMPT_BYTES)]
        if span.wire_type == LENGTH_DELIMITED and span.number == _CHAT:
            return _beginning_of_chat(request, span)
    return None


def prefix_hash(salt: str, prefix: bytes) -> int:
    """64 bits that stand for a beginning of a tenant."""
    digest = hashlib.blake2b(prefix, digest_size=8, key=salt.encode("utf-8", "surrogatepass")[:64])
    return int.from_bytes(digest.digest(), "little")


def address_hash(address: str) -> int:
    """64 bits that stand for a replica."""
    return int.from_bytes(hashlib.blake2b(address.encode(), digest_size=8).digest(), "little")


def by_prefix(candidates: Sequence[C], prefix: int, now_s: float) -> tuple[C, bool] | None:
    """The first replica of the prefix's ranking that is not over its bound; None without any.

    And whether it is the very first.
    """
    works = [one.work(now_s) for one in candidates]
    weights = [one.weight(now_s) for one in candidates]
    per_weight = BOUND * (sum(works) + 1.0) / (sum(weights) or 1.0)
    best, best_score, top_score = None, -1, -1
    for one, work, weight in zip(candidates, works, weights, strict=True):
        score = _score(prefix, one.address_hash)
        top_score = max(top_score, score)
        if score > best_score and work < math.ceil(per_weight * weight):
            best, best_score = one, score
    return None if best is None else (best, best_score == top_score)


def _beginning_of_chat(request: bytes, chat: Span) -> bytes:
    """The messages up to and with the first one of the user."""
    for message in fields(request, chat.start, chat.end):
        role = part(request, _ROLE, message) if message.number == _MESSAGES else None
        if role is not None and request[role.start : role.end] == b"user":
            return request[chat.start : min(message.end, chat.start + CHAT_BYTES)]
    return request[chat.start : min(chat.end, chat.start + CHAT_BYTES)]


def _score(prefix: int, address: int) -> int:
    """Mixes both well, fast: the finaliser of splitmix64 (Steele, Lea & Flood 2014)."""
    mixed = (prefix ^ address) & _MASK
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
    return mixed ^ (mixed >> 31)
