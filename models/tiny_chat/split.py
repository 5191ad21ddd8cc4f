"""The rule that keeps training and evaluation apart: the hash of a question's wording decides."""

from __future__ import annotations

import zlib

from models.tiny_chat.exchange import Exchange

HELD_OUT_ONE_IN = 8


def wording(exchange: Exchange) -> str:
    """What decides: all that the user says, in lower case, without the marks at the ends."""
    said = [message.content for message in exchange.history if message.role == "user"]
    return " / ".join(text.lower().strip(" .?!") for text in [*said, exchange.question])


def is_held_out(exchange: Exchange) -> bool:
    """True for the one in eight wordings that no training text contains."""
    return zlib.crc32(wording(exchange).encode()) % HELD_OUT_ONE_IN == 0
