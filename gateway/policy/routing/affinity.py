"""Which replica has the beginning of a prompt in its cache. Pure.

Every gateway computes it alike, without shared state: the replica with the highest score for
the beginning, unless it has far more than its share of the work; then the next. The key
of a tenant's beginning has the tenant's salt in it, as the workers' caches have.
Sources: Thaler & Ravishankar 1998 (rendezvous hashing); Mirrokni, Thorup & Zadimoghaddam 2018
(consistent hashing with bounded loads).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from typing import TypeVar

from gateway.policy.routing.replica import Replica, weight_of, work_of
from inference_mesh.v1 import payload_pb2

BOUND = 1.25
"""No replica gets more than so many times its share because of its cache."""
PROMPT_CHARACTERS = 512
PROMPT_TOKENS = 128
CHAT_CHARACTERS = 16 * 1024

_MASK = 0xFFFFFFFF
_FACTOR = 0x45D9F3B


R = TypeVar("R", bound=Replica)


def beginning_of(generate: payload_pb2.Generate, source: str | None) -> bytes:
    """What a prompt begins with. source: which input is set, by `WhichOneof("input")`.

    Of a chat: up to and with the first user message, so that all turns of a conversation have
    the same one. Of a prompt: its first characters or tokens.
    """
    if source == "chat":
        return "\0".join(_until_user(generate.chat))[:CHAT_CHARACTERS].encode()
    if source == "prompt":
        return generate.prompt[:PROMPT_CHARACTERS].encode()
    return repr(generate.tokens.ids[:PROMPT_TOKENS]).encode()


def prefix_hash(salt: str, beginning: bytes) -> int:
    """What stands for a beginning of a tenant: 32 bits, as a clash only shares a home."""
    return zlib.crc32(beginning, zlib.crc32(salt.encode("utf-8", "surrogatepass")))


def by_prefix(candidates: Sequence[R], prefix: int, now_s: float) -> tuple[R, bool] | None:
    """The first replica of the prefix's ranking that is not over its bound; None without any.

    And whether it is the very first.
    """
    first, first_score, works, weights = None, -1, 0.0, 0.0
    for one in candidates:
        works += work_of(one, now_s)
        weights += weight_of(one, now_s)
        score = _score(prefix, one.address_hash)
        if score > first_score:
            first, first_score = one, score
    per_weight = BOUND * (works + 1.0) / (weights or 1.0)
    if first is None or _has_room(first, per_weight, now_s):
        return None if first is None else (first, True)
    others = [one for one in candidates if _has_room(one, per_weight, now_s)]
    if not others:
        return None
    return max(others, key=lambda one: _score(prefix, one.address_hash)), False


def _has_room(one: Replica, per_weight: float, now_s: float) -> bool:
    """Whether a replica is not over its bound."""
    return work_of(one, now_s) < math.ceil(per_weight * weight_of(one, now_s))


def _until_user(chat: payload_pb2.Chat) -> list[str]:
    """The roles and texts of the messages up to and with the first one of the user."""
    texts: list[str] = []
    for message in chat.messages:
        role = message.role
        texts += role, message.content
        if role == "user":
            break
    return texts


def _score(prefix: int, address: int) -> int:
    """Mixes both well, fast: no product is beyond 60 bits (Mueller's integer hash, after Wang)."""
    mixed = prefix ^ address
    mixed = ((mixed ^ (mixed >> 16)) * _FACTOR) & _MASK
    mixed = ((mixed ^ (mixed >> 16)) * _FACTOR) & _MASK
    return mixed ^ (mixed >> 16)
