"""The ledger in Redis: one connection, one script call for each exchange.

Owns the connection and the wire form of reports and answers. When to exchange, and how long to
wait, is the matter of `leases`; what Redis does with a report stands in `lease_script`.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import secrets
from collections.abc import Iterator, Sequence
from typing import Any

from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from gateway.limits.lease_script import HEAD_VALUES, LEASE_SCRIPT, VALUES_PER_RULE
from gateway.limits.ledger import Exchange, LedgerError
from gateway.policy.limits.lease import Answer, Report

PREFIX = "{mesh-limits}:"
"""Begins every key; the hash tag keeps them on one node of a cluster."""

SETTLE_S = 1.5
"""How long a Redis that lost its memory gathers reports; every gateway reports at least twice in it."""
SILENCE_S = 2.5
"""After how long without any gateway, each of which calls every second, it gathers likewise."""
CALL_LEASE_S = 5.0
"""After how long the calls of a gateway that is silent are taken to be gone."""
RATE_CHUNK_S = 1.0
"""Most that is leased of a rate beyond what is asked for, as time at that rate."""
FAREWELL_LIMIT_S = 0.25
"""Longest wait for Redis when a gateway stops."""
LEAVING = -1
"""Said in place of the number of gateways by one that stops."""

Reply = list[bytes | int]


class RedisLedger:
    """Owns the connection to the Redis of one URL."""

    def __init__(self, url: str, *, gateway_id: str, replicas: int) -> None:
        """url: redis://, rediss:// or unix://. gateway_id: this gateway's name. replicas: how many share.

        Raises ValueError for another kind of URL. Nothing is connected yet.
        """
        # Any: redis-py leaves these methods without types.
        self._pool: Any = ConnectionPool.from_url(
            url,
            protocol=2,
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
        )
        self._connection: AbstractConnection | None = None
        # A process that is started again under its name has not what the one before it had.
        self._id = f"{gateway_id}:{secrets.token_hex(4)}"
        self._replicas = replicas
        self._sequence = 0
        # What is told after a loss: of which memory of Redis how many gateways are known.
        self._life, self._peers = "", 0
        self._is_all_told = False
        self._sha1 = hashlib.sha1(LEASE_SCRIPT.encode(), usedforsecurity=False).hexdigest()

    async def exchange(self, reports: Sequence[Report]) -> Exchange:
        """Report and be granted. Raises LedgerError; then, or if cancelled, the connection is dropped."""
        is_done = False
        try:
            reply = await self._call(reports)
            exchange = exchange_of(reply, reports)
            # Whose memory it was stays on the tongue until it was said together with "all told".
            if self._is_all_told and not exchange.is_settling:
                self._life, self._peers = _text(reply[3]), int(reply[4])
            is_done = True
        except (RedisError, OSError, EOFError, ValueError, UnicodeError) as error:
            raise LedgerError(type(error).__name__) from error
        finally:
            if not is_done:
                await self._drop()
        return exchange

    def note_all_told(self) -> None:
        """All that this gateway holds was reported over this connection; Redis may count on it."""
        self._is_all_told = True

    async def close(self) -> None:
        """Say that this gateway is gone, if that can be said at once, and let go of the connection."""
        if self._connection is not None:
            self._peers = LEAVING
            with contextlib.suppress(RedisError, LedgerError, OSError, EOFError, TimeoutError):
                async with asyncio.timeout(FAREWELL_LIMIT_S):
                    await self._call([])
        await self._drop()

    async def _call(self, reports: Sequence[Report]) -> Reply:
        if self._connection is None:
            connection: Any = self._pool.make_connection()
            self._connection = connection
            await connection.connect()
        self._sequence += 1
        keys = (f"{PREFIX}epoch", f"{PREFIX}gateway:{self._id}", *(PREFIX + one.rule.name for one in reports))
        arguments = (*self._common(), *(value for one in reports for value in arguments_of(one)))
        tail = (len(keys), *keys, *arguments)
        try:
            return await self._command("EVALSHA", self._sha1, *tail)
        except NoScriptError:
            return await self._command("EVAL", LEASE_SCRIPT, *tail)

    async def _command(self, *words: str | float) -> Reply:
        connection = self._connection
        if connection is None:
            raise LedgerError("no connection")
        await connection.send_command(*words)
        reply: Reply = await connection.read_response()
        return reply

    def _common(self) -> tuple[str | int, ...]:
        limits_s = (SETTLE_S, SILENCE_S, CALL_LEASE_S, RATE_CHUNK_S)
        limits_us = (round(one * 1e6) for one in limits_s)
        return (
            self._id,
            self._sequence,
            self._replicas,
            *limits_us,
            self._life,
            self._peers,
            int(self._is_all_told),
        )

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self._is_all_told = False
        if connection is not None:
            await connection.disconnect(nowait=True)


def arguments_of(report: Report) -> Iterator[str | float]:
    """The words of one report, in the script's order."""
    rule = report.rule
    span_s = rule.interval_s if rule.kind == "requests" else rule.window_s
    yield from (rule.kind, rule.amount, repr(span_s * 1e6))
    yield from (report.number, report.total, report.need, report.wish, report.spare)
    yield from (report.lost, repr(report.lost_at_us), repr(report.reached_us), report.debt, report.back)


def exchange_of(reply: Reply, reports: Sequence[Report]) -> Exchange:
    """What a reply says. Raises ValueError if it is not the script's."""
    if len(reply) != HEAD_VALUES + VALUES_PER_RULE * len(reports):
        raise ValueError("not an answer to these reports")
    now_us, epoch, is_settling, _, gateways, is_withholding = reply[:HEAD_VALUES]
    starts = range(HEAD_VALUES, len(reply), VALUES_PER_RULE)
    answers = tuple(answer_of(reply[start : start + VALUES_PER_RULE]) for start in starts)
    return Exchange(
        answers, float(now_us), _text(epoch), bool(int(is_settling)), bool(int(is_withholding)), int(gateways)
    )


def answer_of(values: Reply) -> Answer:
    """One rule's part of a reply. Raises ValueError."""
    granted, total, remaining, number, left_us = map(int, values[:5])
    return Answer(granted, total, remaining, number, left_us / 1e6, float(values[5]), int(values[6]))


def _text(value: bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
