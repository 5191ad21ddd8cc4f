"""Who calls. The one owner of keys, tenants, issuers, and the callers that are verified already.

Every refusal reads the same, whatever is wrong. A credential that was verified is believed until
it ends or a file changes. Does not own what a caller may do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from pathlib import Path

from gateway.identity.caller_cache import CallerCache
from gateway.identity.issuers import Issuers, KnownIssuer
from gateway.identity.keyring import Keyring
from gateway.identity.metrics import IdentityMetrics
from gateway.identity.tenants import Tenants
from gateway.metrics import GatewayMetrics
from gateway.policy.facts import Caller, Credentials, RefusalKind, Refuse
from gateway.policy.identity.api_keys import authenticate, caller_of_key, tenant_salt
from gateway.policy.identity.tokens import (
    MAX_TOKEN_CHARACTERS,
    UnverifiedToken,
    caller_of_token,
    read_token,
)
from inference_mesh import telemetry
from inference_mesh.background import Background

log = telemetry.get_logger(__name__)

NO_KEYS = "no keys are loaded: every call is refused"
REFUSED = Refuse(RefusalKind.UNAUTHENTICATED, "missing or invalid credentials")


class Identities:
    """Verifies credentials."""

    def __init__(
        self, keys: Path | None, tenants: Path | None, *, requires_key: bool, metrics: GatewayMetrics
    ) -> None:
        """keys, tenants: the files; None = there is none.

        requires_key: whether a call without a valid credential is refused; else it is nobody's
        in particular.
        """
        self._requires_key = requires_key
        self._metrics = IdentityMetrics(metrics.registry)
        self._callers = CallerCache()
        self._metrics.known_callers.set_function(lambda: len(self._callers))
        self._keyring = Keyring(keys, metrics, on_change=self._follow_keys)
        self._tenants = Tenants(tenants, self._metrics, on_change=self._follow_tenants)
        folder = Path() if tenants is None else tenants.parent
        self._issuers = Issuers(folder, self._metrics, on_change=self._callers.clear)
        self._was_open = True
        self._stranger: Caller | Refuse = REFUSED if requires_key else Caller()

    @property
    def lets_callers_in(self) -> bool:
        """False if every call is refused because nobody can prove who they are."""
        return not self._requires_key or self._has_credentials

    @property
    def detail(self) -> dict[str, str]:
        """For /readyz: how callers are known, or why none can be."""
        tenants = (
            f"{len(self._tenants.book)} tenants" if self._tenants.has_file else "no file: any name is one"
        )
        detail = {"keys": self._keys_text(), "tenants": str(self._tenants.last_error or tenants)}
        if self._issuers:
            detail["issuers"] = "; ".join(self._issuers.problems) or f"{len(self._issuers)} issuers"
        return detail

    def start(self, background: Background) -> None:
        """Read the files, then follow them."""
        self._issuers.start(background)
        self._tenants.start(background)
        self._keyring.start(background)
        self._warn_if_closed()

    def try_identify(self, credentials: Credentials, wall_time_s: float) -> Caller | Refuse | None:
        """Who calls; None if only `identify` can tell, because an issuer's keys must be asked for.

        wall_time_s: Unix time.
        """
        text = credentials.text
        if text is None:
            return self._of_certificate(credentials.certificate_names)
        if len(text) > MAX_TOKEN_CHARACTERS:
            return self._refuse("token")
        digest = hashlib.sha256(text.encode()).digest()
        caller = self._callers.get(digest, wall_time_s)
        if caller is not None:
            return caller
        token = read_token(text)
        if token is None:
            return self._of_key(text, digest, wall_time_s)
        known = self._issuers.named(token.issuer)
        if known is not None and known.must_ask(token):
            return None
        return self._of_token(token, known, digest, wall_time_s)

    async def identify(self, credentials: Credentials, wall_time_s: float) -> Caller | Refuse:
        """Who calls, after asking for the keys of the token's issuer if need be.

        Waits for one answer of the issuer at most (2.5 s), and only where `try_identify` is None.
        """
        found = self.try_identify(credentials, wall_time_s)
        if found is not None:
            return found
        text = credentials.text or ""
        token = read_token(text)
        known = None if token is None else self._issuers.named(token.issuer)
        if token is None or known is None:
            return self._refuse("token")
        await known.source.ask()
        # By its name again: the tenants file may have changed meanwhile.
        known = self._issuers.named(token.issuer)
        return self._of_token(token, known, hashlib.sha256(text.encode()).digest(), wall_time_s)

    def _of_key(self, text: str, digest: bytes, wall_time_s: float) -> Caller | Refuse:
        key = authenticate(text, self._keyring.keys, wall_time_s)
        tenant = None if key is None else self._tenants.book.named(key.tenant)
        if key is None or tenant is None:
            return self._refuse("key")
        return self._believe("key", digest, caller_of_key(key, tenant))

    def _of_token(
        self, token: UnverifiedToken, known: KnownIssuer | None, digest: bytes, wall_time_s: float
    ) -> Caller | Refuse:
        if known is None:
            return self._refuse("token")
        keys = known.source.keys
        caller = caller_of_token(token, known.issuer, keys, self._tenants.book, wall_time_s)
        return self._refuse("token") if caller is None else self._believe("token", digest, caller)

    def _of_certificate(self, names: tuple[str, ...]) -> Caller | Refuse:
        if not names:
            return self._stranger
        caller = self._callers.get(names, 0.0)
        if caller is not None:
            return caller
        tenant = self._tenants.book.certified(names)
        if tenant is None:
            return self._refuse("certificate")
        caller = Caller(tenant=tenant, salt=tenant_salt(tenant.name))
        return self._believe("certificate", names, caller)

    def _believe(self, kind: str, digest: Hashable, caller: Caller) -> Caller:
        self._metrics.checks.labels(kind, "verified").inc()
        self._callers.put(digest, caller)
        return caller

    def _refuse(self, kind: str) -> Caller | Refuse:
        self._metrics.checks.labels(kind, "refused").inc()
        return self._stranger

    def _follow_tenants(self) -> None:
        self._issuers.replace(self._tenants.issuers)
        self._callers.clear()

    def _follow_keys(self) -> None:
        self._callers.clear()
        self._warn_if_closed()

    def _warn_if_closed(self) -> None:
        was_open, self._was_open = self._was_open, self.lets_callers_in
        if was_open and not self._was_open:
            log.warning(NO_KEYS, reason=str(self._keyring.last_error or "the file has none"))

    @property
    def _has_credentials(self) -> bool:
        return bool(self._keyring.keys or self._issuers or self._tenants.book.knows_certificates)

    def _keys_text(self) -> str:
        if not self._requires_key:
            return "open: no key is needed"
        reason = self._keyring.last_error
        if not self._has_credentials:
            return NO_KEYS if reason is None else f"{NO_KEYS}; {reason}"
        return f"{len(self._keyring.keys)} keys" if reason is None else str(reason)
