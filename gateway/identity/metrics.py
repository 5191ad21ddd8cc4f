"""The metrics of identity. No label names a caller; an issuer is one that the tenants file has."""

from __future__ import annotations

import contextlib

from prometheus_client import CollectorRegistry, Counter, Gauge


class IdentityMetrics:
    """Owns the series of this room in the gateway's registry; those of the key file are the gateway's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.tenants_reloads = Counter(
            "mesh_gateway_tenants_reloads_total",
            "Readings of the tenants file after a change, by result.",
            ("result",),
            registry=registry,
        )
        self.tenants_are_good = Gauge(
            "mesh_gateway_tenants_last_reload_successful",
            "1 if the last reading of the tenants file succeeded, 0 if the one before it still applies.",
            registry=registry,
        )
        self.checks = Counter(
            "mesh_gateway_credential_checks_total",
            "Credentials that were verified because they were not known already, by kind and result.",
            ("kind", "result"),
            registry=registry,
        )
        self.known_callers = Gauge(
            "mesh_gateway_known_credentials",
            "Verified credentials that are kept until they end or the files change.",
            registry=registry,
        )
        self.key_set_reloads = Counter(
            "mesh_gateway_issuer_keys_reloads_total",
            "Readings of an issuer's public keys (JWKS), by result.",
            ("issuer", "result"),
            registry=registry,
        )
        self.key_set_is_good = Gauge(
            "mesh_gateway_issuer_keys_last_reload_successful",
            "1 if the last reading of an issuer's public keys succeeded, 0 if the ones before still apply.",
            ("issuer",),
            registry=registry,
        )
        self.key_set_size = Gauge(
            "mesh_gateway_issuer_keys", "Public keys of an issuer.", ("issuer",), registry=registry
        )

    def note_key_set(self, issuer: str, *, size: int, is_good: bool) -> None:
        """Count one reading of an issuer's keys. size: keys that apply after it."""
        self.key_set_reloads.labels(issuer, "success" if is_good else "failure").inc()
        self.key_set_is_good.labels(issuer).set(is_good)
        self.key_set_size.labels(issuer).set(size)

    def forget_issuer(self, issuer: str) -> None:
        """Drop the series of an issuer that is believed no more."""
        for metric in (self.key_set_is_good, self.key_set_size):
            with contextlib.suppress(KeyError):
                metric.remove(issuer)
        for result in ("success", "failure"):
            with contextlib.suppress(KeyError):
                self.key_set_reloads.remove(issuer, result)
