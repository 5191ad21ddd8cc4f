"""Which models a tenant may use, and so sees. Pure."""

from __future__ import annotations

import functools
import re

from inference_mesh.config.models_file import ModelEntry
from inference_mesh.config.tenants_file import Tenant

EVERY_MODEL = ("*",)
MAX_KEPT_ANSWERS = 65_536


def may_use(tenant: Tenant, entry: ModelEntry) -> bool:
    """Whether the tenant's list has the model, and the model's list, if it has one, the tenant."""
    if entry.tenants is not None and tenant.name not in entry.tenants:
        return False
    return tenant.models == EVERY_MODEL or _has(tenant.models, entry.name)


@functools.lru_cache(maxsize=MAX_KEPT_ANSWERS)
def _has(patterns: tuple[str, ...], name: str) -> bool:
    """Whether one of the patterns, in which '*' stands for any characters, is the name."""
    return any(re.fullmatch(".*".join(map(re.escape, one.split("*"))), name) for one in patterns)
