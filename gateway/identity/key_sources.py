"""Where the public keys of one issuer come from: a file that is watched, or an address that is asked.

Owns the last good keys and how often an address is asked. While a file is wrong or an address
does not answer, the last good keys stay. Which key fits a token is the policy's decision.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import httpx

from gateway.identity.metrics import IdentityMetrics
from gateway.policy.identity.key_set import KeySet, parse_key_set
from inference_mesh import telemetry
from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.watched_file import WatchedFile

log = telemetry.get_logger(__name__)

MAX_KEY_SET_BYTES = 1024 * 1024
"""Room for more than a thousand RSA keys."""
MARGIN_S = 0.5
"""How much longer a caller waits than the asking takes, so that the asking's end comes first."""

OnChange = Callable[[], None]


class KeySource(Protocol):
    """The keys of one issuer."""

    @property
    def keys(self) -> KeySet:
        """The last good keys; none before there were some."""

    @property
    def last_error(self) -> ConfigError | None:
        """Why the keys are not the newest."""

    def may_ask(self) -> bool:
        """Whether asking for newer keys now could bring some."""

    async def ask(self) -> None:
        """Wait until the keys are as new as they can be had now; never raises."""

    async def run(self) -> None:
        """Keep the keys new for ever."""


class KeySetFile:
    """A JWKS file; its keys are there at once, and follow the file."""

    def __init__(self, path: Path, issuer: str, metrics: IdentityMetrics, on_change: OnChange) -> None:
        self._issuer = issuer
        self._metrics = metrics
        self._file: WatchedFile[KeySet] = WatchedFile(
            path,
            lambda text: parse_key_set(text, source=str(path)),
            on_change=lambda _: on_change(),
            on_reload=self._tell,
        )
        self._file.check()

    @property
    def keys(self) -> KeySet:
        """The last good keys; none before there were some."""
        return self._file.value or KeySet()

    @property
    def last_error(self) -> ConfigError | None:
        """Why the keys are not the newest."""
        return self._file.last_error

    def may_ask(self) -> bool:
        """Never: the file is watched, and asking brings nothing more."""
        return False

    async def ask(self) -> None:
        """Nothing to wait for."""

    async def run(self) -> None:
        """Keep the keys as the file has them."""
        await self._file.watch()

    def _tell(self, error: ConfigError | None) -> None:
        self._metrics.note_key_set(self._issuer, size=len(self.keys), is_good=error is None)


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """How often an address is asked, in seconds.

    period_s: between two askings that went well; retry_s: after one that failed;
    unknown_key_s: between two that were brought on by a key that nobody knows; timeout_s: for
    one answer, from the first byte sent to the last received.
    """

    period_s: float = 300.0
    retry_s: float = 30.0
    unknown_key_s: float = 30.0
    timeout_s: float = 2.0


class KeySetEndpoint:
    """A JWKS address. One task asks it, so that no two askings ever run at once."""

    def __init__(
        self,
        url: str,
        issuer: str,
        metrics: IdentityMetrics,
        on_change: OnChange,
        pace: Pace = Pace(),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._url = url
        self._issuer = issuer
        self._metrics = metrics
        self._on_change = on_change
        self._pace = pace
        self._clock = clock
        self._keys = KeySet()
        self._body = b""
        self._error: ConfigError | None = None
        self._trust: ssl.SSLContext | None = None
        self._was_asked = False
        self._is_wanted = asyncio.Event()
        self._answered: asyncio.Future[None] | None = None
        self._last_unknown_s = -float("inf")

    @property
    def keys(self) -> KeySet:
        """The last good keys; none before there were some."""
        return self._keys

    @property
    def last_error(self) -> ConfigError | None:
        """Why the keys are not the newest."""
        return self._error

    def may_ask(self) -> bool:
        """Whether an asking runs that can be joined, or another one is allowed."""
        is_under_way = self._answered is not None or not self._was_asked
        return is_under_way or self._clock() - self._last_unknown_s >= self._pace.unknown_key_s

    async def ask(self) -> None:
        """Wait for the asking that runs, or for one more if that is allowed; never raises.

        Takes as long as one answer may take, and a margin, at most.
        """
        if not self.may_ask():
            return
        if self._answered is None:
            self._answered = asyncio.get_running_loop().create_future()
            if self._was_asked:
                self._last_unknown_s = self._clock()
            self._is_wanted.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._pace.timeout_s + MARGIN_S):
                await asyncio.shield(self._answered)

    async def run(self) -> None:
        """Ask now, and again when it is time or somebody wants it."""
        while True:
            await self._refresh()
            wait_s = self._pace.period_s if self._error is None else self._pace.retry_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._is_wanted.wait()

    async def _refresh(self) -> None:
        answered = self._answered or asyncio.get_running_loop().create_future()
        self._answered = answered
        try:
            async with asyncio.timeout(self._pace.timeout_s):
                body = await self._fetched()
            if body != self._body:
                # In a thread: a thousand keys take longer than the event loop can be spared.
                self._keys = await asyncio.to_thread(_parsed, body, self._url)
                self._body = body
                self._on_change()
            self._note(None)
        except TimeoutError:
            self._note(f"did not answer within {self._pace.timeout_s:g} s")
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            self._note(f"cannot be asked: {type(error).__name__}")
        except ConfigError as error:
            self._note(str(error.problems[0]))
        finally:
            self._was_asked = True
            self._is_wanted.clear()
            self._answered = None
            if not answered.done():
                answered.set_result(None)

    async def _fetched(self) -> bytes:
        """The answer's body. Raises httpx.HTTPError, OSError, ConfigError."""
        if self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)
        body = bytearray()
        async with (
            httpx.AsyncClient(trust_env=False, verify=self._trust, timeout=self._pace.timeout_s) as client,
            client.stream("GET", self._url, headers={"accept-encoding": "identity"}) as response,
        ):
            if response.status_code != httpx.codes.OK:
                raise ConfigError(self._url, (Problem("", f"answered {response.status_code}"),))
            async for part in response.aiter_raw():
                body += part
                if len(body) > MAX_KEY_SET_BYTES:
                    message = f"answered more than {MAX_KEY_SET_BYTES} bytes"
                    raise ConfigError(self._url, (Problem("", message),))
        return bytes(body)

    def _note(self, problem: str | None) -> None:
        """Count one asking, and log it if it changes what is known of the address."""
        before = self._error
        self._error = None if problem is None else ConfigError(self._url, (Problem("", problem),))
        if self._error is None:
            if before is not None or not self._was_asked:
                log.info("an issuer's keys are known", issuer=self._issuer, keys=len(self._keys))
        elif str(before) != str(self._error):
            log.error("an issuer's keys cannot be renewed, the last good ones stay", reason=str(self._error))
        self._metrics.note_key_set(self._issuer, size=len(self._keys), is_good=problem is None)


def _parsed(body: bytes, source: str) -> KeySet:
    try:
        return parse_key_set(body.decode("utf-8"), source=source)
    except UnicodeDecodeError:
        raise ConfigError(source, (Problem("", "is not UTF-8"),)) from None
