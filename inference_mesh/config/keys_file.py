"""keys.yaml, the API keys: who may call, stored as hashes only.

A key reads `mesh_<id>_<secret>`: 8 characters of id, by which it is found and logged, and 32
random bytes. The secret has full entropy, so one SHA-256 is enough to store it.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import secrets
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from inference_mesh.config.errors import ConfigError, Problem
from inference_mesh.config.limits import LimitsSpec
from inference_mesh.config.tenants_file import Scope
from inference_mesh.config.yaml_document import YamlDocument

_KEY = re.compile(r"mesh_(?P<id>[a-z0-9]{8})_(?P<secret>[A-Za-z0-9_-]{43})")
_ID_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789"


class ApiKey(BaseModel):
    """One key as it is stored."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    id: Annotated[str, Field(pattern=r"^[a-z0-9]{8}$")] = Field(description="Public part; safe to log.")
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = Field(
        description="SHA-256 of the whole key, hex."
    )
    tenant: str = Field("default", min_length=1, max_length=64, description="Whom the key belongs to.")
    scopes: tuple[Scope, ...] = Field(("infer",), description="What it may do: infer, admin.")
    expires: datetime.datetime | None = Field(
        None, description="When it ends, with a time zone; absent = never."
    )
    requests_per_second: float | None = Field(
        None, gt=0, le=1e6, description="Sustained rate; absent = no limit."
    )
    burst: int = Field(10, ge=1, le=1_000_000, description="Requests that may come at once.")
    limits: LimitsSpec | None = Field(
        None,
        description="Limits of the key; instead of requests_per_second and burst, which are short for it.",
    )

    @field_validator("expires")
    @classmethod
    def _expires_has_zone(cls, value: datetime.datetime | None) -> datetime.datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("needs a time zone, e.g. 2027-01-01T00:00:00Z")
        return value

    @model_validator(mode="after")
    def _one_way_of_limits(self) -> ApiKey:
        if self.limits is not None and self.requests_per_second is not None:
            raise ValueError("limits and requests_per_second exclude each other")
        return self

    @property
    def all_limits(self) -> LimitsSpec:
        """Its limits, however they are written."""
        if self.limits is not None:
            return self.limits
        if self.requests_per_second is None:
            return LimitsSpec()
        return LimitsSpec(requests_per_second=self.requests_per_second, burst=self.burst)


class KeysFile(BaseModel):
    """All keys, unread. A value is in no error: it may be a key that was pasted where its hash belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    keys: tuple[Any, ...] = ()


def parse_keys(text: str, *, source: str = "keys.yaml") -> tuple[ApiKey, ...]:
    """The keys of a file's text. Raises ConfigError with every problem, or if an id stands twice."""
    document = YamlDocument(text, source)
    if document.value is None:
        return ()
    entries = document.validated(KeysFile, document.value).keys
    keys = document.validated_each(ApiKey, entries, ("keys",))
    seen: set[str] = set()
    problems: list[Problem] = []
    for index, key in enumerate(keys):
        if key.id in seen:
            problems.append(document.problem(("keys", index, "id"), f"'{key.id}' stands twice"))
        seen.add(key.id)
    if problems:
        raise ConfigError(source, tuple(problems))
    return keys


def new_key(*, tenant: str = "default", scopes: tuple[Scope, ...] = ("infer",)) -> tuple[str, ApiKey]:
    """A fresh key: its plain text, to be shown once, and what is stored of it."""
    key_id = "".join(secrets.choice(_ID_ALPHABET) for _ in range(8))
    plain = f"mesh_{key_id}_{secrets.token_urlsafe(32)}"
    return plain, ApiKey(id=key_id, sha256=hash_of(plain), tenant=tenant, scopes=scopes)


def hash_of(plain: str) -> str:
    """SHA-256 of a key's plain text, hex."""
    return hashlib.sha256(plain.encode()).hexdigest()


def id_of(plain: str) -> str | None:
    """The id inside a key's plain text; None if it does not have the form of a key."""
    match = _KEY.fullmatch(plain)
    return match["id"] if match else None
