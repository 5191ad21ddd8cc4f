"""The store that all gateways share: one hash in Redis for each canary.

Owns the connection, the stored form and the scripts. The hash has the progress, when the step
began by Redis' clock, and a field of samples for each gateway; a gateway's field is replaced by
what it reports, never added to, so that a lost answer or a repeated call changes nothing.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Awaitable
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from gateway.canary.canary_store import CanaryKey, CanaryReport, CanaryStoreError, StoredCanary
from gateway.policy.routing.canary import CanaryPhase, Progress
from gateway.policy.routing.samples import StepSamples, samples_from

CALL_LIMIT_S = 1.0
"""Longest that one call waits for Redis. No request ever does."""
JUDGE_LEASE_S = 2.0
"""After how long another gateway judges in the place of one that is silent."""
KEPT_S = 30 * 86_400
"""How long a canary is kept of which no gateway reports."""
MAX_CONNECTIONS = 4
"""One for the rounds and one for an operator who asks, and what is left behind by a failure."""
MAX_GATEWAYS = 1000
"""Fields of samples in one canary; a gateway that starts again has a new one."""

SAMPLES = "samples:"

T = TypeVar("T")

REPORT_SCRIPT = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local field, phase, step, revision, reason, age_us, samples, kept_ms, lease_ms, most =
  unpack(ARGV, 2)
local stored = tonumber(redis.call('HGET', KEYS[1], 'revision') or '0')
if stored < tonumber(revision) then
  redis.call('HSET', KEYS[1], 'phase', phase, 'step', step, 'revision', revision, 'reason', reason,
    'since', string.format('%.0f', now - tonumber(age_us)))
end
local found = redis.call('HMGET', KEYS[1], 'phase', 'step', 'revision', 'reason', 'since')
if samples ~= '' and found[2] == step then
  if redis.call('HEXISTS', KEYS[1], field) == 1 or redis.call('HLEN', KEYS[1]) < tonumber(most) then
    redis.call('HSET', KEYS[1], field, samples)
  end
end
redis.call('PEXPIRE', KEYS[1], kept_ms)
local judge, is_judge = redis.call('GET', KEYS[2]), 0
if not judge or judge == ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1], 'PX', lease_ms)
  is_judge = 1
end
local age = string.format('%.0f', now - tonumber(found[5]))
return {found[1], found[2], found[3], found[4], age, is_judge}
"""

MOVE_SCRIPT = """
if redis.call('HGET', KEYS[1], 'revision') ~= ARGV[1] then return 0 end
if redis.call('HGET', KEYS[1], 'step') ~= ARGV[3] then
  for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 8) == 'samples:' then redis.call('HDEL', KEYS[1], field) end
  end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
redis.call('HSET', KEYS[1], 'phase', ARGV[2], 'step', ARGV[3], 'revision', ARGV[4], 'reason', ARGV[5],
  'since', string.format('%.0f', now))
return 1
"""


class RedisCanaryStore:
    """Owns the connection to the Redis of one URL."""

    def __init__(self, url: str, *, gateway_id: str) -> None:
        """url: redis://, rediss:// or unix://. Nothing is connected yet.

        Raises ValueError for another kind of URL.
        """
        # Any: redis-py leaves these methods without types.
        self._redis: Any = Redis.from_url(
            url,
            protocol=2,
            decode_responses=True,
            retry=Retry(NoBackoff(), 0),
            max_connections=MAX_CONNECTIONS,
            # Its own timeouts use asyncio.wait_for, which loses a cancellation (python/cpython#86296).
            socket_timeout=None,
            socket_connect_timeout=None,
        )
        # A process that is started again under its name has not seen what the one before it saw.
        self._id = f"{gateway_id}:{secrets.token_hex(4)}"

    @property
    def is_shared(self) -> bool:
        """Every gateway of this Redis sees it."""
        return True

    async def report(self, key: CanaryKey, report: CanaryReport) -> StoredCanary:
        """As in the protocol; the judge is who holds a lease that ends if it is silent."""
        name = _name(key)
        reply = await self._call(
            self._redis.eval(REPORT_SCRIPT, 2, name, f"{name}:judge", self._id, *self._words(report))
        )
        try:
            phase, step, revision, reason, age_us, is_judge = reply
            progress = Progress(CanaryPhase(phase), int(step), int(revision), str(reason))
            return StoredCanary(progress, max(0.0, int(age_us) / 1e6), bool(is_judge))
        except (ValueError, TypeError) as error:
            raise CanaryStoreError("not the form of a canary") from error

    async def samples(self, key: CanaryKey, step: int) -> tuple[StepSamples, ...]:
        """As in the protocol. What another release of the gateway wrote in another form is left out."""
        fields = await self._call(self._redis.hgetall(_name(key)))
        found = (_parsed(text, step) for field, text in fields.items() if field.startswith(SAMPLES))
        return tuple(samples for samples in found if samples is not None)

    async def move(self, key: CanaryKey, after: int, progress: Progress) -> None:
        """As in the protocol."""
        words = (str(after), progress.phase.value, progress.step, progress.revision, progress.reason)
        await self._call(self._redis.eval(MOVE_SCRIPT, 1, _name(key), *words))

    async def forget(self, key: CanaryKey) -> None:
        """As in the protocol."""
        await self._call(self._redis.delete(_name(key), f"{_name(key)}:judge"))

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    def _words(self, report: CanaryReport) -> tuple[str | int, ...]:
        """What follows the gateway's id, in the script's order."""
        known = report.progress or Progress()
        written = json.dumps([known.step, report.samples.document()], separators=(",", ":"))
        return (
            SAMPLES + self._id,
            known.phase.value,
            known.step,
            known.revision,
            known.reason,
            round(report.step_age_s * 1e6),
            written if report.samples.has_calls else "",
            KEPT_S * 1000,
            round(JUDGE_LEASE_S * 1000),
            MAX_GATEWAYS,
        )

    async def _call(self, call: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(CALL_LIMIT_S):
                return await call
        except (RedisError, OSError, TimeoutError, ValueError) as error:
            raise CanaryStoreError(type(error).__name__) from error


def _name(key: CanaryKey) -> str:
    """The key in Redis; the hash tag keeps it and its judge on one node of a cluster."""
    return f"{{mesh-canary:{key.model}:{key.spec}}}"


def _parsed(text: str, step: int) -> StepSamples | None:
    """Samples of that step, or None."""
    try:
        match json.loads(text):
            case [int(of), document] if of == step:
                return samples_from(document)
    except ValueError:
        return None
    return None
