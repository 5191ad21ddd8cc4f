"""What sees an answer beside its caller: the response cache and the shadow.

Owns when each is asked and told. Both see whole answers only, and neither can hold up or change
a call that a model answers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from gateway.call import Call
from gateway.policy.request_cost import RequestFacts
from gateway.policy.response_cache.cache_key import Question, cache_key
from gateway.response_cache.recording import Recording
from gateway.response_cache.response_cache import ResponseCache
from gateway.response_cache.response_caches import ResponseCaches
from gateway.shadow.shadow_call import MAX_COMPARED_BYTES, ShadowCall
from gateway.shadow.shadows import CopyFacts, Shadows
from gateway.upstream.worker_call import send_initial


class Witnesses:
    """Has the cache and the shadow see calls."""

    def __init__(self, caches: ResponseCaches, shadows: Shadows) -> None:
        self._caches = caches
        self._shadows = shadows

    @contextlib.contextmanager
    def of(self, call: Call, facts: RequestFacts) -> Iterator[Witness]:
        """The witness of one call; a copy whose caller got no whole answer is given up."""
        cache = self._caches.of(call.model)
        key = _key_of(call, facts) if cache is not None else None
        witness = Witness(call, cache if key is not None else None, key or b"", self._shadows)
        try:
            yield witness
        finally:
            witness.end()


class Witness:
    """What sees one call."""

    def __init__(self, call: Call, cache: ResponseCache | None, key: bytes, shadows: Shadows) -> None:
        """cache: None = the answer may not be kept. key: of the question."""
        self._call = call
        self._cache = cache
        self._key = key
        self._shadows = shadows
        self._copy: ShadowCall | None = None

    async def kept(self) -> tuple[bytes, ...] | None:
        """The messages of a kept answer, whose head is told to the caller; None if there is none."""
        call = self._call
        if self._cache is None:
            return None
        found = self._cache.find(self._key, asyncio.get_running_loop().time())
        call.cache = "miss" if found is None else "hit"
        if found is None:
            return None
        call.usage = found.usage
        await send_initial(call, ())
        messages = found.messages(call.request_id)
        call.delivered, call.delivered_tokens = len(messages), found.usage.completion_tokens
        call.last_message = messages[-1]
        return messages

    def begin(self, message: bytes) -> None:
        """The call goes to a worker now: send a copy along, once."""
        call = self._call
        if self._copy is not None or call.fallback_from or call.admitted.model.shadow is None:
            return
        told = CopyFacts(call.request_id, call.method, call.admitted.version, call.worker_metadata())
        self._copy = self._shadows.offer(call.model, told, message)

    def record(self) -> Recording | None:
        """What is written to the caller from now on; None if nobody wants it."""
        limits = [self._cache.max_answer_bytes] if self._cache is not None else []
        if self._call.admitted.model.shadow is not None:
            limits.append(MAX_COMPARED_BYTES)
        if not limits:
            return None
        recording = Recording(max(limits))
        self._call.context = RecordingContext(self._call.context, recording)  # type: ignore[assignment]
        return recording

    def saw(self, answer: Sequence[bytes] | None) -> None:
        """The caller got this whole answer; None = it was too long to be noted."""
        call = self._call
        if answer is None or call.fallback_from:
            return
        if self._cache is not None and not any(grant.is_clamped for grant in call.grants):
            self._cache.keep(self._key, call.method, answer, asyncio.get_running_loop().time())
        if self._copy is not None:
            self._copy.finish(answer)

    def end(self) -> None:
        """The call is over."""
        if self._copy is not None:
            self._copy.discard()


def _key_of(call: Call, facts: RequestFacts) -> bytes | None:
    """The question of a call; None if its answer may not be kept."""
    decided = call.admitted
    if facts.payload is None:
        return None
    return cache_key(
        Question(
            decided.caller.salt,
            decided.model.name,
            decided.version or facts.version,
            call.method,
            facts.payload,
            decided.caller.tenant.defaults,
            decided.model.max_tokens,
        )
    )


class RecordingContext:
    """A servicer's context whose written messages are noted as well."""

    def __init__(self, context: Any, recording: Recording) -> None:
        self._context = context
        self._recording = recording

    async def write(self, message: bytes) -> None:
        """Write one message of the answer."""
        await self._context.write(message)
        self._recording.note(message)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
