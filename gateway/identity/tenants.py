"""The tenants and token issuers, kept as the tenants file says. A file that is wrong changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from gateway.identity.metrics import IdentityMetrics
from gateway.policy.identity.tenant_book import OpenTenantBook, TenantBook
from inference_mesh.background import Background
from inference_mesh.config.errors import ConfigError
from inference_mesh.config.tenants_file import Issuer, TenantsFile, parse_tenants
from inference_mesh.config.watched_file import WatchedFile


class Tenants:
    """Watches the tenants file."""

    def __init__(self, path: Path | None, metrics: IdentityMetrics, *, on_change: Callable[[], None]) -> None:
        """path: None = no file, so every name is a tenant and no token is believed."""
        self._metrics = metrics
        self._on_change = on_change
        self._book: TenantBook = OpenTenantBook() if path is None else TenantBook()
        self._issuers: tuple[Issuer, ...] = ()
        self._file: WatchedFile[TenantsFile] | None = None
        if path is not None:
            self._file = WatchedFile(
                path,
                lambda text: parse_tenants(text, source=str(path)),
                on_change=self._take,
                on_reload=self._tell,
            )

    @property
    def has_file(self) -> bool:
        """True if the tenants stand in a file, and nobody else is one."""
        return self._file is not None

    @property
    def book(self) -> TenantBook:
        """Who is a tenant."""
        return self._book

    @property
    def issuers(self) -> tuple[Issuer, ...]:
        """Whose tokens are believed."""
        return self._issuers

    @property
    def last_error(self) -> ConfigError | None:
        """What is wrong with the file now."""
        return None if self._file is None else self._file.last_error

    def start(self, background: Background) -> None:
        """Read the file, then watch it. Without a file nothing is wrong with it."""
        if self._file is None:
            self._metrics.tenants_are_good.set(True)
            return
        self._file.check()
        background.spawn("watch the tenants", self._file.watch)

    def _take(self, file: TenantsFile) -> None:
        self._book = TenantBook(file.tenants)
        self._issuers = file.issuers
        self._on_change()

    def _tell(self, error: ConfigError | None) -> None:
        self._metrics.tenants_reloads.labels("success" if error is None else "failure").inc()
        self._metrics.tenants_are_good.set(error is None)
