"""Whose tokens are believed, each with its source of public keys.

Owns the sources and their tasks. An issuer whose address did not change keeps its keys over
every change of the tenants file. Which token is believed is the policy's decision.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

from gateway.identity.key_sources import KeySetEndpoint, KeySetFile, KeySource
from gateway.identity.metrics import IdentityMetrics
from gateway.policy.identity.tokens import UnverifiedToken
from inference_mesh.background import Background
from inference_mesh.config.tenants_file import Issuer

Location = tuple[str, str | None, str | None]
"""An issuer's name, and the file or address of its keys."""


@dataclasses.dataclass(frozen=True, slots=True)
class KnownIssuer:
    """An issuer and its keys."""

    issuer: Issuer
    source: KeySource

    def must_ask(self, token: UnverifiedToken) -> bool:
        """Whether a token may be signed by a key that is not known yet, and asking is allowed."""
        is_possible = token.algorithm in self.issuer.algorithms
        return is_possible and not self.source.keys.knows(token.key_id) and self.source.may_ask()


class Issuers:
    """The issuers of the tenants file."""

    def __init__(self, folder: Path, metrics: IdentityMetrics, *, on_change: Callable[[], None]) -> None:
        """folder: what the files of keys are relative to. on_change: told when any keys changed."""
        self._folder = folder
        self._metrics = metrics
        self._on_change = on_change
        self._known: dict[str, KnownIssuer] = {}
        self._tasks: dict[Location, asyncio.Task[None]] = {}
        self._background: Background | None = None

    def __len__(self) -> int:
        return len(self._known)

    @property
    def problems(self) -> tuple[str, ...]:
        """Sources whose keys are not the newest, and why."""
        sources = (known.source for known in self._known.values())
        return tuple(str(source.last_error) for source in sources if source.last_error is not None)

    def named(self, issuer: str) -> KnownIssuer | None:
        """The issuer whose tokens say `iss` so."""
        return self._known.get(issuer)

    def start(self, background: Background) -> None:
        """Keep every issuer's keys new from now on, also of those that come later."""
        self._background = background
        self.replace([known.issuer for known in self._known.values()])

    def replace(self, issuers: Iterable[Issuer]) -> None:
        """Believe these issuers and nobody else."""
        before = {_location(known.issuer): known.source for known in self._known.values()}
        self._known = {}
        for issuer in issuers:
            source = before.pop(_location(issuer), None) or self._source(issuer)
            self._known[issuer.issuer] = KnownIssuer(issuer, source)
            self._run(issuer, source)
        for location in before:
            self._drop(location)

    def _source(self, issuer: Issuer) -> KeySource:
        if issuer.jwks_file is not None:
            path = self._folder / issuer.jwks_file
            return KeySetFile(path, issuer.issuer, self._metrics, self._on_change)
        return KeySetEndpoint(issuer.jwks_url or "", issuer.issuer, self._metrics, self._on_change)

    def _run(self, issuer: Issuer, source: KeySource) -> None:
        location = _location(issuer)
        if self._background is not None and location not in self._tasks:
            self._tasks[location] = self._background.spawn("renew an issuer's keys", source.run)

    def _drop(self, location: Location) -> None:
        task = self._tasks.pop(location, None)
        if task is not None:
            task.cancel()
        if location[0] not in self._known:
            self._metrics.forget_issuer(location[0])


def _location(issuer: Issuer) -> Location:
    return issuer.issuer, issuer.jwks_file, issuer.jwks_url
