"""The API keys, kept as the key file says. A file that is wrong changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from gateway.metrics import GatewayMetrics
from inference_mesh.background import Background
from inference_mesh.config.errors import ConfigError
from inference_mesh.config.keys_file import ApiKey, parse_keys
from inference_mesh.config.watched_file import WatchedFile


class Keyring:
    """Watches the key file."""

    def __init__(self, path: Path | None, metrics: GatewayMetrics, *, on_change: Callable[[], None]) -> None:
        """path: None = no file, so no key is ever valid."""
        self._metrics = metrics
        self._on_change = on_change
        self._keys: dict[str, ApiKey] = {}
        self._file: WatchedFile[tuple[ApiKey, ...]] | None = None
        if path is not None:
            self._file = WatchedFile(
                path,
                lambda text: parse_keys(text, source=str(path)),
                on_change=self._take,
                on_reload=self._tell,
            )

    @property
    def keys(self) -> Mapping[str, ApiKey]:
        """The keys by id."""
        return self._keys

    @property
    def last_error(self) -> ConfigError | None:
        """What is wrong with the file now."""
        return None if self._file is None else self._file.last_error

    def start(self, background: Background) -> None:
        """Read the file, then watch it. Without a file nothing is wrong with it."""
        if self._file is None:
            self._metrics.keys_are_good.set(True)
            return
        self._file.check()
        background.spawn("watch the keys", self._file.watch)

    def _take(self, keys: tuple[ApiKey, ...]) -> None:
        self._keys = {key.id: key for key in keys}
        self._on_change()

    def _tell(self, error: ConfigError | None) -> None:
        self._metrics.keys_reloads.labels("success" if error is None else "failure").inc()
        self._metrics.keys_are_good.set(error is None)
