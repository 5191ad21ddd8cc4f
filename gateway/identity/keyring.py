"""The API keys, kept as the key file says. A file that is wrong changes nothing."""

from __future__ import annotations

from pathlib import Path

from gateway.background import Background
from gateway.metrics import GatewayMetrics
from gateway.policy.engine import PolicyEngine
from gateway.policy.facts import KeyFacts, RateLimit
from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import ApiKey, parse_keys
from inference_mesh.config.watched_file import WatchedFile


class Keyring:
    """Watches the key file and tells the policy."""

    def __init__(
        self, path: Path | None, *, requires_key: bool, policy: PolicyEngine, metrics: GatewayMetrics
    ) -> None:
        """path: None = no file, so no key is ever valid."""
        self._requires_key = requires_key
        self._policy = policy
        self._metrics = metrics
        self._count = 0
        self._file: WatchedFile[tuple[ApiKey, ...]] | None = None
        if path is not None:
            self._file = WatchedFile(
                path,
                lambda text: parse_keys(text, source=str(path)),
                on_change=self._take,
                on_reload=self._tell,
            )

    @property
    def lets_callers_in(self) -> bool:
        """False if every call is refused because there is no key."""
        return self._count > 0 or not self._requires_key

    @property
    def state(self) -> str:
        """For /readyz: how callers are known, or why none can be."""
        if not self._requires_key:
            return "open: no key is needed"
        if self._file is not None and self._file.last_error is not None:
            return str(self._file.last_error)
        return f"{self._count} keys" if self._count else "no keys are loaded: every call is refused"

    def start(self, background: Background) -> None:
        """Read the file, then watch it. Without a file nothing is wrong with it."""
        if self._file is None:
            self._metrics.keys_are_good.set(True)
            return
        self._file.check()
        background.spawn("watch the keys", self._file.watch)

    def _take(self, keys: tuple[ApiKey, ...]) -> None:
        self._count = len(keys)
        self._policy.replace_keys(facts_of(key) for key in keys)

    def _tell(self, error: ConfigError | None) -> None:
        self._metrics.keys_reloads.labels("success" if error is None else "failure").inc()
        self._metrics.keys_are_good.set(error is None)


def facts_of(key: ApiKey) -> KeyFacts:
    """What the policy knows of a key."""
    limit = None if key.requests_per_second is None else RateLimit(key.requests_per_second, key.burst)
    expires_at_s = None if key.expires is None else key.expires.timestamp()
    return KeyFacts(key.id, key.sha256, key.tenant, frozenset(key.scopes), expires_at_s, limit)
