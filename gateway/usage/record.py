"""One record of what a call used, and its line in the log."""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import orjson


class UsageRecord(NamedTuple):
    """What one admitted call used, once it ended.

    time_s: Unix time of its end. outcome: its gRPC code, e.g. "OK". cached_tokens: of
    prompt_tokens, those that a worker had in its prefix cache. response_cached: no model ran;
    the counts are those of the first answer. It has no text, and no secret of the caller.
    """

    time_s: float
    request_id: str
    tenant: str
    key_id: str
    model: str
    version: str
    method: str
    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int
    response_cached: bool
    duration_s: float
    outcome: str

    def line(self) -> bytes:
        """The record as one line of JSON; the time in RFC 3339, UTC, to the millisecond."""
        whole_s = int(self.time_s)
        document = {
            "time": f"{_second(whole_s)}.{int((self.time_s - whole_s) * 1000):03d}Z",
            "request_id": self.request_id,
            "tenant": self.tenant,
            "key_id": self.key_id,
            "model": self.model,
            "version": self.version,
            "method": self.method,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cached_tokens": self.cached_tokens,
            "response_cached": self.response_cached,
            "duration_s": int(self.duration_s * 1e6 + 0.5) / 1e6,  # `round` takes as long as all the rest
            "outcome": self.outcome,
        }
        return orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)


@functools.lru_cache(maxsize=16)
def _second(time_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_s))
