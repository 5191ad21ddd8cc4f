"""Which tenants there are: by name, and by the names in a client's certificate.

Owns the look-up. The file that the tenants stand in is `gateway.identity.tenants`'s.
"""

from __future__ import annotations

from collections.abc import Iterable

from inference_mesh.config.tenants_file import Tenant


class TenantBook:
    """The tenants of a file. Nobody else is a tenant."""

    def __init__(self, tenants: Iterable[Tenant] = ()) -> None:
        self._by_name = {tenant.name: tenant for tenant in tenants}
        self._by_certificate = {
            name: tenant for tenant in self._by_name.values() for name in tenant.certificates
        }

    def __len__(self) -> int:
        return len(self._by_name)

    @property
    def knows_certificates(self) -> bool:
        """True if some certificate is a tenant."""
        return bool(self._by_certificate)

    def named(self, name: str) -> Tenant | None:
        """The tenant of a name."""
        return self._by_name.get(name)

    def certified(self, names: Iterable[str]) -> Tenant | None:
        """The tenant of a verified certificate's names; None if there is none, or more than one."""
        found = {
            tenant.name: tenant
            for tenant in (self._by_certificate.get(name) for name in names)
            if tenant is not None
        }
        return next(iter(found.values())) if len(found) == 1 else None


class OpenTenantBook(TenantBook):
    """Where there is no file: every name is a tenant without limits of its own."""

    def named(self, name: str) -> Tenant | None:
        """The tenant of a name; never None.

        Not validated: the names of a key file are freer than those of a tenants file.
        """
        return Tenant.model_construct(name=name)
